// Gate of the MLP: out[r] = silu(gate_up[r, :inner]) ⊙ gate_up[r, inner:],
// with silu(g) = g / (1 + exp(-g)). silu's value is rounded to bfloat16, and the product once more,
// as the reference does.
//
//   gate_up [rows, 2 * inner], out [rows, inner]
//   grid   (rows, ceil(inner / (kRowThreads * kVector))) blocks of kRowThreads threads, eight
//          outputs a thread
//
// Bound by bandwidth.
#include "device.cuh"

extern "C" __global__ void __launch_bounds__(kRowThreads)
    silu_mul_bf16(const __grid_constant__ SiluMulParams p) {
  let_next_start();
  wait_for_previous();
  const int64_t row = blockIdx.x;
  const int c = (blockIdx.y * kRowThreads + threadIdx.x) * kVector;
  const int count = p.inner - c;
  if (count <= 0) return;
  const bf16* gates = p.gate_up + row * 2 * p.inner + c;
  const bf16* ups = gates + p.inner;
  bf16* out = p.out + row * p.inner + c;

  float gate[kVector], up[kVector];
  unpack8(gate, load8(gates, count, aligned16(gates)));
  unpack8(up, load8(ups, count, aligned16(ups)));
#pragma unroll
  for (int i = 0; i < kVector; i++) gate[i] = round_bf16(gate[i] / (1.0f + expf(-gate[i]))) * up[i];
  store8(out, count, aligned16(out), pack8(gate));
}
