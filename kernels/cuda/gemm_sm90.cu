// Products of many rows on Hopper: out[r, n] = w[n] · x[r] + bias[n], or silu of one product times
// another. See gemm_wide.cuh for how a block works; compute capability 9.0 alone has what it needs,
// and gemm.cu has kernels for the rest.
//
//   x [rows, cols], w [outputs, cols] in up to four parts, or gate and up; out [rows, out_stride]
//   grid     whole clusters: as many as there are tiles for, or as have room at once
//   shared   Wide::kSharedBytes, asked for at launch
//
// The name says how many outputs a tile has (rows are always 128), and the cluster: w blocks that
// share rows of w, x that share rows of x, k that divide the columns. Bound by the tensor cores with
// thousands of rows, below by how fast tiles reach the multiprocessors.
#include "gemm_wide.cuh"

// Where a block leaves half of a multiprocessor free, the next kernel's blocks start beside it and
// fetch their weights.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define QUIRE_WIDE(outputs, a, b, c, stages, blocks)                                              \
  extern "C" __global__ void __launch_bounds__((Wide<outputs, a, b, c, stages>::kThreads), blocks) \
      sm90_gemm_##outputs##_w##a##x##b##k##c(const __grid_constant__ WideGemmParams p) {          \
    extern __shared__ __align__(1024) unsigned char shared[];                                     \
    Wide<outputs, a, b, c, stages>::run(p, shared_address(shared));                               \
  }
#else  // images for other architectures have the names, and nobody launches them
#define QUIRE_WIDE(outputs, a, b, c, stages, blocks)          \
  extern "C" __global__ void sm90_gemm_##outputs##_w##a##x##b##k##c( \
      const __grid_constant__ WideGemmParams) {}
#endif

QUIRE_WIDE(128, 1, 1, 1, 6, 1)
QUIRE_WIDE(64, 1, 1, 4, 4, 2)
QUIRE_WIDE(64, 1, 1, 2, 4, 2)
QUIRE_WIDE(128, 2, 1, 4, 6, 1)
QUIRE_WIDE(192, 1, 1, 1, 5, 1)
QUIRE_WIDE(192, 1, 1, 4, 5, 1)
QUIRE_WIDE(192, 1, 1, 2, 5, 1)
QUIRE_WIDE(128, 2, 1, 1, 3, 2)
QUIRE_WIDE(256, 2, 1, 1, 4, 1)
