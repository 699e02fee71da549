// Root-mean-square norm: out[i] = x[index[i]] / sqrt(mean(x²) + eps) ⊙ weight. The mean is float32;
// the quotient is rounded to bfloat16, and its product with the weight once more, as the reference
// does. https://arxiv.org/abs/1910.07467
//
//   x [any, cols], index [rows] or null, weight [cols], out [rows, cols]
//   grid   rows blocks of kRowThreads threads: a block normalizes a row, eight elements a thread at
//          a time
//
// The row is read twice, the second time from the cache. Bound by latency at decode's sizes, by
// bandwidth at prefill's.
#include "device.cuh"

extern "C" __global__ void __launch_bounds__(kRowThreads)
    rmsnorm_bf16(const __grid_constant__ RMSNormParams p) {
  wait_for_previous();
  const int64_t row = blockIdx.x;
  const int64_t source = p.index == nullptr ? row : p.index[row];
  const bf16* x = p.x + source * p.cols;
  bf16* out = p.out + row * p.cols;
  const bool x_aligned = aligned16(x), weight_aligned = aligned16(p.weight),
             out_aligned = aligned16(out);

  float squares = 0;
  for (int c = threadIdx.x * kVector; c < p.cols; c += kRowThreads * kVector) {
    float v[kVector];
    unpack8(v, load8(x + c, p.cols - c, x_aligned));
#pragma unroll
    for (int i = 0; i < kVector; i++) squares += v[i] * v[i];
  }
  const float mean = block_sum<kRowThreads>(squares) / static_cast<float>(p.cols);
  const float scale = rsqrtf(mean + p.eps);

  for (int c = threadIdx.x * kVector; c < p.cols; c += kRowThreads * kVector) {
    const int count = p.cols - c;
    float v[kVector], weight[kVector];
    unpack8(v, load8(x + c, count, x_aligned));
    unpack8(weight, load8(p.weight + c, count, weight_aligned));
#pragma unroll
    for (int i = 0; i < kVector; i++) v[i] = round_bf16(v[i] * scale) * weight[i];
    store8(out + c, count, out_aligned, pack8(v));
  }
}
