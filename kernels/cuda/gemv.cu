// Products of few rows: out[r, n] = w[n] · x[r] + bias[n] for up to kGemvRows rows. Bound by the
// bandwidth at which w is read.
//
//   x [rows, cols] with rows x_stride apart, w [outputs, cols] in up to four parts,
//   out [rows, outputs] with rows out_stride apart; cols and outputs of any size
//   grid   ceil(outputs / 8), / 16 or / 32 blocks of kGemvThreads threads: gemv8, gemv16, gemv32
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

// operand is eight elements at p, zeros behind the first count. With kAligned p is aligned to 16
// bytes and count a multiple of 8; with kOnce the memory is read once.
template <bool kAligned, bool kOnce>
__device__ static inline uint4 operand(const bf16* p, int count) {
  if (!kAligned) return gather8(p, count);
  uint4 v = make_uint4(0, 0, 0, 0);
  if (count <= 0) return v;
  if (!kOnce) return *reinterpret_cast<const uint4*>(p);
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "l"(p));
  return v;
}

// Operands is what a lane has of x and w for a step of its warp.
template <int kTiles>
struct Operands {
  uint4 lower, upper;  // row g of x, and row g+8
  uint4 w[kTiles];
};

// multiply adds a warp's share of the columns to sums: products of all rows with 8 * kTiles
// outputs. kAhead steps are under way from memory at any time.
template <int kTiles, int kAhead, bool kAligned>
__device__ static void multiply(float (&sums)[kTiles][4], const GemmParams& p, int first_output) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int g = lane / 4, run = lane % 4 * kVector;
  const bf16* lower = p.x + g * p.x_stride + run;  // not read where there is no such row
  const bf16* upper = lower + 8 * p.x_stride;
  const bf16* w[kTiles];
#pragma unroll
  for (int j = 0; j < kTiles; j++) {
    const int n = min(first_output + j * 8 + g, p.outputs - 1);  // again the last: it is not stored
    w[j] = row_of(p.w, n, p.cols) + run;
  }

  constexpr int kStride = kGemvWarps * kGemvStep;
  Operands<kTiles> ring[kAhead];
  auto load = [&](Operands<kTiles>& to, int column) {
    const int count = p.cols - column - run;
#pragma unroll
    for (int j = 0; j < kTiles; j++) to.w[j] = operand<kAligned, true>(w[j] + column, count);
    to.lower = operand<kAligned, false>(lower + column, g < p.rows ? count : 0);
    to.upper = operand<kAligned, false>(upper + column, g + 8 < p.rows ? count : 0);
  };
  int column = warp * kGemvStep;
#pragma unroll
  for (int i = 0; i < kAhead; i++) load(ring[i], column + i * kStride);
  for (; column < p.cols; column += kAhead * kStride) {
#pragma unroll
    for (int i = 0; i < kAhead; i++) {  // steps past the end are zeros
      const Operands<kTiles>& o = ring[i];
#pragma unroll
      for (int j = 0; j < kTiles; j++) {
        multiply_add(sums[j], o.lower.x, o.upper.x, o.lower.y, o.upper.y, o.w[j].x, o.w[j].y);
        multiply_add(sums[j], o.lower.z, o.upper.z, o.lower.w, o.upper.w, o.w[j].z, o.w[j].w);
      }
      load(ring[i], column + (kAhead + i) * kStride);
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
