// What the kernels have in common: bfloat16 in runs of eight, sums over a warp and a block,
// asynchronous copies and the tensor-core instruction. Lanes of an mma are spoken of as (g, t): g =
// lane / 4, t = lane % 4.
#pragma once
#include "layout_gen.h"

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// wait_for_previous returns when the kernel before this one in the stream is done and its writes
// are visible. It matters for launches that may start early (programmatic dependent launch) and
// costs nothing in others. Every kernel calls it before it touches memory other than weights, so
// that whoever waits for a kernel has waited for all before it.
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// let_next_start lets the kernel after this one in the stream start as soon as all blocks of this
// one have, where there is room: what it does before it waits runs beside this one.
__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ inline bool aligned16(const void* p) {
  return (reinterpret_cast<uintptr_t>(p) & 15) == 0;
}

__device__ inline float round_bf16(float x) { return __bfloat162float(__float2bfloat16_rn(x)); }

// pack_bf16 rounds two numbers into a word; the first is the lower half.
__device__ inline uint32_t pack_bf16(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

__device__ inline float lower_bf16(uint32_t word) { return __uint_as_float(word << 16); }
__device__ inline float upper_bf16(uint32_t word) { return __uint_as_float(word & 0xffff0000u); }

// gather8 is the first count elements at p, zeros after them; p has the alignment of an element.
// With count <= 0 nothing is read.
__device__ inline uint4 gather8(const bf16* p, int count) {
  const unsigned short* from = reinterpret_cast<const unsigned short*>(p);
  uint32_t half[8];
#pragma unroll
  for (int i = 0; i < 8; i++) half[i] = i < count ? from[i] : 0;
  return make_uint4(half[0] | half[1] << 16, half[2] | half[3] << 16, half[4] | half[5] << 16,
                    half[6] | half[7] << 16);
}

// load8 is gather8, in one access where p is aligned to 16 bytes and all eight are wanted.
__device__ inline uint4 load8(const bf16* p, int count, bool aligned) {
  if (aligned && count >= 8) return *reinterpret_cast<const uint4*>(p);
  return gather8(p, count);
}

// store8 writes the first count of eight elements.
__device__ inline void store8(bf16* p, int count, bool aligned, uint4 v) {
  if (aligned && count >= 8) {
    *reinterpret_cast<uint4*>(p) = v;
    return;
  }
  unsigned short* to = reinterpret_cast<unsigned short*>(p);
  const uint32_t word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 8; i++) {
    if (i < count) to[i] = static_cast<unsigned short>(word[i / 2] >> (i % 2 * 16));
  }
}

__device__ inline void unpack8(float (&out)[8], uint4 v) {
  const uint32_t word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    out[2 * i] = lower_bf16(word[i]);
    out[2 * i + 1] = upper_bf16(word[i]);
  }
}

__device__ inline uint4 pack8(const float (&x)[8]) {
  return make_uint4(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]),
                    pack_bf16(x[6], x[7]));
}

// squares_of is the sum of eight elements' squares.
__device__ inline float squares_of(uint4 v) {
  float x[8], sum = 0;
  unpack8(x, v);
#pragma unroll
  for (int i = 0; i < 8; i++) sum += x[i] * x[i];
  return sum;
}

// normed8 is eight elements times scale, rounded, times their weights, rounded.
__device__ inline uint4 normed8(uint4 v, uint4 weights, float scale) {
  float x[8], weight[8];
  unpack8(x, v);
  unpack8(weight, weights);
#pragma unroll
  for (int i = 0; i < 8; i++) x[i] = round_bf16(x[i] * scale) * weight[i];
  return pack8(x);
}

// warp_sum gives all lanes the sum over the lanes, in an order of its own.
__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kAllLanes, x, lanes);
  return x;
}

__device__ inline int warp_sum(int x) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kAllLanes, x, lanes);
  return x;
}

__device__ inline float warp_max(float x) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2)
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, lanes));
  return x;
}

// block_sum gives all threads of a block of kThreads the sum over them. Called once in a kernel.
template <int kThreads>
__device__ inline float block_sum(float x) {
  static_assert(kThreads % kWarp == 0 && kThreads / kWarp <= kWarp);
  __shared__ float sums[kThreads / kWarp];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  x = warp_sum(x);
  if (lane == 0) sums[warp] = x;
  __syncthreads();
  return warp_sum(lane < kThreads / kWarp ? sums[lane] : 0.0f);
}

// part_of is the part of w that holds row n.
__device__ inline int part_of(const WeightParts& w, int n) {
  static_assert(kMaxParts == 4);
  return (n >= w.ends[0]) + (n >= w.ends[1]) + (n >= w.ends[2]);
}

// row_of is row n of w, of so many columns, which lies in it.
__device__ inline const bf16* row_of(const WeightParts& w, int n, int cols) {
  const int part = part_of(w, n);
  const int first = part == 0 ? 0 : w.ends[part - 1];
  return w.data[part] + static_cast<int64_t>(n - first) * cols;
}

// bias_of is the bias of row n of w, or 0.
__device__ inline float bias_of(const WeightParts& w, int n) {
  const int part = part_of(w, n);
  const int first = part == 0 ? 0 : w.ends[part - 1];
  return w.bias[part] == nullptr ? 0.0f : __bfloat162float(w.bias[part][n - first]);
}

// rows_aligned says if every row of w begins at a multiple of 16 bytes.
__device__ inline bool rows_aligned(const WeightParts& w, int cols) {
  static_assert(kMaxParts == 4);
  return cols % kVector == 0 && aligned16(w.data[0]) && aligned16(w.data[1]) &&
         aligned16(w.data[2]) && aligned16(w.data[3]);
}

// copy_async copies 16 bytes to shared memory, or zeros where wanted is false; nothing is read
// then.
__device__ inline void copy_async(uint32_t to, const void* from, bool wanted) {
  const int bytes = wanted ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}

// commit_copies makes a group of this thread's copies since the last one.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// wait_copies returns when at most kGroups of this thread's groups are under way.
template <int kGroups>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

__device__ inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

__device__ inline void store_shared(uint32_t to, uint4 v) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z),
               "r"(v.w)
               : "memory");
}

__device__ inline uint4 load_shared(uint32_t from) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(from)
               : "memory");
  return v;
}

__device__ inline float load_shared_float(uint32_t from) {
  float x;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(x) : "r"(from) : "memory");
  return x;
}

// load_matrices reads four 8x8 matrices of bfloat16: lanes 8i to 8i+7 give the addresses of matrix
// i's rows, and lane (g, t) gets elements 2t and 2t+1 of row g of matrix i in m[i].
__device__ inline void load_matrices(uint32_t (&m)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(address)
               : "memory");
}

// multiply_add is c += a · b with a [16, 16], b [16, 8] and c [16, 8]. Lane (g, t) has
//   a: rows g, g+8, g, g+8 at columns 2t, 2t, 2t+8, 2t+8, and the column after each
//   b: rows 2t, 2t+8, and the row after each, at column g
//   c: rows g, g, g+8, g+8 at columns 2t, 2t+1, 2t, 2t+1
__device__ inline void multiply_add(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2,
                                    uint32_t a3, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
