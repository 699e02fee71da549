// Attention over paged segments: out[r] = softmax(scale · q·K) · V over the tokens of the row's
// segments at positions up to its own. See kernels.AttendParams. https://arxiv.org/abs/1805.02867
// https://arxiv.org/abs/2205.14135
//
//   q    [rows, q_stride] bfloat16
//   out  [rows, heads, head_dim] bfloat16
//   kv   bfloat16, float32 or float8 (e4m3): base and strides are multiples of 16 bytes; with
//        float8 of 4 where a head is not a multiple of 16 bytes
//
// Four steps, on one stream. Grids are fixed; what there is to do is read from device memory.
//
//   attend_plan     once for a step: cuts the work list into tiles of rows, and long walks of few
//                   rows into parts; tokens that rows share become tiles of all those rows
//   attend_decode   tiles of few queries, split over the tokens: bound by the memory that holds the
//                   cache. On tensor cores for the usual shapes, on CUDA cores for all others
//   attend_prefill  tiles of up to 64 queries on tensor cores, one online softmax over the walk
//   attend_merge    adds up the parts of a row by their log-sum-exp, in a fixed order; not launched
//                   where attend_decode on tensor cores has made them all and adds them up itself
//
// Where the walks of decoded rows are cut depends on all of them: see cut_decodes. The same step is
// always cut alike. Scores are kept in bits: e^x is 2^(x · log2 e).
//
// attend_simple computes the same from the work list itself, slowly and in float64: the tests
// compare the others with it.
#include "attend.cuh"

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
  __shared__ int64_t scales[KV::kType == kKVFP8 ? kKeys : 1];
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
    const uint8_t* const head_scales = p.kv.base + kv_head * p.kv.block_tokens * 4;
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
                if constexpr (KV::kType == kKVFP8) scales[to + i] = scale_of(p, s, skip + i);
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
              const uint8_t* scale = p.kv.base;
              if constexpr (KV::kType == kKVFP8) {
                if (wanted) scale = head_scales + scales[token];
              }
              const uint32_t to = ring + ((step % KV::kStages) * kUnroll + u) * 2 * kCopyBytes;
              KV::copy(to, from, wanted ? d : 0, scale, wanted);
              KV::copy(to + kCopyBytes, from + (wanted ? p.kv.v_offset : 0), wanted ? d : 0,
                       scale + (wanted ? p.kv.v_scale_offset : 0), wanted);
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

// At most so many registers that 2 to 4 blocks of 128 threads fit.
#define DECODE(name, kv, lanes, queries)                                           \
  extern "C" __global__ void __launch_bounds__(kAttendThreads, queries == 2   ? 4  \
                                                               : queries == 4 ? 3  \
                                                                              : 2) \
      attend_decode_##name(const __grid_constant__ AttendParams p) {               \
    let_next_start();                                                              \
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

// attend_merge_bf16 adds up the parts of rows: a block takes a head of a row, a warp every fourth
// part.
extern "C" __global__ void __launch_bounds__(kAttendThreads)
    attend_merge_bf16(const __grid_constant__ AttendParams p) {
  let_next_start();
  wait_for_previous();
  __shared__ __align__(16) float parts[kWarps][kMaxHeadDim];
  __shared__ float tops[kWarps], sums[kWarps];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, dim = p.head_dim;
  const int units = p.counts->merges * p.heads;
  for (int unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const AttendMerge merge = p.merges[unit / p.heads];
    const int head = unit % p.heads;
    const int shared = p.row_parts == nullptr ? 0 : p.row_parts[merge.row];  // these come first
    float top[1] = {no_score()}, sum[1] = {0}, acc[1][8] = {};
#pragma unroll 4
    for (int k = warp; k < shared + merge.parts; k += kWarps) {
      const int id = k < shared ? p.shared_list[p.row_first[merge.row] + k]
                                : p.part_list[merge.first + k - shared];
      const int64_t part = static_cast<int64_t>(id) * p.heads + head;
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

// element is element i of a head of the cache; scale is that of float8.
__device__ static float element(const AttendParams& p, const uint8_t* head, const uint8_t* scale,
                                int i) {
  switch (p.kv.type) {
    case kKVF32:
      return reinterpret_cast<const float*>(head)[i];
    case kKVFP8:
      return __half2float(__half(__nv_cvt_fp8_to_halfraw(head[i], __NV_E4M3))) *
             *reinterpret_cast<const float*>(scale);
    default:
      return __bfloat162float(reinterpret_cast<const bf16*>(head)[i]);
  }
}

// attend_simple_bf16 is attention as it is defined, one warp for a head of a row, from the work
// list itself.
extern "C" __global__ void __launch_bounds__(kAttendThreads, 1)
    attend_simple_bf16(const __grid_constant__ AttendParams p) {
  let_next_start();
  wait_for_previous();
  const int lane = threadIdx.x % kWarp, dim = p.head_dim, d = lane * 8;
  const int items = p.item_count == nullptr ? p.items_most : min(*p.item_count, p.items_most);
  for (int i = blockIdx.x; i < items; i += gridDim.x) {
    const AttendItem item = p.items[i];
    for (int unit = threadIdx.x / kWarp; unit < item.rows * p.heads; unit += kWarps) {
      const int row = item.row + unit / p.heads, head = unit % p.heads, last = p.positions[row];
      const int kv_head = head / (p.heads / p.kv_heads);
      const uint8_t* const heads = p.kv.base + kv_head * p.head_stride;
      double acc[8] = {}, top = -1.0 / 0.0, sum = 0;
      for (int k = 0; k < item.segments; k++) {
        const AttendSegment s = p.segments[item.segment + k];
        float q[8];
        load_query(q, p, row, head, d, s.pos - s.stored);
        for (int token = 0; token < s.len && s.pos + token <= last; token++) {
          const uint8_t* const key = heads + offset_of(p, s, token);
          const uint8_t* const scale =
              p.kv.base + kv_head * p.kv.block_tokens * 4 + scale_of(p, s, token);
          double score = 0;
#pragma unroll
          for (int e = 0; e < 8; e++) {
            if (d + e < dim) score += static_cast<double>(q[e]) * element(p, key, scale, d + e);
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
            if (d + e < dim) {
              const float value =
                  element(p, key + p.kv.v_offset, scale + p.kv.v_scale_offset, d + e);
              acc[e] = acc[e] * old + fresh * value;
            }
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
