// Attention over paged segments: out[r] = softmax(scale · q·K) · V over the tokens of the row's
// segments at positions up to its own. See kernels.AttendParams. https://arxiv.org/abs/1805.02867
// https://arxiv.org/abs/2205.14135
//
//   q    [rows, q_stride] bfloat16
//   out  [rows, heads, head_dim] bfloat16
//   kv   bfloat16 or float32: base and strides are multiples of 16 bytes. Float8 (e4m3): of 4
//        bytes; a float32 scale lies behind each head's head_dim bytes
//
// Four steps, on one stream. Grids are fixed; what there is to do is read from device memory.
//
//   attend_plan     once for a step: cuts the work list into tiles of rows, and long walks of few
//                   rows into parts
//   attend_decode   tiles of few queries on CUDA cores, split over the tokens: bound by the memory
//                   that holds the cache
//   attend_prefill  tiles of up to 64 queries on tensor cores, one online softmax over the walk
//   attend_merge    adds up the parts of a row by their log-sum-exp, in a fixed order
//
// Where a row's walk is cut depends on its length and on the number of its span's rows in the step,
// and on nothing else: its result does not depend on the other rows of the batch, unless there is
// no room for more parts. Scores are kept in bits: e^x is 2^(x · log2 e).
//
// attend_simple computes the same from the work list itself, slowly and in float64: the tests
// compare the others with it.
#include <cuda_fp8.h>

#include "attend_params.h"
#include "device.cuh"

constexpr int kWarps = kAttendThreads / kWarp;
constexpr int kNever = 0x7fffffff;            // a position that no row has reached
constexpr float kBits = 1.4426950408889634f;  // log2 e

__device__ static float no_score() { return __int_as_float(0xff800000); }

// power is 2^x; 0 for −Inf.
__device__ static float power(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// base_of is what is taken off scores whose largest is top: 0 if there was none, so that none stays
// none.
__device__ static float base_of(float top) { return top == no_score() ? 0.0f : top; }

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
__device__ static Batch take(const AttendParams& p, Walk& walk, int most, Visit visit) {
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
__device__ static int64_t offset_of(const AttendParams& p, const AttendSegment& s, int token) {
  const int at = s.off + token;
  const int64_t block = p.blocks[s.block + at / p.kv.block_tokens];
  return block * p.kv.block_stride + at % p.kv.block_tokens * p.kv.token_stride;
}

// load_query sets x to elements d to d+7 of a query, turned back by delta positions; zeros behind
// the head's end. The factor that the rope table carries is divided out: it is the cosine of
// position 0.
__device__ static void load_query(float (&x)[8], const AttendParams& p, int row, int head, int d,
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

__device__ static void copy_async4(uint32_t to, const void* from, bool wanted) {
  const int bytes = wanted ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}

// unpack_fp8 sets x to four float8 numbers.
__device__ static void unpack_fp8(float* x, uint32_t word) {
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

  // from is where the head begins, d the first of the eight elements.
  __device__ static void copy(uint32_t to, const uint8_t* from, int d, int, bool wanted) {
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

  __device__ static void copy(uint32_t to, const uint8_t* from, int d, int, bool wanted) {
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

  __device__ static void copy(uint32_t to, const uint8_t* from, int d, int head_dim, bool wanted) {
    copy_async4(to, from + d, wanted);
    copy_async4(to + kPieceBytes * kAttendThreads, from + (wanted ? d + 4 : 0), wanted);
    copy_async4(to + 2 * kPieceBytes * kAttendThreads, from + (wanted ? head_dim : 0), wanted);
  }
  __device__ static float read(float (&x)[8], const uint8_t* at) {
    unpack_fp8(x, *reinterpret_cast<const uint32_t*>(at));
    unpack_fp8(x + 4, *reinterpret_cast<const uint32_t*>(at + kPieceBytes * kAttendThreads));
    return *reinterpret_cast<const float*>(at + 2 * kPieceBytes * kAttendThreads);
  }
};

// store_result writes elements d and d+1 of a query's result: sum of weights, weighted values.
__device__ static void store_result(const AttendParams& p, const AttendTile& tile, int row,
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

// merge_lanes adds what the lanes have that are so many apart.
template <int kQueries>
__device__ static void merge_lanes(float (&top)[kQueries], float (&sum)[kQueries],
                                   float (&acc)[kQueries][8], int apart) {
#pragma unroll
  for (int j = 0; j < kQueries; j++) {
    const float other = __shfl_xor_sync(kAllLanes, top[j], apart), most = fmaxf(top[j], other);
    const float mine = power(top[j] - base_of(most)), theirs = power(other - base_of(most));
    sum[j] = sum[j] * mine + __shfl_xor_sync(kAllLanes, sum[j], apart) * theirs;
#pragma unroll
    for (int e = 0; e < 8; e++)
      acc[j][e] = acc[j][e] * mine + __shfl_xor_sync(kAllLanes, acc[j][e], apart) * theirs;
    top[j] = most;
  }
}

// decode takes tiles of few queries: kQueries of them pass over the keys together, so that the
// query heads of a group share each access to the cache. kLanes lanes hold a head, eight elements
// each. The lanes that hold a token are the threads that copy it, so copies need no barrier.
template <class KV, int kLanes, int kQueries>
__device__ static void decode(const AttendParams& p) {
  constexpr int kTogether = kWarps * (kWarp / kLanes);  // tokens that a block takes at a time
  constexpr int kUnroll = 2;
  constexpr int kStep = kTogether * kUnroll;
  constexpr int kKeys = 256;  // of a batch
  constexpr int kCopyBytes = KV::kPieces * KV::kPieceBytes * kAttendThreads;
  constexpr int kRingBytes = KV::kStages * kUnroll * 2 * kCopyBytes;
  constexpr int kMergeBytes = kWarps * kQueries * kLanes * 8 * 4;
  __shared__ __align__(16) uint8_t room[kRingBytes > kMergeBytes ? kRingBytes : kMergeBytes];
  __shared__ int64_t offsets[kKeys];
  __shared__ int32_t places[kKeys];
  __shared__ float tops[kWarps][kQueries], sums[kWarps][kQueries];

  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int d = lane % kLanes * 8, mine = warp * (kWarp / kLanes) + lane / kLanes;
  const int group = p.heads / p.kv_heads, dim = p.head_dim;
  const uint32_t ring = shared_address(room) + threadIdx.x * KV::kPieceBytes;
  const uint8_t* const slots = room + threadIdx.x * KV::kPieceBytes;

  const int units = p.counts->decode_tiles * p.kv_heads;
  for (int unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const AttendTile tile = p.decode_tiles[unit / p.kv_heads];
    const int kv_head = unit % p.kv_heads, queries = tile.rows * group;
    const uint8_t* const heads = p.kv.base + kv_head * p.head_stride;
    for (int first = 0; first < queries; first += kQueries) {
      float q[kQueries][8], acc[kQueries][8], top[kQueries], sum[kQueries];
      int last[kQueries];
#pragma unroll
      for (int j = 0; j < kQueries; j++) {
        last[j] = first + j < queries ? p.positions[tile.row + (first + j) / group] : -1;
        top[j] = no_score();
        sum[j] = 0;
#pragma unroll
        for (int e = 0; e < 8; e++) q[j][e] = acc[j][e] = 0;
      }
      Walk walk = {tile.segment, tile.skip, tile.tokens};
      int turned = kNever;
      while (walk.left > 0) {
        __syncthreads();  // the batch before has been read
        const Batch batch =
            take(p, walk, kKeys, [&](const AttendSegment& s, int skip, int to, int count) {
              for (int i = threadIdx.x; i < count; i += kAttendThreads) {
                offsets[to + i] = offset_of(p, s, skip + i);
                places[to + i] = s.pos + skip + i;
              }
            });
        __syncthreads();
        const int steps = (batch.keys + kStep - 1) / kStep;
        // fetch starts to copy the tokens of a step.
        const auto fetch = [&](int step) {
          if (step < steps) {
#pragma unroll
            for (int u = 0; u < kUnroll; u++) {
              const int token = step * kStep + u * kTogether + mine;
              const bool wanted = token < batch.keys && d < dim;
              const uint8_t* from = wanted ? heads + offsets[token] : p.kv.base;
              const uint32_t to = ring + ((step % KV::kStages) * kUnroll + u) * 2 * kCopyBytes;
              KV::copy(to, from, wanted ? d : 0, dim, wanted);
              KV::copy(to + kCopyBytes, from + (wanted ? p.kv.v_offset : 0), wanted ? d : 0, dim,
                       wanted);
            }
          }
          commit_copies();
        };
#pragma unroll
        for (int i = 0; i < KV::kStages - 1; i++) fetch(i);
        if (batch.delta != turned) {
          turned = batch.delta;
#pragma unroll
          for (int j = 0; j < kQueries; j++) {
            if (first + j >= queries) break;
            load_query(q[j], p, tile.row + (first + j) / group,
                       kv_head * group + (first + j) % group, d, turned);
#pragma unroll
            for (int e = 0; e < 8; e++) q[j][e] *= p.scale * kBits;
          }
        }
        for (int step = 0; step < steps; step++) {
          fetch(step + KV::kStages - 1);
          wait_copies<KV::kStages - 1>();
          const uint8_t* const slot = slots + (step % KV::kStages) * kUnroll * 2 * kCopyBytes;
          float score[kUnroll][kQueries];
#pragma unroll
          for (int u = 0; u < kUnroll; u++) {
            const int token = step * kStep + u * kTogether + mine;
            const int place = token < batch.keys ? places[token] : kNever;
            float key[8];
            const float scale = KV::read(key, slot + u * 2 * kCopyBytes);
#pragma unroll
            for (int j = 0; j < kQueries; j++) {
              float s = 0;
#pragma unroll
              for (int e = 0; e < 8; e++) s += q[j][e] * key[e];
#pragma unroll
              for (int lanes = kLanes / 2; lanes > 0; lanes /= 2)
                s += __shfl_xor_sync(kAllLanes, s, lanes);
              score[u][j] = place <= last[j] ? s * scale : no_score();
            }
          }
#pragma unroll
          for (int j = 0; j < kQueries; j++) {
            float most = top[j];
#pragma unroll
            for (int u = 0; u < kUnroll; u++) most = fmaxf(most, score[u][j]);
            const float base = base_of(most), shrink = power(top[j] - base);
            top[j] = most;
            sum[j] *= shrink;
#pragma unroll
            for (int e = 0; e < 8; e++) acc[j][e] *= shrink;
#pragma unroll
            for (int u = 0; u < kUnroll; u++) {
              score[u][j] = power(score[u][j] - base);
              sum[j] += score[u][j];
            }
          }
#pragma unroll
          for (int u = 0; u < kUnroll; u++) {
            float value[8];
            const float scale = KV::read(value, slot + (u * 2 + 1) * kCopyBytes);
#pragma unroll
            for (int j = 0; j < kQueries; j++) {
              const float weight = score[u][j] * scale;
#pragma unroll
              for (int e = 0; e < 8; e++) acc[j][e] += weight * value[e];
            }
          }
        }
      }
#pragma unroll
      for (int apart = kLanes; apart < kWarp; apart *= 2)
        merge_lanes<kQueries>(top, sum, acc, apart);

      __syncthreads();                                      // the ring has been read
      float* const parts = reinterpret_cast<float*>(room);  // [kWarps, kQueries, kLanes * 8]
      if (lane < kLanes) {
#pragma unroll
        for (int j = 0; j < kQueries; j++) {
          float4* to =
              reinterpret_cast<float4*>(parts + ((warp * kQueries + j) * kLanes + lane) * 8);
          to[0] = make_float4(acc[j][0], acc[j][1], acc[j][2], acc[j][3]);
          to[1] = make_float4(acc[j][4], acc[j][5], acc[j][6], acc[j][7]);
          if (lane == 0) tops[warp][j] = top[j], sums[warp][j] = sum[j];
        }
      }
      __syncthreads();
      const int pairs = dim / 2, live = min(kQueries, queries - first);
      for (int i = threadIdx.x; i < live * pairs; i += kAttendThreads) {
        const int j = i / pairs, at = i % pairs * 2, query = first + j;
        float most = no_score(), total = 0, x = 0, y = 0;
#pragma unroll
        for (int w = 0; w < kWarps; w++) most = fmaxf(most, tops[w][j]);
#pragma unroll
        for (int w = 0; w < kWarps; w++) {
          const float part = power(tops[w][j] - base_of(most));
          const float2 two =
              *reinterpret_cast<const float2*>(parts + (w * kQueries + j) * kLanes * 8 + at);
          total += part * sums[w][j];
          x += part * two.x;
          y += part * two.y;
        }
        store_result(p, tile, tile.row + query / group, kv_head * group + query % group, at, most,
                     total, x, y);
      }
      __syncthreads();  // room has been read
    }
  }
}

// transpose_matrices is load_matrices of matrices that lie transposed.
__device__ static void transpose_matrices(uint32_t (&m)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(address)
               : "memory");
}

// prefill takes tiles of up to kAttendTileQueries queries: a warp has 16 of them and passes over
// kKeys keys at a time. Two batches of keys and values lie in shared memory, in rows of kDim
// elements and one access more, which keeps the accesses of ldmatrix in different banks. Heads are
// filled up to kDim with zeros. Lanes are (g, t) as in device.cuh.
template <class KV, int kDim, int kKeys, int kSharedBytes>
__device__ static void prefill(const AttendParams& p) {
  constexpr int kRow = (kDim + 8) * 2;  // bytes
  constexpr int kTile = kKeys * kRow;
  constexpr int kVectors = kDim / 8;
  constexpr bool kHoldQueries = kDim <= 128;  // in registers
  constexpr bool kScaled = KV::kType == kKVFP8;
  static_assert(kWarps * 16 == kAttendTileQueries && kKeys <= kAttendThreads && kKeys % 16 == 0);
  static_assert(kSharedBytes == kAttendTileQueries * kRow + 4 * kTile);
  extern __shared__ __align__(16) uint8_t shared[];  // queries; keys and values, twice
  __shared__ int64_t offsets[3][kKeys];
  __shared__ int32_t places[3][kKeys];
  __shared__ float scales[2][2][kScaled ? kKeys : 1];

  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int group = p.heads / p.kv_heads, dim = p.head_dim;
  const uint32_t queries = shared_address(shared), tiles = queries + kAttendTileQueries * kRow;
  // Where a lane's row of an 8x8 matrix lies in 16x16 elements: the matrices one below the other
  // first, or side by side.
  const uint32_t below = (lane % 8 + lane / 8 % 2 * 8) * kRow + lane / 16 * 16;
  const uint32_t beside = (lane % 8 + lane / 16 * 8) * kRow + lane / 8 % 2 * 16;
  const float bits = p.scale * kBits;

  const int slices =
      (group + kAttendTileQueries - 1) / kAttendTileQueries;  // more than one for huge groups only
  const int units = p.counts->prefill_tiles * p.kv_heads * slices;
  for (int unit = blockIdx.x; unit < units; unit += gridDim.x) {
    // A prompt's last rows see most: they go first, and the blocks end together.
    const AttendTile tile =
        p.prefill_tiles[p.counts->prefill_tiles - 1 - unit / (p.kv_heads * slices)];
    const int kv_head = unit / slices % p.kv_heads, slice = unit % slices * kAttendTileQueries;
    const int live = tile.rows * group - slice;
    if (live <= 0) continue;  // the same for all threads
    const uint8_t* const heads = p.kv.base + kv_head * p.head_stride;

    int last[2], lowest = kNever;
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const int query = warp * 16 + g + 8 * h;
      last[h] = query < live ? p.positions[tile.row + (slice + query) / group] : kNever;
      lowest = min(lowest, last[h]);
    }
#pragma unroll
    for (int apart = 4; apart < kWarp; apart *= 2)
      lowest = min(lowest, __shfl_xor_sync(kAllLanes, lowest, apart));

    float acc[kDim / 8][4], top[2] = {no_score(), no_score()}, sum[2] = {0, 0};
#pragma unroll
    for (int n = 0; n < kDim / 8; n++) acc[n][0] = acc[n][1] = acc[n][2] = acc[n][3] = 0;
    uint32_t held[kHoldQueries ? kDim / 16 : 1][4];

    // A thread finds the place of one key of a batch: look starts to, and note writes it down.
    Walk walk = {tile.segment, tile.skip, tile.tokens};
    int my_block = 0, my_token = 0, my_place = kNever;
    const auto look = [&]() {
      my_place = kNever;
      return take(p, walk, kKeys, [&](const AttendSegment& s, int skip, int to, int count) {
        const int i = static_cast<int>(threadIdx.x) - to;
        if (i < 0 || i >= count) return;
        const int at = s.off + skip + i;
        my_block = p.blocks[s.block + at / p.kv.block_tokens];
        my_token = at % p.kv.block_tokens;
        my_place = s.pos + skip + i;
      });
    };
    const auto note = [&](int list) {
      if (threadIdx.x < kKeys) {
        offsets[list][threadIdx.x] = my_block * p.kv.block_stride + my_token * p.kv.token_stride;
        places[list][threadIdx.x] = my_place;
      }
    };
    // fetch starts to copy a batch's keys and values. What no key fills is zeroed: zero weights
    // meet it.
    const auto fetch = [&](const Batch& batch, int list, int buffer) {
      const uint32_t keys = tiles + buffer * 2 * kTile, values = keys + kTile;
      if constexpr (!kScaled) {
#pragma unroll
        for (int i = threadIdx.x; i < kKeys * kVectors; i += kAttendThreads) {
          const int key = i / kVectors, d = i % kVectors * 8;
          const bool wanted = key < batch.keys && d < dim;
          const uint8_t* from = wanted ? heads + offsets[list][key] + 2 * d : p.kv.base;
          copy_async(keys + key * kRow + 2 * d, from, wanted);
          copy_async(values + key * kRow + 2 * d, from + (wanted ? p.kv.v_offset : 0), wanted);
        }
      } else {
#pragma unroll 4
        for (int i = threadIdx.x; i < kKeys * kVectors; i += kAttendThreads) {
          const int key = i / kVectors, d = i % kVectors * 8;
          const bool wanted = key < batch.keys && d < dim;
          const uint8_t* const from = wanted ? heads + offsets[list][key] : p.kv.base;
#pragma unroll
          for (int v = 0; v < 2; v++) {
            const uint32_t* words =
                reinterpret_cast<const uint32_t*>(from + (v == 1 && wanted ? p.kv.v_offset : 0));
            float x[8] = {};
            if (wanted) {
              unpack_fp8(x, words[d / 4]);
              unpack_fp8(x + 4, words[d / 4 + 1]);
            }
            *reinterpret_cast<uint4*>(shared + ((v == 0 ? keys : values) - queries) + key * kRow +
                                      2 * d) = pack8(x);
            if (d == 0) scales[buffer][v][key] = wanted ? __uint_as_float(words[dim / 4]) : 0.0f;
          }
        }
      }
      commit_copies();
    };

    __syncthreads();  // the tile before is done
    Batch now = look();
    note(0);
    Batch next = look();
    note(1);
    __syncthreads();
    fetch(now, 0, 0);
    int turned = kNever;
    for (int i = 0; now.keys > 0; i++) {
      const int buffer = i % 2;
      __syncthreads();  // the batch before has been read
      if (next.keys > 0) {
        fetch(next, (i + 1) % 3, 1 - buffer);
      } else {
        commit_copies();
      }
      const Batch after = look();
      const bool turn = now.delta != turned;
      if (turn) {
        turned = now.delta;
        for (int v = threadIdx.x; v < kAttendTileQueries * kVectors; v += kAttendThreads) {
          const int query = v / kVectors, d = v % kVectors * 8;
          float x[8] = {};
          if (query < live) {
            load_query(x, p, tile.row + (slice + query) / group,
                       kv_head * group + (slice + query) % group, d, turned);
          }
          *reinterpret_cast<uint4*>(shared + query * kRow + 2 * d) = pack8(x);
        }
      }
      wait_copies<1>();
      __syncthreads();
      const uint32_t my_queries = queries + warp * 16 * kRow + below;
      if constexpr (kHoldQueries) {
        if (turn) {
#pragma unroll
          for (int k = 0; k < kDim / 16; k++) load_matrices(held[k], my_queries + k * 32);
        }
      }

      const uint32_t keys = tiles + buffer * 2 * kTile + beside,
                     values = tiles + (buffer * 2 + 1) * kTile + below;
      float score[kKeys / 8][4] = {};
#pragma unroll
      for (int k = 0; k < kDim / 16; k++) {
        uint32_t a[4];
        if constexpr (kHoldQueries) {
#pragma unroll
          for (int r = 0; r < 4; r++) a[r] = held[k][r];
        } else {
          load_matrices(a, my_queries + k * 32);
        }
#pragma unroll
        for (int n = 0; n < kKeys / 16; n++) {
          uint32_t b[4];
          load_matrices(b, keys + n * 16 * kRow + k * 32);
          multiply_add(score[2 * n], a[0], a[1], a[2], a[3], b[0], b[1]);
          multiply_add(score[2 * n + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
        }
      }

      const bool all =
          now.keys == kKeys && now.last <= lowest;  // all rows of the warp see all keys
      float most[2] = {top[0], top[1]};
#pragma unroll
      for (int n = 0; n < kKeys / 8; n++) {
#pragma unroll
        for (int c = 0; c < 4; c++) {
          const int key = n * 8 + 2 * t + c % 2;
          score[n][c] *= kScaled ? bits * scales[buffer][0][kScaled ? key : 0] : bits;
          if (!all && places[i % 3][key] > last[c / 2]) score[n][c] = no_score();
          most[c / 2] = fmaxf(most[c / 2], score[n][c]);
        }
      }
      float base[2];
#pragma unroll
      for (int h = 0; h < 2; h++) {
        most[h] = fmaxf(most[h], __shfl_xor_sync(kAllLanes, most[h], 1));
        most[h] = fmaxf(most[h], __shfl_xor_sync(kAllLanes, most[h], 2));
        base[h] = base_of(most[h]);
        const float shrink = power(top[h] - base[h]);
        top[h] = most[h];
        sum[h] *= shrink;
#pragma unroll
        for (int n = 0; n < kDim / 8; n++) {
          acc[n][2 * h] *= shrink;
          acc[n][2 * h + 1] *= shrink;
        }
      }
#pragma unroll
      for (int n = 0; n < kKeys / 8; n++) {
#pragma unroll
        for (int c = 0; c < 4; c++) {
          score[n][c] = power(score[n][c] - base[c / 2]);
          sum[c / 2] += score[n][c];
          if constexpr (kScaled) score[n][c] *= scales[buffer][1][n * 8 + 2 * t + c % 2];
        }
      }
#pragma unroll
      for (int k = 0; k < kKeys / 16; k++) {
        const uint32_t a0 = pack_bf16(score[2 * k][0], score[2 * k][1]);
        const uint32_t a1 = pack_bf16(score[2 * k][2], score[2 * k][3]);
        const uint32_t a2 = pack_bf16(score[2 * k + 1][0], score[2 * k + 1][1]);
        const uint32_t a3 = pack_bf16(score[2 * k + 1][2], score[2 * k + 1][3]);
#pragma unroll
        for (int n = 0; n < kDim / 16; n++) {
          uint32_t b[4];
          transpose_matrices(b, values + k * 16 * kRow + n * 32);
          multiply_add(acc[2 * n], a0, a1, a2, a3, b[0], b[1]);
          multiply_add(acc[2 * n + 1], a0, a1, a2, a3, b[2], b[3]);
        }
      }
      note((i + 2) % 3);
      now = next;
      next = after;
    }

#pragma unroll
    for (int h = 0; h < 2; h++) {
      sum[h] += __shfl_xor_sync(kAllLanes, sum[h], 1);
      sum[h] += __shfl_xor_sync(kAllLanes, sum[h], 2);
      const int query = warp * 16 + g + 8 * h;
      if (query >= live) continue;
      const int row = tile.row + (slice + query) / group,
                head = kv_head * group + (slice + query) % group;
#pragma unroll
      for (int n = 0; n < kDim / 8; n++) {
        const int d = n * 8 + 2 * t;
        if (d < dim)
          store_result(p, tile, row, head, d, top[h], sum[h], acc[n][2 * h], acc[n][2 * h + 1]);
      }
    }
  }
}

// At most so many registers that 2 to 4 blocks of 128 threads fit.
#define DECODE(name, kv, lanes, queries)                                           \
  extern "C" __global__ void __launch_bounds__(kAttendThreads, queries == 2   ? 4  \
                                                               : queries == 4 ? 3  \
                                                                              : 2) \
      attend_decode_##name(const __grid_constant__ AttendParams p) {               \
    wait_for_previous();                                                           \
    decode<kv, lanes, queries>(p);                                                 \
  }
DECODE(q2_bf16_d64, BF16KV, 8, 2)
DECODE(q4_bf16_d64, BF16KV, 8, 4)
DECODE(q8_bf16_d64, BF16KV, 8, 8)
DECODE(q2_bf16_d128, BF16KV, 16, 2)
DECODE(q4_bf16_d128, BF16KV, 16, 4)
DECODE(q8_bf16_d128, BF16KV, 16, 8)
DECODE(q2_bf16_d256, BF16KV, 32, 2)
DECODE(q4_bf16_d256, BF16KV, 32, 4)
DECODE(q8_bf16_d256, BF16KV, 32, 8)
DECODE(q2_fp8_d64, FP8KV, 8, 2)
DECODE(q4_fp8_d64, FP8KV, 8, 4)
DECODE(q8_fp8_d64, FP8KV, 8, 8)
DECODE(q2_fp8_d128, FP8KV, 16, 2)
DECODE(q4_fp8_d128, FP8KV, 16, 4)
DECODE(q8_fp8_d128, FP8KV, 16, 8)
DECODE(q2_fp8_d256, FP8KV, 32, 2)
DECODE(q4_fp8_d256, FP8KV, 32, 4)
DECODE(q8_fp8_d256, FP8KV, 32, 8)
DECODE(q4_f32_d64, F32KV, 8, 4)
DECODE(q4_f32_d128, F32KV, 16, 4)
DECODE(q4_f32_d256, F32KV, 32, 4)

#define PREFILL(name, kv, dim, keys, shared_bytes)                    \
  extern "C" __global__ void __launch_bounds__(kAttendThreads)        \
      attend_prefill_##name(const __grid_constant__ AttendParams p) { \
    wait_for_previous();                                              \
    prefill<kv, dim, keys, shared_bytes>(p);                          \
  }
PREFILL(bf16_d64, BF16KV, 64, 64, kAttendShared64)
PREFILL(bf16_d128, BF16KV, 128, 64, kAttendShared128)
PREFILL(bf16_d256, BF16KV, 256, 32, kAttendShared256)
PREFILL(fp8_d64, FP8KV, 64, 64, kAttendShared64)
PREFILL(fp8_d128, FP8KV, 128, 64, kAttendShared128)
PREFILL(fp8_d256, FP8KV, 256, 32, kAttendShared256)

// attend_merge_bf16 adds up the parts of rows: a block takes a head of a row, a warp every fourth
// part.
extern "C" __global__ void __launch_bounds__(kAttendThreads)
    attend_merge_bf16(const __grid_constant__ AttendParams p) {
  wait_for_previous();
  __shared__ __align__(16) float parts[kWarps][kMaxHeadDim];
  __shared__ float tops[kWarps], sums[kWarps];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, dim = p.head_dim;
  const int units = p.counts->merges * p.heads;
  for (int unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const AttendMerge merge = p.merges[unit / p.heads];
    const int head = unit % p.heads;
    float top[1] = {no_score()}, sum[1] = {0}, acc[1][8] = {};
#pragma unroll 4
    for (int k = warp; k < merge.parts; k += kWarps) {
      const int64_t part = static_cast<int64_t>(p.part_list[merge.first + k]) * p.heads + head;
      const float2 weight = *reinterpret_cast<const float2*>(p.part_weights + 2 * part);
      float4 lower = {}, upper = {};
      if (lane * 8 < dim) {
        const float4* from = reinterpret_cast<const float4*>(p.part_values + part * dim + lane * 8);
        lower = from[0], upper = from[1];
      }
      const float most = fmaxf(top[0], weight.x), base = base_of(most);
      const float old = power(top[0] - base), fresh = power(weight.x - base);
      const float value[8] = {lower.x, lower.y, lower.z, lower.w,
                              upper.x, upper.y, upper.z, upper.w};
      top[0] = most;
      sum[0] = sum[0] * old + weight.y * fresh;
#pragma unroll
      for (int e = 0; e < 8; e++) acc[0][e] = acc[0][e] * old + value[e] * fresh;
    }
    float4* to = reinterpret_cast<float4*>(&parts[warp][lane * 8]);
    to[0] = make_float4(acc[0][0], acc[0][1], acc[0][2], acc[0][3]);
    to[1] = make_float4(acc[0][4], acc[0][5], acc[0][6], acc[0][7]);
    if (lane == 0) tops[warp] = top[0], sums[warp] = sum[0];
    __syncthreads();
    for (int d = 2 * threadIdx.x; d < dim; d += 2 * kAttendThreads) {
      float most = no_score(), total = 0, x = 0, y = 0;
#pragma unroll
      for (int w = 0; w < kWarps; w++) most = fmaxf(most, tops[w]);
#pragma unroll
      for (int w = 0; w < kWarps; w++) {
        const float part = power(tops[w] - base_of(most));
        total += part * sums[w];
        x += part * parts[w][d];
        y += part * parts[w][d + 1];
      }
      const float scale = total > 0 ? 1.0f / total : 0.0f;
      bf16* out = p.out + (static_cast<int64_t>(merge.row) * p.heads + head) * dim + d;
      *reinterpret_cast<uint32_t*>(out) = pack_bf16(x * scale, y * scale);
    }
    __syncthreads();  // parts have been read
  }
}

// element is element i of a head of the cache.
__device__ static float element(const AttendParams& p, const uint8_t* head, int i) {
  switch (p.kv.type) {
    case kKVF32:
      return reinterpret_cast<const float*>(head)[i];
    case kKVFP8: {
      const float scale = *reinterpret_cast<const float*>(head + p.head_dim);
      return __half2float(__half(__nv_cvt_fp8_to_halfraw(head[i], __NV_E4M3))) * scale;
    }
    default:
      return __bfloat162float(reinterpret_cast<const bf16*>(head)[i]);
  }
}

// attend_simple_bf16 is attention as it is defined, one warp for a head of a row, from the work
// list itself.
extern "C" __global__ void __launch_bounds__(kAttendThreads, 1)
    attend_simple_bf16(const __grid_constant__ AttendParams p) {
  wait_for_previous();
  const int lane = threadIdx.x % kWarp, dim = p.head_dim, d = lane * 8;
  const int items = p.item_count == nullptr ? p.items_most : min(*p.item_count, p.items_most);
  for (int i = blockIdx.x; i < items; i += gridDim.x) {
    const AttendItem item = p.items[i];
    for (int unit = threadIdx.x / kWarp; unit < item.rows * p.heads; unit += kWarps) {
      const int row = item.row + unit / p.heads, head = unit % p.heads, last = p.positions[row];
      const uint8_t* const heads = p.kv.base + head / (p.heads / p.kv_heads) * p.head_stride;
      double acc[8] = {}, top = -1.0 / 0.0, sum = 0;
      for (int k = 0; k < item.segments; k++) {
        const AttendSegment s = p.segments[item.segment + k];
        float q[8];
        load_query(q, p, row, head, d, s.pos - s.stored);
        for (int token = 0; token < s.len && s.pos + token <= last; token++) {
          const uint8_t* const key = heads + offset_of(p, s, token);
          double score = 0;
#pragma unroll
          for (int e = 0; e < 8; e++) {
            if (d + e < dim) score += static_cast<double>(q[e]) * element(p, key, d + e);
          }
#pragma unroll
          for (int lanes = kWarp / 2; lanes > 0; lanes /= 2)
            score += __shfl_xor_sync(kAllLanes, score, lanes);
          score *= p.scale;
          const double most = fmax(top, score), old = exp(top - most), fresh = exp(score - most);
          top = most;
          sum = sum * old + fresh;
#pragma unroll
          for (int e = 0; e < 8; e++) {
            if (d + e < dim) acc[e] = acc[e] * old + fresh * element(p, key + p.kv.v_offset, d + e);
          }
        }
      }
      bf16* out = p.out + (static_cast<int64_t>(row) * p.heads + head) * dim;
#pragma unroll
      for (int e = 0; e < 8; e++) {
        if (d + e < dim)
          out[d + e] = __float2bfloat16_rn(sum > 0 ? static_cast<float>(acc[e] / sum) : 0.0f);
      }
    }
  }
}

// sum_before gives a thread the sum of value over the threads before it, and total over all. sums
// is [kWarp + 1].
__device__ static int sum_before(int value, int* sums, int& total) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  int upto = value;
#pragma unroll
  for (int lanes = 1; lanes < kWarp; lanes *= 2) {
    const int before = __shfl_up_sync(kAllLanes, upto, lanes);
    if (lane >= lanes) upto += before;
  }
  __syncthreads();  // sums have been read
  if (lane == kWarp - 1) sums[warp] = upto;
  __syncthreads();
  if (warp == 0) {
    int all = lane < kAttendPlanThreads / kWarp ? sums[lane] : 0;
#pragma unroll
    for (int lanes = 1; lanes < kWarp; lanes *= 2) {
      const int before = __shfl_up_sync(kAllLanes, all, lanes);
      if (lane >= lanes) all += before;
    }
    sums[lane] = all;
  }
  __syncthreads();
  total = sums[kWarp - 1];
  return upto - value + (warp == 0 ? 0 : sums[warp - 1]);
}

// largest_upto gives a thread the largest value over the threads up to it, and all the largest of
// all.
__device__ static int largest_upto(int value, int* largest, int& all) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
#pragma unroll
  for (int lanes = 1; lanes < kWarp; lanes *= 2) {
    const int before = __shfl_up_sync(kAllLanes, value, lanes);
    if (lane >= lanes) value = max(value, before);
  }
  __syncthreads();
  if (lane == kWarp - 1) largest[warp] = value;
  __syncthreads();
  all = largest[0];
  int before = value;
  for (int w = 0; w < kAttendPlanThreads / kWarp; w++) {
    if (w < warp) before = max(before, largest[w]);
    all = max(all, largest[w]);
  }
  return before;
}

// follows says if item b goes on where a ends, over the same segments.
__device__ static bool follows(const AttendItem& a, const AttendItem& b) {
  return b.segment == a.segment && b.segments == a.segments && b.row == a.row + a.rows;
}

// rows_from is how many rows there are from row on, which lies in item i, up to most.
__device__ static int rows_from(const AttendPlanParams& p, int items, int i, int row, int most) {
  AttendItem item = p.items[i];
  while (item.row + item.rows - row < most && ++i < items) {
    const AttendItem next = p.items[i];
    if (!follows(item, next)) break;
    item = next;
  }
  return min(most, item.row + item.rows - row);
}

// Cut is how a tile's walk is cut.
struct Cut {
  bool decode;
  int rows;
  int tokens;  // of the whole walk
  int split;   // tokens of a part
  int parts;
};

// cut says how the tile is cut whose first row lies in item i, of a run of items that begins with
// head.
__device__ static Cut cut(const AttendPlanParams& p, int items, int head, int i, int row,
                          int tile_rows) {
  Cut c;
  c.rows = rows_from(p, items, i, row, tile_rows);
  c.decode = p.only_decode != 0 || c.rows * p.group <= p.decode_queries;
  c.tokens = 0;
  const AttendItem item = p.items[i];
  const int last = p.positions[row + c.rows - 1];  // positions rise with the rows
  for (int k = 0; k < item.segments; k++) {
    const AttendSegment s = p.segments[item.segment + k];
    c.tokens += max(0, min(s.len, last + 1 - s.pos));
  }
  c.split = max(1, c.tokens);
  if (c.decode) {
    const int even = (c.tokens + p.decode_splits - 1) / p.decode_splits;
    c.split =
        max(p.decode_split, (even + kAttendSplitStep - 1) / kAttendSplitStep * kAttendSplitStep);
  } else if (p.prefill_split_rows > 0 &&
             rows_from(p, items, head, p.items[head].row, p.prefill_split_rows + 1) <=
                 p.prefill_split_rows) {
    c.split = p.prefill_split;
  }
  c.parts = max(1, (c.tokens + c.split - 1) / c.split);
  return c;
}

// attend_plan cuts items into tiles. Items of one span, which follow each other over the same
// segments, are one run of rows; tiles are cut from its first row on. A thread has the tiles that
// begin in its item.
extern "C" __global__ void __launch_bounds__(kAttendPlanThreads)
    attend_plan(const __grid_constant__ AttendPlanParams p) {
  wait_for_previous();
  __shared__ int scratch[kWarp + 1];
  const int items = p.item_count == nullptr ? p.items_most : min(*p.item_count, p.items_most);
  const int tile_rows =
      max(1, (p.only_decode != 0 ? p.decode_queries : kAttendTileQueries) / p.group);
  int decodes = 0, prefills = 0, merges = 0, parts = 0, run = 0;  // of the items before
  for (int base = 0; base < items; base += kAttendPlanThreads) {
    const int i = base + static_cast<int>(threadIdx.x);
    AttendItem item = {};
    bool begins = false;
    if (i < items) {
      item = p.items[i];
      begins = i == 0 || !follows(p.items[i - 1], item);
    }
    int last_run;
    const int head = largest_upto(max(run, begins ? i : 0), scratch, last_run);
    run = last_run;
    int first = item.row, end = item.row + item.rows;
    if (i < items) {
      const int before =
          (first - p.items[head].row) % tile_rows;  // rows of the tile that goes on here
      if (before > 0) first += tile_rows - before;
    }

    int wanted = 0, total;
    for (int row = first; row < end; row += tile_rows) {
      const Cut c = cut(p, items, head, i, row, tile_rows);
      if (c.parts > 1) wanted += c.parts * c.rows;
    }
    const int first_part = parts + sum_before(wanted, scratch, total);
    parts += total;

    int part = first_part, my_decodes = 0, my_prefills = 0, my_merges = 0;
    for (int row = first; row < end; row += tile_rows) {
      const Cut c = cut(p, items, head, i, row, tile_rows);
      const bool fits = c.parts > 1 && part + c.parts * c.rows <= p.parts_most;
      if (c.parts > 1) part += c.parts * c.rows;
      (c.decode ? my_decodes : my_prefills) += fits ? c.parts : 1;
      my_merges += fits ? c.rows : 0;
    }
    int decode = decodes + sum_before(my_decodes, scratch, total);
    decodes += total;
    int prefill = prefills + sum_before(my_prefills, scratch, total);
    prefills += total;
    int merge = merges + sum_before(my_merges, scratch, total);
    merges += total;

    part = first_part;
    for (int row = first; row < end; row += tile_rows) {
      const Cut c = cut(p, items, head, i, row, tile_rows);
      const bool fits = c.parts > 1 && part + c.parts * c.rows <= p.parts_most;
      AttendTile* tile = c.decode ? p.decode_tiles + decode : p.prefill_tiles + prefill;
      int segment = item.segment, skip = 0;  // where the next part begins
      const int tiles = fits ? c.parts : 1;
      for (int k = 0; k < tiles; k++) {
        const int tokens = fits ? min(c.split, c.tokens - k * c.split) : c.tokens;
        tile[k] = {row, c.rows, segment, skip, tokens, fits ? part + k * c.rows : -1};
        skip += tokens;
        while (k + 1 < tiles && skip >= p.segments[segment].len) skip -= p.segments[segment++].len;
        for (int r = 0; fits && r < c.rows; r++)
          p.part_list[part + r * c.parts + k] = part + k * c.rows + r;
      }
      for (int r = 0; fits && r < c.rows; r++)
        p.merges[merge + r] = {row + r, part + r * c.parts, c.parts};
      (c.decode ? decode : prefill) += tiles;
      merge += fits ? c.rows : 0;
      if (c.parts > 1) part += c.parts * c.rows;
    }
  }
  if (threadIdx.x == 0) *p.counts = {decodes, prefills, merges, 0};
}
