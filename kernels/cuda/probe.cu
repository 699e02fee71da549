// What the machine can do at best: loops that read memory, and loops that multiply, and do nothing
// else. Shares in benchmarks are told of them.
//
//   probe_read      grid any; a block's threads read neighbouring runs of 16 bytes, eight loads of a
//                   thread under way at a time
//   probe_mma_bf16  grid any; a step of a warp is 65,536 operations: on Hopper a quarter of a wgmma
//                   of 64 x 128 x 16 by four warps, both inputs in shared memory, elsewhere sixteen
//                   mma of 16 x 8 x 16. Numbers are made up, because zeros take less power and run
//                   at a higher clock.
#include "device.cuh"

extern "C" __global__ void __launch_bounds__(kProbeThreads)
    probe_read(const __grid_constant__ ProbeParams p) {
  wait_for_previous();
  constexpr int kLoads = 8;
  const int64_t stride = int64_t(gridDim.x) * kProbeThreads;
  int64_t at = int64_t(blockIdx.x) * kProbeThreads + threadIdx.x;
  uint32_t sum = 0;
  const uint4* data = reinterpret_cast<const uint4*>(p.data);
  for (; at + (kLoads - 1) * stride < p.count; at += kLoads * stride) {
    uint4 v[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; i++) v[i] = __ldcs(data + at + i * stride);
#pragma unroll
    for (int i = 0; i < kLoads; i++) sum += v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
  }
  for (; at < p.count; at += stride) sum += data[at].x;
  if (sum == 0x9e3779b9u) *p.sink = sum;  // so that the loads are not left out
}

// made_up is a pair of bfloat16 between 0.5 and 1 in size, of any sign.
__device__ inline uint32_t made_up(uint32_t seed) {
  seed *= 2654435761u;
  seed ^= seed >> 15;
  return (seed & 0x807f807fu) | 0x3f003f00u;
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
// The shared memory of a block: A of 64 x 16 and B of 128 x 16, in core matrices of 8 rows of 16
// bytes, without a swizzle.
constexpr int kProbeA = 64 * 16, kProbeB = 128 * 16;

__device__ inline uint64_t tile_descriptor(const void* tile) {
  const uint64_t at = __cvta_generic_to_shared(tile);
  constexpr uint64_t leading = 128 >> 4, stride = 256 >> 4;  // bytes between core matrices, along k and along rows
  return (at >> 4 & 0x3fff) | leading << 16 | stride << 32;
}

#define ACC4(i) "+f"(sum[i]), "+f"(sum[i + 1]), "+f"(sum[i + 2]), "+f"(sum[i + 3])
#define ACC16(i) ACC4(i), ACC4(i + 4), ACC4(i + 8), ACC4(i + 12)

extern "C" __global__ void __launch_bounds__(kProbeThreads)
    probe_mma_bf16(const __grid_constant__ ProbeParams p) {
  wait_for_previous();
  __shared__ alignas(128) uint32_t tiles[(kProbeA + kProbeB) / 2];
  for (int i = threadIdx.x; i < (kProbeA + kProbeB) / 2; i += kProbeThreads) tiles[i] = made_up(i);
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  const uint64_t a = tile_descriptor(tiles), b = tile_descriptor(tiles + kProbeA / 2);
  float sum[64] = {};
  for (int step = 0; step < p.steps; step += 8) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int i = 0; i < 8; i++) {
      asm volatile(
          "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
          "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
          "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
          "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
          "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
          "%64, %65, 1, 1, 1, 0, 0;"
          : ACC16(0), ACC16(16), ACC16(32), ACC16(48)
          : "l"(a), "l"(b));
    }
    asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
  }
  float all = 0;
#pragma unroll
  for (int i = 0; i < 64; i++) all += sum[i];
  if (all == 1.5f) *p.sink = 1;
}
#else
extern "C" __global__ void __launch_bounds__(kProbeThreads)
    probe_mma_bf16(const __grid_constant__ ProbeParams p) {
  wait_for_previous();
  constexpr int kChains = 16;
  uint32_t a[4], b[2];
#pragma unroll
  for (int i = 0; i < 4; i++) a[i] = made_up(threadIdx.x * 4 + i);
#pragma unroll
  for (int i = 0; i < 2; i++) b[i] = made_up(threadIdx.x * 2 + i + 1024);
  float sum[kChains][4] = {};
  for (int step = 0; step < p.steps; step++) {
#pragma unroll
    for (int i = 0; i < kChains; i++) multiply_add(sum[i], a[0], a[1], a[2], a[3], b[0], b[1]);
  }
  float all = 0;
#pragma unroll
  for (int i = 0; i < kChains; i++) all += sum[i][0] + sum[i][1] + sum[i][2] + sum[i][3];
  if (all == 1.5f) *p.sink = 1;
}
#endif
