// Products of many rows: out[r, n] = w[n] · x[r] + bias[n]. See gemm_tile.cuh for how a tile is
// computed.
//
//   x [rows, cols] with rows x_stride apart, w [outputs, cols] in up to four parts,
//   out [rows, outputs] with rows out_stride apart; any sizes
//   grid    (ceil(rows / tile rows), ceil(outputs / tile outputs)): blocks that share rows of w are
//           neighbours in time
//   shared  kGemmLargeShared or kGemmSmallShared, asked for at launch
//
// gemm_large takes tiles of 128 x 128 by 8 warps, three stages: bound by the tensor cores where
// there are enough tiles. gemm_small takes tiles of 64 x 64 by 4 warps, four stages: for where
// large ones would leave the machine idle.
#include "gemm_tile.cuh"

using Large = Tile<kGemmLargeRows, kGemmLargeOutputs, 2, 4, 3>;
using Small = Tile<kGemmSmallRows, kGemmSmallOutputs, 2, 2, 4>;
static_assert(Large::kThreads == kGemmLargeThreads && Large::kSharedBytes == kGemmLargeShared);
static_assert(Small::kThreads == kGemmSmallThreads && Small::kSharedBytes == kGemmSmallShared);

template <class Tile, int kRows, int kOutputs>
__device__ static void gemm(const GemmParams& p) {
  extern __shared__ __align__(128) unsigned char shared[];
  let_next_start();
  wait_for_previous();
  Product product;
  product.x = p.x;
  product.index = nullptr;
  product.out = p.out;
  product.x_stride = p.x_stride;
  product.out_stride = p.out_stride;
  product.first = blockIdx.x * kRows;
  product.end = min(p.rows, product.first + kRows);
  product.first_output = blockIdx.y * kOutputs;
  product.outputs = p.outputs;
  product.cols = p.cols;
  product.store = p.store;
  Tile::run(product, p.w, shared_address(shared));
}

extern "C" __global__ void __launch_bounds__(kGemmLargeThreads, 2)
    gemm_large_bf16(const __grid_constant__ GemmParams p) {
  gemm<Large, kGemmLargeRows, kGemmLargeOutputs>(p);
}

extern "C" __global__ void __launch_bounds__(kGemmSmallThreads, 3)
    gemm_small_bf16(const __grid_constant__ GemmParams p) {
  gemm<Small, kGemmSmallRows, kGemmSmallOutputs>(p);
}
