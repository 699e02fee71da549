// Root-mean-square norm: out[i] = x[index[i]] / sqrt(mean(x²) + eps) ⊙ weight. The mean is float32;
// the quotient is rounded to bfloat16, and its product with the weight once more, as the reference
// does. https://arxiv.org/abs/1910.07467
//
//   x [any, cols], index [rows] or null, weight [cols], out [rows, cols]
//   grid   ceil(rows / kNormRows) blocks of kRowThreads threads: a warp normalizes a row, eight
//          elements a lane at a time
//
// The row is read twice, the second time from the cache. Bound by latency at decode's sizes, by
// bandwidth at prefill's. Products of few rows normalize for themselves, in the same order of sums:
// see gemv.cuh.
#include "device.cuh"

static_assert(kNormRows == kRowThreads / kWarp, "a warp a row");

extern "C" __global__ void __launch_bounds__(kRowThreads)
    rmsnorm_bf16(const __grid_constant__ RMSNormParams p) {
  let_next_start();
  wait_for_previous();
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kNormRows + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (row >= p.rows) return;  // with all its warp
  const int64_t source = p.index == nullptr ? row : p.index[row];
  const bf16* x = p.x + source * p.cols;
  bf16* out = p.out + row * p.cols;
  const bool x_aligned = aligned16(x), weight_aligned = aligned16(p.weight),
             out_aligned = aligned16(out);

  float squares = 0;
#pragma unroll 4
  for (int c = lane * kVector; c < p.cols; c += kWarp * kVector)
    squares += squares_of(load8(x + c, p.cols - c, x_aligned));
  const float mean = warp_sum(squares) / static_cast<float>(p.cols);
  const float scale = rsqrtf(mean + p.eps);

#pragma unroll 4
  for (int c = lane * kVector; c < p.cols; c += kWarp * kVector) {
    const int count = p.cols - c;
    const uint4 v = load8(x + c, count, x_aligned);
    const uint4 weight = load8(p.weight + c, count, weight_aligned);
    store8(out + c, count, out_aligned, normed8(v, weight, scale));
  }
}
