// Products of few rows: out[r, n] = w[n] · x[r] + bias[n] for up to kGemvRows rows, and what
// belongs before and after them: RMSNorm of x, silu of the gate times up, adding to the residual.
// Bound by the bandwidth at which w is read.
//
//   x [any, x_stride], w [outputs, cols] in up to four parts, out [rows, out_stride]; any sizes
//   grid    at most as many blocks of kGemvThreads threads as run at once: a block goes from group
//           to group of 8, 16 or 32 rows of w
//   shared  Gemv::shared_bytes, asked for at launch
//
// gemv_RxO takes up to R rows of x and groups of O rows of w; with _kC a cluster of C blocks goes
// over a group's columns together, for matrices with few rows; with _normed x is normalized by
// every block for itself.
//
// The eight warps of a block divide the columns, 32 at a time in turn. Lane (g, t) copies 16 bytes
// at column 8t of row g of w to a place of its own in shared memory and takes them from there: so
// kGemvSlots pieces of every thread are under way (64 kB a block), nobody waits for anybody, and no
// bank is met twice. The first are asked for before the kernel ahead is done (weights do not depend
// on it): most matrices of a layer of a small model lie in shared memory whole by then. The pieces
// are operands of the tensor cores as they come. Which column the instruction takes for which does
// not matter as long as x and w agree: in two products of 16 columns each, lane t has columns 8t to
// 8t+3 in the first and 8t+4 to 8t+7 in the second.
//
// A step of Qwen3-0.6B reads 1,192 MB: 0.26 ms at the 4.65 TB/s that an H200 was measured to read.
// As yet the head reads at 80 % of that and a layer's products for one row at 30 to 50 %: they are
// bound by the 3 to 5 us between the end of one and the first sums of the next. Above 16 rows two
// warps to a scheduler do not hide the way from shared memory to the sums. For more than 16 rows
// normalizing in every block costs more than a kernel of its own.
//
// Sums are added over the columns of a warp, then over warps, then over ranks, in order. A row's
// bits depend on w's shape and what is done with the sums, not on the number of rows or a norm. No
// atomics.
#include "gemv.cuh"

#if __CUDA_ARCH__ >= 900
#define QUIRE_CLUSTER __cluster_dims__(kGemvRanks, 1, 1)
#else
#define QUIRE_CLUSTER  // not launched: see Geometry
#endif

template <class Kernel>
__device__ static void gemv(const GemvParams& p) {
  extern __shared__ __align__(128) unsigned char shared[];
  Kernel(p, shared).run();
}

extern "C" __global__ void __launch_bounds__(kGemvThreads, 2)
    gemv_8x8_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<8, 1, 1, false>>(p);
}

extern "C" __global__ void __launch_bounds__(kGemvThreads, 2)
    gemv_8x16_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<8, 2, 1, false>>(p);
}

extern "C" __global__ void __launch_bounds__(kGemvThreads, 2)
    gemv_8x32_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<8, 4, 1, false>>(p);
}

extern "C" __global__ void QUIRE_CLUSTER __launch_bounds__(kGemvThreads, 2)
    gemv_8x32_k4_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<8, 4, 4, false>>(p);
}

extern "C" __global__ void __launch_bounds__(kGemvThreads, 2)
    gemv_8x16_normed_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<8, 2, 1, true>>(p);
}

extern "C" __global__ void __launch_bounds__(kGemvThreads, 2)
    gemv_8x32_normed_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<8, 4, 1, true>>(p);
}

extern "C" __global__ void __launch_bounds__(kGemvThreads, 2)
    gemv_16x8_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<16, 1, 1, false>>(p);
}

extern "C" __global__ void __launch_bounds__(kGemvThreads, 2)
    gemv_16x16_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<16, 2, 1, false>>(p);
}

extern "C" __global__ void __launch_bounds__(kGemvThreads, 2)
    gemv_16x32_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<16, 4, 1, false>>(p);
}

extern "C" __global__ void QUIRE_CLUSTER __launch_bounds__(kGemvThreads, 2)
    gemv_16x32_k4_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<16, 4, 4, false>>(p);
}

extern "C" __global__ void __launch_bounds__(kGemvThreads, 2)
    gemv_16x16_normed_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<16, 2, 1, true>>(p);
}

extern "C" __global__ void __launch_bounds__(kGemvThreads, 2)
    gemv_16x32_normed_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<16, 4, 1, true>>(p);
}

extern "C" __global__ void __launch_bounds__(kGemvThreads, 2)
    gemv_32x8_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<32, 1, 1, false>>(p);
}

extern "C" __global__ void __launch_bounds__(kGemvThreads, 2)
    gemv_32x16_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<32, 2, 1, false>>(p);
}

extern "C" __global__ void __launch_bounds__(kGemvThreads, 2)
    gemv_32x32_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<32, 4, 1, false>>(p);
}

extern "C" __global__ void QUIRE_CLUSTER __launch_bounds__(kGemvThreads, 2)
    gemv_32x32_k4_bf16(const __grid_constant__ GemvParams p) {
  gemv<Gemv<32, 4, 4, false>>(p);
}
