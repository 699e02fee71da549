// What the attention kernels have in common: the walk over segments, queries, element types of the
// cache, results. attend.cu says how they work together.
#pragma once
#include <cuda_fp8.h>

#include "attend_params.h"
#include "device.cuh"

constexpr int kWarps = kAttendThreads / kWarp;
constexpr int kNever = 0x7fffffff;            // a position that no row has reached
constexpr float kBits = 1.4426950408889634f;  // log2 e

__device__ inline float no_score() { return __int_as_float(0xff800000); }

// power is 2^x; 0 for −Inf.
__device__ inline float power(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// base_of is what is taken off scores whose largest is top: 0 if there was none, so that none stays
// none.
__device__ inline float base_of(float top) { return top == no_score() ? 0.0f : top; }

// Walk is where in the segments a tile stands.
struct Walk {
  int segment;
  int skip;  // tokens of it that are done
  int left;  // tokens
};

// Batch is a run of keys that were all turned by delta.
struct Batch {
  int keys;
  int delta;
  int last;  // position of the last key, the largest
};

// take moves the walk on by up to most keys. visit(s, skip, first, count) is told where they are:
// keys [first, first + count) of the batch are the tokens from skip on of segment s. All threads
// get the same.
template <class Visit>
__device__ inline Batch take(const AttendParams& p, Walk& walk, int most, Visit visit) {
  Batch batch = {0, 0, 0};
  while (walk.left > 0 && batch.keys < most) {
    const AttendSegment s = p.segments[walk.segment];
    const int delta = s.pos - s.stored;
    const int count = min(min(s.len - walk.skip, walk.left), most - batch.keys);
    if (count > 0) {
      if (batch.keys > 0 && delta != batch.delta) break;
      visit(s, walk.skip, batch.keys, count);
      walk.skip += count;
      walk.left -= count;
      batch.keys += count;
      batch.delta = delta;
      batch.last = s.pos + walk.skip - 1;
    }
    if (walk.skip >= s.len) {
      walk.segment++;
      walk.skip = 0;
    }
  }
  return batch;
}

// offset_of is where in the cache a segment's token lies, from base on.
__device__ inline int64_t offset_of(const AttendParams& p, const AttendSegment& s, int token) {
  const int at = s.off + token;
  const int64_t block = p.blocks[s.block + at / p.kv.block_tokens];
  return block * p.kv.block_stride + at % p.kv.block_tokens * p.kv.token_stride;
}

// scale_of is where in the cache the scale of a segment's token lies, of the first head's key.
__device__ inline int64_t scale_of(const AttendParams& p, const AttendSegment& s, int token) {
  const int at = s.off + token;
  const int64_t block = p.blocks[s.block + at / p.kv.block_tokens];
  return block * p.kv.block_stride + p.kv.scale_offset + at % p.kv.block_tokens * 4;
}

// load_query sets x to elements d to d+7 of a query, turned back by delta positions; zeros behind
// the head's end. The factor that the rope table carries is divided out: it is the cosine of
// position 0.
__device__ inline void load_query(float (&x)[8], const AttendParams& p, int row, int head, int d,
                                  int delta) {
  const bf16* q = p.q + row * p.q_stride + head * p.head_dim;
  unpack8(x, load8(q + d, p.head_dim - d, aligned16(q + d)));
  if (delta == 0 || d >= p.head_dim) return;
  const int half = p.head_dim / 2;
  const float* turn = p.rope + static_cast<int64_t>(abs(delta)) * p.head_dim;
  const float factor = p.rope[0];
#pragma unroll
  for (int e = 0; e < 8; e++) {
    const int i = d + e;
    const bool lower = i < half;
    const int pair = lower ? i : i - half;
    const float cosine = turn[pair] / factor;
    const float sine = (delta < 0 ? turn[pair + half] : -turn[pair + half]) / factor;
    const float other = __bfloat162float(q[lower ? i + half : i - half]);
    x[e] = lower ? x[e] * cosine - other * sine : x[e] * cosine + other * sine;
  }
}

__device__ inline void copy_async4(uint32_t to, const void* from, bool wanted) {
  const int bytes = wanted ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}

// unpack_fp8 sets x to four float8 numbers.
__device__ inline void unpack_fp8(float* x, uint32_t word) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const auto pair = static_cast<__nv_fp8x2_storage_t>(word >> (16 * i));
    const float2 two = __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(pair, __NV_E4M3)));
    x[2 * i] = two.x;
    x[2 * i + 1] = two.y;
  }
}

// The element types of the cache. A thread copies eight elements of a head to shared memory in
// kPieces accesses of kPieceBytes, which lie a block's accesses apart, and reads them from there.
// kStages copies deep.

struct BF16KV {
  static constexpr int kType = kKVBF16, kPieces = 1, kPieceBytes = 16, kStages = 4;

  // from is where the head begins, d the first of the eight elements; scale is that of float8.
  __device__ static void copy(uint32_t to, const uint8_t* from, int d, const uint8_t*,
                              bool wanted) {
    copy_async(to, from + 2 * d, wanted);
  }
  // read returns the scale of the elements.
  __device__ static float read(float (&x)[8], const uint8_t* at) {
    unpack8(x, *reinterpret_cast<const uint4*>(at));
    return 1.0f;
  }
};

struct F32KV {
  static constexpr int kType = kKVF32, kPieces = 2, kPieceBytes = 16, kStages = 2;

  __device__ static void copy(uint32_t to, const uint8_t* from, int d, const uint8_t*,
                              bool wanted) {
    copy_async(to, from + 4 * d, wanted);
    copy_async(to + kPieceBytes * kAttendThreads, from + (wanted ? 4 * d + 16 : 0), wanted);
  }
  __device__ static float read(float (&x)[8], const uint8_t* at) {
    const float4 lower = *reinterpret_cast<const float4*>(at);
    const float4 upper = *reinterpret_cast<const float4*>(at + kPieceBytes * kAttendThreads);
    x[0] = lower.x, x[1] = lower.y, x[2] = lower.z, x[3] = lower.w;
    x[4] = upper.x, x[5] = upper.y, x[6] = upper.z, x[7] = upper.w;
    return 1.0f;
  }
};

struct FP8KV {
  static constexpr int kType = kKVFP8, kPieces = 3, kPieceBytes = 4, kStages = 4;

  __device__ static void copy(uint32_t to, const uint8_t* from, int d, const uint8_t* scale,
                              bool wanted) {
    copy_async4(to, from + d, wanted);
    copy_async4(to + kPieceBytes * kAttendThreads, from + (wanted ? d + 4 : 0), wanted);
    copy_async4(to + 2 * kPieceBytes * kAttendThreads, scale, wanted);
  }
  __device__ static float read(float (&x)[8], const uint8_t* at) {
    unpack_fp8(x, *reinterpret_cast<const uint32_t*>(at));
    unpack_fp8(x + 4, *reinterpret_cast<const uint32_t*>(at + kPieceBytes * kAttendThreads));
    return *reinterpret_cast<const float*>(at + 2 * kPieceBytes * kAttendThreads);
  }
};

// store_result writes elements d and d+1 of a query's result: sum of weights, weighted values.
__device__ inline void store_result(const AttendParams& p, const AttendTile& tile, int row,
                                    int head, int d, float top, float sum, float x, float y) {
  if (tile.part < 0) {
    const float scale = sum > 0 ? 1.0f / sum : 0.0f;
    bf16* out = p.out + (static_cast<int64_t>(row) * p.heads + head) * p.head_dim + d;
    *reinterpret_cast<uint32_t*>(out) = pack_bf16(x * scale, y * scale);
    return;
  }
  const int64_t part = static_cast<int64_t>(tile.part + row - tile.row) * p.heads + head;
  *reinterpret_cast<float2*>(p.part_values + part * p.head_dim + d) = make_float2(x, y);
  if (d == 0) *reinterpret_cast<float2*>(p.part_weights + 2 * part) = make_float2(top, sum);
}
