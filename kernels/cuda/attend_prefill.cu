// Attention for many rows of a prompt, on tensor cores; attend.cu has the whole.
//
//   grid   any number of blocks of kAttendThreads threads and kAttendShared64, 128 or 256 bytes of
//          dynamic shared memory: a block takes tiles for a key-value head, the longest first
//
// Bound by tensor cores; by the second-level cache where tiles have few queries.
#include "attend.cuh"

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
  __shared__ int64_t scale_offsets[3][kScaled ? kKeys : 1];
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
    AttendTile tile = p.prefill_tiles[p.counts->prefill_tiles - 1 - unit / (p.kv_heads * slices)];
    const int32_t* const list = tile.row < 0 ? p.shared_rows + ~tile.row : nullptr;
    if (list != nullptr) tile.row = 0;  // rows are counted along the list
    const auto row_at = [&](int i) { return list == nullptr ? tile.row + i : list[i]; };
    const int kv_head = unit / slices % p.kv_heads, slice = unit % slices * kAttendTileQueries;
    const int live = tile.rows * group - slice;
    if (live <= 0) continue;  // the same for all threads
    const uint8_t* const heads = p.kv.base + kv_head * p.head_stride;
    const uint8_t* const head_scales =
        p.kv.base + p.kv.scale_offset + kv_head * p.kv.block_tokens * 4;

    int last[2], lowest = kNever;
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const int query = warp * 16 + g + 8 * h;
      last[h] = query < live ? p.positions[row_at((slice + query) / group)] : kNever;
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
        if constexpr (kScaled)
          scale_offsets[list][threadIdx.x] = my_block * p.kv.block_stride + my_token * 4;
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
            if (d == 0)
              scales[buffer][v][key] =
                  wanted ? *reinterpret_cast<const float*>(head_scales + scale_offsets[list][key] +
                                                           v * p.kv.v_scale_offset)
                         : 0.0f;
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
            load_query(x, p, row_at((slice + query) / group),
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
      float largest[2] = {no_score(), no_score()};  // not in bits yet, but with a scale of each key
#pragma unroll
      for (int n = 0; n < kKeys / 8; n++) {
#pragma unroll
        for (int c = 0; c < 4; c++) {
          const int key = n * 8 + 2 * t + c % 2;
          if constexpr (kScaled) score[n][c] *= scales[buffer][0][key];
          if (!all && places[i % 3][key] > last[c / 2]) score[n][c] = no_score();
          largest[c / 2] = fmaxf(largest[c / 2], score[n][c]);
        }
      }
      float base[2], shrink[2];
      bool grown = false;
#pragma unroll
      for (int h = 0; h < 2; h++) {
        largest[h] = fmaxf(largest[h], __shfl_xor_sync(kAllLanes, largest[h], 1));
        largest[h] = fmaxf(largest[h], __shfl_xor_sync(kAllLanes, largest[h], 2));
        const float most = fmaxf(top[h], largest[h] * bits);
        grown |= most > top[h];
        base[h] = base_of(most);
        shrink[h] = power(top[h] - base[h]);
        top[h] = most;
      }
      if (__any_sync(kAllLanes, grown)) {  // seldom, after the first keys
#pragma unroll
        for (int h = 0; h < 2; h++) {
          sum[h] *= shrink[h];
#pragma unroll
          for (int n = 0; n < kDim / 8; n++) {
            acc[n][2 * h] *= shrink[h];
            acc[n][2 * h + 1] *= shrink[h];
          }
        }
      }
#pragma unroll
      for (int n = 0; n < kKeys / 8; n++) {
#pragma unroll
        for (int c = 0; c < 4; c++) {
          score[n][c] = power(fmaf(score[n][c], bits, -base[c / 2]));
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

#define PREFILL(name, kv, dim, keys, shared_bytes)                    \
  extern "C" __global__ void __launch_bounds__(kAttendThreads, 2)     \
      attend_prefill_##name(const __grid_constant__ AttendParams p) { \
    let_next_start();                                                 \
    wait_for_previous();                                              \
    prefill<kv, dim, keys, shared_bytes>(p);                          \
  }
PREFILL(bf16_d64, BF16KV, 64, 64, kAttendShared64)
PREFILL(bf16_d128, BF16KV, 128, 64, kAttendShared128)
PREFILL(bf16_d256, BF16KV, 256, 32, kAttendShared256)
PREFILL(fp8_d64, FP8KV, 64, 64, kAttendShared64)
PREFILL(fp8_d128, FP8KV, 128, 64, kAttendShared128)
PREFILL(fp8_d256, FP8KV, 256, 32, kAttendShared256)
