// Attention for tiles of few queries, on tensor cores; attend.cu has the whole.
//
//   grid   any number of blocks of kAttendThreads threads and kAttendDecodeShared bytes of dynamic
//          shared memory (kAttendDecodeSharedFP8 for float8): a block takes parts of walks for a
//          key-value head, a warp every fourth group of 16 tokens of them
//
// For heads of 64 (bfloat16) and 128 elements and blocks of a multiple of 16 tokens; attend.cu's
// kernels take the others. Bound by the memory that holds the cache: what counts is how many bytes
// are under way, at every time. So each warp has a ring of groups in shared memory, which it fills
// itself, and what it fetches runs ahead of what it computes over the ends of segments and of
// parts: nothing drains. The tensor cores are mostly idle.
//
// Both products have the cache on the left, where an instruction takes 16 rows, and the queries on
// the right, where it takes 8: scores [token, query] = K · qᵀ, results [dimension, query] = Vᵀ · Pᵀ.
// Which element of a head is which column of an instruction is free as long as both sides agree, so
// a lane takes 16 bytes in a row. Lanes are (g, t) as in device.cuh:
//
//   keys     tokens g and g+8, 16 bytes from 16t on of every 64
//   values   tokens 2t, 2t+1, 2t+8, 2t+9, 16 bytes from 16g on of every 128; a register of the left
//            side wants two tokens of one dimension: a byte permutation
//   scores   tokens g and g+8 of queries 2t and 2t+1, turned over for the right side by movmatrix
//
// Runs of 16 bytes are swapped within their rows, so that these accesses meet all banks. Float8
// becomes float16, exactly; a query is scaled by a power of two to lie in its range.
//
// Version 1 went from memory to registers, with no shared memory: each part began with a chain of
// look-ups while nothing was under way, 2.3 us of it on an H200.
#include "attend.cuh"

constexpr int kGroup = 16;   // tokens that a warp takes at a time
constexpr int kColumns = 8;  // queries that pass over the keys together
constexpr int kMerged = 4;   // queries whose results the warps add up at a time

// transpose turns an 8x8 matrix over: lane (g, t) gives elements 2t and 2t+1 of row g, and gets
// those of column g.
__device__ static uint32_t transpose(uint32_t word) {
  uint32_t turned;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(turned) : "r"(word));
  return turned;
}

__device__ static uint32_t pack_f16(float first, float second) {
  const __half2 pair = __floats2half2_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// half_of are two float8 numbers as float16: those in the lower or the upper half of word.
__device__ static uint32_t half_of(uint32_t word, int upper) {
  const __half2_raw pair = __nv_cvt_fp8x2_to_halfraw2(
      static_cast<__nv_fp8x2_storage_t>(word >> (16 * upper)), __NV_E4M3);
  return pair.x | static_cast<uint32_t>(pair.y) << 16;
}

// multiply_add_f16 is multiply_add of float16.
__device__ static void multiply_add_f16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2,
                                        uint32_t a3, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// power_of_two is the power of two that brings x to [1, 2); 1 where x is too small to matter.
__device__ static float power_of_two(float x) {
  const int exponent = static_cast<int>(__float_as_uint(x) >> 23 & 255);
  if (exponent < 8 || exponent > 246) return 1.0f;
  return __uint_as_float(static_cast<uint32_t>(254 - exponent) << 23);
}

// Where a run of 16 bytes of a token lies in its row.
__device__ static int key_run(int token, int run) { return run ^ (token & 1) * 4; }
__device__ static int value_run(int token, int run) { return run ^ (token >> 1 & 3) * 2; }

template <bool kFP8, int kDim, int kStages, int kSharedBytes>
__device__ static void decode_groups(const AttendParams& p) {
  constexpr int kBytes = kDim * (kFP8 ? 1 : 2);  // of a head
  constexpr int kRuns = kBytes / 16;             // of 16 bytes
  constexpr int kKeyRuns = kBytes / 64, kValueRuns = kBytes / 128;  // that a lane takes of a token
  constexpr int kSteps = kDim / 16;  // instructions of a group's scores, and of its results
  constexpr int kTile = kGroup * kBytes;
  constexpr int kStage = 2 * kTile + (kFP8 ? 2 * kGroup * 4 : 0);  // keys, values, scales of both
  static_assert(kBytes % 128 == 0 && kWarps * kStages * kStage == kSharedBytes);
  extern __shared__ __align__(128) uint8_t shared[];  // [kWarps, kStages, kStage]
  __shared__ __align__(16) float parts[kWarps][kMerged][kDim];
  __shared__ float tops[kWarps][kColumns], sums[kWarps][kColumns];
  __shared__ bool complete;

  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int group = p.heads / p.kv_heads, block_tokens = p.kv.block_tokens;
  const float bits = p.scale * kBits;
  const bool aligned = aligned16(p.q) && p.q_stride % 8 == 0;
  const uint32_t ring = shared_address(shared) + warp * kStages * kStage;
  const int units = p.counts->decode_tiles * p.kv_heads;

  // What is fetched: group at.group of a run of slots [from, to) of a segment's blocks. Groups
  // begin at multiples of 16 slots, so that each lies in one block.
  struct {
    int unit, first, queries;
    int tile_segment, tile_skip, tile_tokens;
    int segment, skip, left;
    int blocks, from, to;
    int group, index;  // it is the index-th, modulo 32, that offset knows
  } at;
  at.unit = blockIdx.x - gridDim.x;
  at.first = at.queries = at.left = 0;
  at.group = at.to = 0;
  at.index = 0;
  const uint8_t* fetch_heads = p.kv.base;
  const uint8_t* fetch_scales = p.kv.base;
  int64_t offset = 0, scale_offset = 0;  // of the group that is this lane's
  bool more = true;

  // locate finds where the warp's next 32 groups lie.
  const auto locate = [&]() {
    at.index = 0;
    const int slot = (at.group + kWarps * lane) * kGroup;
    if (slot >= at.to) return;
    const int64_t block = p.blocks[at.blocks + slot / block_tokens] * p.kv.block_stride;
    offset = block + slot % block_tokens * p.kv.token_stride;
    if constexpr (kFP8) scale_offset = block + slot % block_tokens * 4;
  };
  // advance goes on to the warp's next group, if there is one.
  const auto advance = [&]() {
    at.group += kWarps;
    at.index++;
    if (at.group * kGroup < at.to) {
      if (at.index == kWarp) locate();
      return;
    }
    while (true) {
      if (at.left > 0) {
        const AttendSegment s = p.segments[at.segment];
        const int count = min(s.len - at.skip, at.left);
        if (count > 0) {
          at.left -= count;
          at.blocks = s.block;
          at.from = s.off + at.skip;
          at.to = at.from + count;
        }
        at.segment++;
        at.skip = 0;
        at.group = at.from / kGroup + warp;
        if (count <= 0 || at.group * kGroup >= at.to) continue;
        locate();
        return;
      }
      at.first += kColumns;
      if (at.first >= at.queries) {
        at.unit += gridDim.x;
        if (at.unit >= units) {
          more = false;
          return;
        }
        const AttendTile tile = p.decode_tiles[at.unit / p.kv_heads];
        const int kv_head = at.unit % p.kv_heads;
        fetch_heads = p.kv.base + kv_head * p.head_stride;
        fetch_scales = p.kv.base + p.kv.scale_offset + kv_head * block_tokens * 4;
        at.first = 0;
        at.queries = tile.rows * group;
        at.tile_segment = tile.segment;
        at.tile_skip = tile.skip;
        at.tile_tokens = tile.tokens;
      }
      at.segment = at.tile_segment;
      at.skip = at.tile_skip;
      at.left = at.tile_tokens;
    }
  };
  // fetch starts to copy the next group, to a place of the ring. A token that is not wanted becomes
  // one that is: its weight is 0.
  const auto fetch = [&](int stage) {
    if (more) advance();
    if (more) {
      const uint8_t* const data = fetch_heads + __shfl_sync(kAllLanes, offset, at.index);
      const int low = max(0, at.from - at.group * kGroup);
      const int high = min(kGroup, at.to - at.group * kGroup) - 1;
      const uint32_t to = ring + stage * kStage;
      const int run = lane % kRuns;
#pragma unroll
      for (int i = 0; i < kTile / 16 / kWarp; i++) {
        const int token = lane / kRuns + i * (kWarp / kRuns);
        const uint8_t* const from =
            data + min(max(token, low), high) * p.kv.token_stride + run * 16;
        copy_async(to + token * kBytes + key_run(token, run) * 16, from, true);
        copy_async(to + kTile + token * kBytes + value_run(token, run) * 16, from + p.kv.v_offset,
                   true);
      }
      if constexpr (kFP8) {
        const uint8_t* const from = fetch_scales + __shfl_sync(kAllLanes, scale_offset, at.index) +
                                    min(max(lane % kGroup, low), high) * 4 +
                                    (lane < kGroup ? 0 : p.kv.v_scale_offset);
        copy_async4(to + 2 * kTile + lane * 4, from, true);
      }
    }
    commit_copies();
  };
#pragma unroll
  for (int i = 0; i < kStages - 1; i++) fetch(i);
  int stage = 0;

  for (int unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const AttendTile tile = p.decode_tiles[unit / p.kv_heads];
    const int kv_head = unit % p.kv_heads, queries = tile.rows * group;
    for (int first = 0; first < queries; first += kColumns) {
      const int live = min(kColumns, queries - first);
      int last[2];  // of queries 2t and 2t+1
#pragma unroll
      for (int c = 0; c < 2; c++) {
        const int query = first + 2 * t + c;
        last[c] = query < queries ? p.positions[tile.row + query / group] : -1;
      }
      const int lowest = p.positions[tile.row + first / group];  // positions rise with the rows
      uint32_t q[kSteps][2];
      float factor[2] = {bits, bits};
      float acc[kSteps][4], top[2] = {no_score(), no_score()}, sum[2] = {0, 0};
#pragma unroll
      for (int i = 0; i < kSteps; i++) acc[i][0] = acc[i][1] = acc[i][2] = acc[i][3] = 0;

      // load_queries sets q, turned back by delta positions.
      const auto load_queries = [&](int delta) {
        constexpr int kRun = kFP8 ? 16 : 8;  // elements of 16 bytes of the cache
        const int row = tile.row + (first + g) / group;
        const int head = kv_head * group + (first + g) % group;
        uint4 eight[kDim / 32];  // runs of eight elements
#pragma unroll
        for (int i = 0; i < kDim / 32; i++) {
          const int d = (i * 8 / kRun) * 4 * kRun + t * kRun + i * 8 % kRun;
          eight[i] = make_uint4(0, 0, 0, 0);
          if (g >= live) continue;
          if (delta == 0 && aligned) {
            eight[i] = *reinterpret_cast<const uint4*>(p.q + row * p.q_stride + head * kDim + d);
          } else {
            float x[8];
            load_query(x, p, row, head, d, delta);
            eight[i] = pack8(x);
          }
        }
        float power = 1;
        if constexpr (kFP8) {
          float largest = 0;
#pragma unroll
          for (int i = 0; i < kDim / 32; i++) {
            float x[8];
            unpack8(x, eight[i]);
#pragma unroll
            for (int e = 0; e < 8; e++) largest = fmaxf(largest, fabsf(x[e]));
          }
          largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
          largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
          power = power_of_two(largest);
#pragma unroll
          for (int c = 0; c < 2; c++)
            factor[c] = bits / __shfl_sync(kAllLanes, power, (2 * t + c) * 4);
        }
#pragma unroll
        for (int i = 0; i < kDim / 32; i++) {
          const uint32_t word[4] = {eight[i].x, eight[i].y, eight[i].z, eight[i].w};
#pragma unroll
          for (int w = 0; w < 4; w++)
            q[2 * i + w / 2][w % 2] =
                kFP8 ? pack_f16(lower_bf16(word[w]) * power, upper_bf16(word[w]) * power) : word[w];
        }
      };

      int turned = kNever;
      int segment = tile.segment, skip = tile.skip, left = tile.tokens;
      for (; left > 0; segment++, skip = 0) {
        const AttendSegment s = p.segments[segment];
        const int count = min(s.len - skip, left);
        if (count <= 0) continue;
        left -= count;
        const int from = s.off + skip, to = from + count;
        if (s.pos - s.stored != turned) {
          turned = s.pos - s.stored;
          load_queries(turned);
        }
        for (int i = from / kGroup + warp; i * kGroup < to; i += kWarps) {
          __syncwarp();  // the place that is filled has been read
          fetch(stage == 0 ? kStages - 1 : stage - 1);
          wait_copies<kStages - 1>();
          __syncwarp();
          const uint32_t keys = ring + stage * kStage, values = keys + kTile;
          stage = stage + 1 == kStages ? 0 : stage + 1;

          float even[4] = {}, odd[4] = {};  // sums over every second instruction
#pragma unroll
          for (int r = 0; r < kKeyRuns; r++) {
            const uint4 upper = load_shared(keys + g * kBytes + key_run(g, t + 4 * r) * 16);
            const uint4 lower =
                load_shared(keys + (g + 8) * kBytes + key_run(g + 8, t + 4 * r) * 16);
            const uint32_t a[4] = {upper.x, upper.y, upper.z, upper.w};
            const uint32_t b[4] = {lower.x, lower.y, lower.z, lower.w};
            if constexpr (kFP8) {
#pragma unroll
              for (int w = 0; w < 4; w++)
                multiply_add_f16(w % 2 == 0 ? even : odd, half_of(a[w], 0), half_of(b[w], 0),
                                 half_of(a[w], 1), half_of(b[w], 1), q[4 * r + w][0],
                                 q[4 * r + w][1]);
            } else {
              multiply_add(even, a[0], b[0], a[1], b[1], q[2 * r][0], q[2 * r][1]);
              multiply_add(odd, a[2], b[2], a[3], b[3], q[2 * r + 1][0], q[2 * r + 1][1]);
            }
          }
          float score[4], ratio[2] = {}, most_scale = 0;
#pragma unroll
          for (int c = 0; c < 4; c++) score[c] = (even[c] + odd[c]) * factor[c % 2];
          if constexpr (kFP8) {
            float value_scale[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
              const float key_scale = load_shared_float(keys + 2 * kTile + (g + 8 * h) * 4);
              score[2 * h] *= key_scale;
              score[2 * h + 1] *= key_scale;
              value_scale[h] = load_shared_float(keys + 2 * kTile + (kGroup + g + 8 * h) * 4);
            }
            // Weights meet the values' scales before they are rounded: as ratios to the largest.
            most_scale = fmaxf(value_scale[0], value_scale[1]);
#pragma unroll
            for (int apart = 4; apart < kWarp; apart *= 2)
              most_scale = fmaxf(most_scale, __shfl_xor_sync(kAllLanes, most_scale, apart));
            const float inverse = most_scale > 0 ? 1.0f / most_scale : 0.0f;
            ratio[0] = value_scale[0] * inverse, ratio[1] = value_scale[1] * inverse;
          }
          const int low = from - i * kGroup, high = to - i * kGroup;  // tokens [low, high) are met
          const int place = s.pos - s.off + i * kGroup;
          if (low > 0 || high < kGroup || place + kGroup - 1 > lowest) {
#pragma unroll
            for (int c = 0; c < 4; c++) {
              const int token = g + c / 2 * 8;
              if (token < low || token >= high || place + token > last[c % 2])
                score[c] = no_score();
            }
          }
          float most[2] = {fmaxf(score[0], score[2]), fmaxf(score[1], score[3])};
#pragma unroll
          for (int apart = 4; apart < kWarp; apart *= 2) {
            most[0] = fmaxf(most[0], __shfl_xor_sync(kAllLanes, most[0], apart));
            most[1] = fmaxf(most[1], __shfl_xor_sync(kAllLanes, most[1], apart));
          }
          float shrink[2], base[2];
          bool grown = false;
#pragma unroll
          for (int c = 0; c < 2; c++) {
            most[c] = fmaxf(most[c], top[c]);
            grown |= most[c] > top[c];
            base[c] = base_of(most[c]);
            shrink[c] = power(top[c] - base[c]);
            top[c] = most[c];
            sum[c] *= shrink[c];
          }
#pragma unroll
          for (int c = 0; c < 4; c++) {
            score[c] = power(score[c] - base[c % 2]);
            sum[c % 2] += score[c];
            if constexpr (kFP8) score[c] *= ratio[c / 2];
          }
          const uint32_t b0 =
              transpose(kFP8 ? pack_f16(score[0], score[1]) : pack_bf16(score[0], score[1]));
          const uint32_t b1 =
              transpose(kFP8 ? pack_f16(score[2], score[3]) : pack_bf16(score[2], score[3]));
          if (!kFP8 && __any_sync(kAllLanes, grown)) {
#pragma unroll
            for (int m = 0; m < kSteps; m++) {
#pragma unroll
              for (int c = 0; c < 4; c++) acc[m][c] *= shrink[c % 2];
            }
          }
#pragma unroll
          for (int r = 0; r < kValueRuns; r++) {
            uint32_t word[4][4];  // of the four tokens
#pragma unroll
            for (int v = 0; v < 4; v++) {
              const int token = 2 * t + v % 2 + v / 2 * 8;
              const uint4 four =
                  load_shared(values + token * kBytes + value_run(token, g + 8 * r) * 16);
              word[v][0] = four.x, word[v][1] = four.y, word[v][2] = four.z, word[v][3] = four.w;
            }
#pragma unroll
            for (int w = 0; w < 4; w++) {
              if constexpr (kFP8) {
#pragma unroll
                for (int h = 0; h < 2; h++) {
                  const int mix = h == 0 ? 0x5140 : 0x7362;
                  const uint32_t a = __byte_perm(word[0][w], word[1][w], mix);
                  const uint32_t b = __byte_perm(word[2][w], word[3][w], mix);
                  float fresh[4] = {};
                  multiply_add_f16(fresh, half_of(a, 0), half_of(a, 1), half_of(b, 0),
                                   half_of(b, 1), b0, b1);
                  float(&to)[4] = acc[r * 8 + 2 * w + h];
#pragma unroll
                  for (int c = 0; c < 4; c++) to[c] = to[c] * shrink[c % 2] + fresh[c] * most_scale;
                }
              } else {
                multiply_add(acc[r * 4 + w], __byte_perm(word[0][w], word[1][w], 0x5410),
                             __byte_perm(word[0][w], word[1][w], 0x7632),
                             __byte_perm(word[2][w], word[3][w], 0x5410),
                             __byte_perm(word[2][w], word[3][w], 0x7632), b0, b1);
              }
            }
          }
        }
      }

#pragma unroll
      for (int apart = 4; apart < kWarp; apart *= 2) {
        sum[0] += __shfl_xor_sync(kAllLanes, sum[0], apart);
        sum[1] += __shfl_xor_sync(kAllLanes, sum[1], apart);
      }
#pragma unroll
      for (int round = 0; round < kColumns / kMerged; round++) {
        const int begin = round * kMerged, count = min(kMerged, live - begin);
        if (count <= 0) break;
#pragma unroll
        for (int c = 0; c < 2; c++) {
          const int query = 2 * t + c;
          if (query < begin || query >= begin + count) continue;
          if (g == 0) tops[warp][query] = top[c], sums[warp][query] = sum[c];
#pragma unroll
          for (int m = 0; m < kSteps; m += 2) {
            const int d = kFP8 ? g * 16 + 2 * m : m / 4 * 64 + g * 8 + m % 4 * 2;
            *reinterpret_cast<float4*>(&parts[warp][query - begin][d]) =
                make_float4(acc[m][c], acc[m][c + 2], acc[m + 1][c], acc[m + 1][c + 2]);
          }
        }
        __syncthreads();
        for (int i = threadIdx.x; i < count * (kDim / 2); i += kAttendThreads) {
          const int j = begin + i / (kDim / 2), d = i % (kDim / 2) * 2, query = first + j;
          float most = no_score(), total = 0, x = 0, y = 0;
#pragma unroll
          for (int w = 0; w < kWarps; w++) most = fmaxf(most, tops[w][j]);
#pragma unroll
          for (int w = 0; w < kWarps; w++) {
            const float part = power(tops[w][j] - base_of(most));
            const float2 two = *reinterpret_cast<const float2*>(&parts[w][j - begin][d]);
            total += part * sums[w][j];
            x += part * two.x;
            y += part * two.y;
          }
          store_result(p, tile, tile.row + query / group, kv_head * group + query % group, d, most,
                       total, x, y);
        }
        __syncthreads();  // parts have been read
      }
    }
    if (p.done == nullptr || tile.part < 0) continue;
    // Whoever finishes a row's last part adds all of them up, in their order.
    int* const done = p.done + tile.row * p.kv_heads + kv_head;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) complete = atomicAdd(done, 1) == tile.parts - 1;
    __syncthreads();
    if (!complete) continue;
    __threadfence();
    if (threadIdx.x == 0) *done = 0;
    for (int i = threadIdx.x; i < group * (kDim / 2); i += kAttendThreads) {
      const int head = kv_head * group + i / (kDim / 2), d = i % (kDim / 2) * 2;
      float most = no_score(), total = 0, x = 0, y = 0;
#pragma unroll 8
      for (int k = 0; k < tile.parts; k++) {
        const int64_t part = static_cast<int64_t>(tile.first + k) * p.heads + head;
        const float2 weight = __ldcg(reinterpret_cast<const float2*>(p.part_weights + 2 * part));
        const float2 two =
            __ldcg(reinterpret_cast<const float2*>(p.part_values + part * kDim + d));
        const float larger = fmaxf(most, weight.x), base = base_of(larger);
        const float old = power(most - base), fresh = power(weight.x - base);
        most = larger;
        total = total * old + weight.y * fresh;
        x = x * old + two.x * fresh;
        y = y * old + two.y * fresh;
      }
      const float scale = total > 0 ? 1.0f / total : 0.0f;
      bf16* out = p.out + (static_cast<int64_t>(tile.row) * p.heads + head) * kDim + d;
      *reinterpret_cast<uint32_t*>(out) = pack_bf16(x * scale, y * scale);
    }
  }
}

#define DECODE(name, fp8, dim, stages, shared_bytes)                 \
  extern "C" __global__ void __launch_bounds__(kAttendThreads, 2)    \
      attend_decode_##name(const __grid_constant__ AttendParams p) { \
    let_next_start();                                                \
    wait_for_previous();                                             \
    decode_groups<fp8, dim, stages, shared_bytes>(p);                \
  }
DECODE(bf16_d64, false, 64, 6, kAttendDecodeShared)
DECODE(bf16_d128, false, 128, 3, kAttendDecodeShared)
DECODE(fp8_d128, true, 128, 6, kAttendDecodeSharedFP8)
