// Products of few rows: out[r, n] = w[n] · x[r] + bias[n] for up to kGemvRows rows. Bound by the
// bandwidth at which w is read.
//
//   x [rows, cols] with rows x_stride apart, w [outputs, cols] in up to four parts, out [rows,
//   outputs] with rows out_stride apart; cols and outputs of any size grid   ceil(outputs / 8), /
//   16 or / 32 blocks of kGemvThreads threads: gemv8, gemv16, gemv32
//
// A block computes 8, 16 or 32 outputs of all rows; its eight warps divide the columns, 32 at a
// time in turn, and their sums are added at the end, in the order of the warps. Nothing is kept in
// shared memory on the way: lane (g, t) reads 16 bytes at column 8t of row g of w, and of rows g
// and g+8 of x, and these are operands of the tensor cores as they come. Which column the
// instruction takes for which does not matter as long as x and w agree: in two products of 16
// columns each, lane t has columns 8t to 8t+3 in the first and 8t+4 to 8t+7 in the second. w is
// read once and kept out of the first-level cache, where x stays. gemv8 gives the most blocks,
// gemv32 reads x least often.
#include "gemm_tile.cuh"

constexpr int kGemvWarps = kGemvThreads / kWarp;
constexpr int kGemvStep = 32;  // columns that a warp takes at a time
static_assert(kGemvRows == 16, "the rows of an operand");

// stream8 is load8 for memory that is read once.
__device__ static inline uint4 stream8(const bf16* p, int count, bool aligned) {
  if (!aligned || count < 8) return gather8(p, count);
  uint4 v;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "l"(p));
  return v;
}

// multiply adds a warp's share of the columns to sums: products of all rows with 8 * kTiles
// outputs. kAhead steps are loaded before the first is used.
template <int kTiles, int kAhead, bool kAligned>
__device__ static void multiply(float (&sums)[kTiles][4], const GemmParams& p, int first_output) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int g = lane / 4, run = lane % 4 * kVector;
  const bf16* lower = g < p.rows ? p.x + g * p.x_stride + run : nullptr;
  const bf16* upper = g + 8 < p.rows ? p.x + (g + 8) * p.x_stride + run : nullptr;
  const bf16* w[kTiles];
#pragma unroll
  for (int j = 0; j < kTiles; j++) {
    const int n = first_output + j * 8 + g;
    w[j] = n < p.outputs ? row_of(p.w, n, p.cols) + run : nullptr;
  }

  constexpr int kStride = kGemvWarps * kGemvStep;
  for (int column = warp * kGemvStep; column < p.cols; column += kAhead * kStride) {
    uint4 a[kAhead][2], b[kAhead][kTiles];
#pragma unroll
    for (int i = 0; i < kAhead; i++) {
      const int c = column + i * kStride;
      const int count = p.cols - c - run;
#pragma unroll
      for (int j = 0; j < kTiles; j++)
        b[i][j] = stream8(w[j] + c, w[j] == nullptr ? 0 : count, kAligned);
      a[i][0] = load8(lower + c, lower == nullptr ? 0 : count, kAligned);
      a[i][1] = load8(upper + c, upper == nullptr ? 0 : count, kAligned);
    }
#pragma unroll
    for (int i = 0; i < kAhead; i++) {
#pragma unroll
      for (int j = 0; j < kTiles; j++) {
        multiply_add(sums[j], a[i][0].x, a[i][1].x, a[i][0].y, a[i][1].y, b[i][j].x, b[i][j].y);
        multiply_add(sums[j], a[i][0].z, a[i][1].z, a[i][0].w, a[i][1].w, b[i][j].z, b[i][j].w);
      }
    }
  }
}

// gemv computes kTiles * 8 outputs.
template <int kTiles, int kAhead>
__device__ static void gemv(const GemmParams& p) {
  constexpr int kOutputs = kTiles * 8;
  __shared__ float parts[kGemvWarps][kGemvRows][kOutputs];
  wait_for_previous();
  const int first_output = blockIdx.x * kOutputs;
  float sums[kTiles][4] = {};
  if (aligned16(p.x) && p.x_stride % kVector == 0 && rows_aligned(p.w, p.cols)) {
    multiply<kTiles, kAhead, true>(sums, p, first_output);
  } else {
    multiply<kTiles, 1, false>(sums, p, first_output);
  }

  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int j = 0; j < kTiles; j++) {
    float* lower = &parts[warp][g][j * 8 + 2 * t];
    float* upper = &parts[warp][g + 8][j * 8 + 2 * t];
    lower[0] = sums[j][0];
    lower[1] = sums[j][1];
    upper[0] = sums[j][2];
    upper[1] = sums[j][3];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < p.rows * kOutputs; i += kGemvThreads) {
    const int row = i / kOutputs, output = i % kOutputs;
    const int n = first_output + output;
    if (n >= p.outputs) continue;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kGemvWarps; w++) sum += parts[w][row][output];
    store_output(p.out, row * p.out_stride + n, p.store, sum + bias_of(p.w, n));
  }
}

extern "C" __global__ void __launch_bounds__(kGemvThreads)
    gemv8_bf16(const __grid_constant__ GemmParams p) {
  gemv<1, 4>(p);
}

extern "C" __global__ void __launch_bounds__(kGemvThreads)
    gemv16_bf16(const __grid_constant__ GemmParams p) {
  gemv<2, 4>(p);
}

extern "C" __global__ void __launch_bounds__(kGemvThreads)
    gemv32_bf16(const __grid_constant__ GemmParams p) {
  gemv<4, 2>(p);
}
