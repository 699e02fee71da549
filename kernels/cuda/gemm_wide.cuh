// A product of many rows on Hopper's warpgroup instructions: gemm_sm90.cu has the kernels.
//
// A block computes tiles of 128 rows x kOutputs outputs. A ninth warp has the copy engine bring
// steps of 64 columns into a ring of kStages; two warpgroups multiply them, 64 rows each. Blocks go
// on from tile to tile without emptying the ring: copies for the next tile are under way while the
// last one is stored.
//
// What bounds small products is not the memory but how fast tiles get from the second-level cache
// into the multiprocessors, so blocks stand together in clusters of kShareW x kShareX x kSplit:
//   kShareW  blocks with neighbouring rows and the same outputs: each fetches half of the tile of w
//            and sends it to both (1 or 2)
//   kShareX  blocks with neighbouring outputs and the same rows: each fetches a part of the tile of
//            x and sends it to all (1, 2 or 4)
//   kSplit   blocks that have the same tile and divide the columns. Their sums meet in shared memory
//            and are added up in the order of the columns; each block stores its share of the rows
#pragma once
#include "gemm_tile.cuh"
#include "hopper.cuh"

constexpr int kWideWarps = 8;  // that multiply
constexpr int kWideRows = 128;  // of a tile
constexpr int kStepBytes = kStep * 2;
constexpr int kSwizzled = 1024;  // alignment of swizzled tiles
static_assert(kStepBytes == 128 && kWideRows == kWideGemmRows);
static_assert(kWideGemmThreads == (kWideWarps + 1) * kWarp);
static_assert(kWidestGemmThreads == kWideWarps * kWarp + kWarpgroup);

// consumers_meet is a barrier of the warps that multiply.
__device__ inline void consumers_meet() {
  asm volatile("bar.sync 1, %0;" ::"n"(kWideWarps * kWarp) : "memory");
}

// turn4 turns a 4 x 4 square of words in the lanes of a quad: lane t has column t in, row t out.
__device__ inline uint4 turn4(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  const bool upper = threadIdx.x & 2, odd = threadIdx.x & 1;
  const uint32_t first = __shfl_xor_sync(kAllLanes, upper ? a : c, 2);
  const uint32_t second = __shfl_xor_sync(kAllLanes, upper ? b : d, 2);
  // From the lanes 0 or 1, and from 2 or 3.
  const uint32_t low[2] = {upper ? first : a, upper ? second : b};
  const uint32_t high[2] = {upper ? c : first, upper ? d : second};
  const uint32_t low_other = __shfl_xor_sync(kAllLanes, odd ? low[0] : low[1], 1);
  const uint32_t high_other = __shfl_xor_sync(kAllLanes, odd ? high[0] : high[1], 1);
  const uint32_t low_own = odd ? low[1] : low[0], high_own = odd ? high[1] : high[0];
  return odd ? make_uint4(low_other, low_own, high_other, high_own)
             : make_uint4(low_own, low_other, high_own, high_other);
}

// gate is silu(g) · u, both rounded before as sums are, silu's value too.
__device__ inline float gate(float g, float u) {
  g = round_bf16(g);
  return round_bf16(__fdividef(g, 1.0f + __expf(-g))) * round_bf16(u);
}

__device__ inline uint32_t add_pair(uint32_t there, float first, float second) {
  return pack_bf16(lower_bf16(there) + first, upper_bf16(there) + second);
}

template <int kOutputs, int kShareW, int kShareX, int kSplit, int kStages>
struct Wide {
  // With 256 outputs a thread's sums are more than its share of the registers leaves room for: the
  // warps that fetch give theirs away, which only whole warpgroups can.
  static constexpr bool kGives = kOutputs == 256;
  static constexpr int kThreads = kGives ? kWidestGemmThreads : kWideGemmThreads;
  static constexpr int kCluster = kShareW * kShareX * kSplit;
  static constexpr int kXBytes = kWideRows * kStepBytes;
  static constexpr int kWBytes = kOutputs * kStepBytes;
  static constexpr int kStageBytes = kXBytes + kWBytes;
  static constexpr int kBarriers = kStages * kStageBytes;  // where they lie
  static constexpr int kSharedBytes = kBarriers + 2 * kStages * 8 + kSwizzled;
  static constexpr int kXShare = kWideRows / kShareX;  // rows that a block fetches
  static constexpr int kHalf = kOutputs / 2;
  static constexpr int kSumStride = kOutputs + 8;  // floats: the lanes of a quad and its
                                                   // neighbours write to different banks
  // Words of a row that are stored at a time: all where there are registers for it.
  static constexpr int kChunk = kOutputs == 128 ? 8 : kOutputs / 8;
  static constexpr int kSplitRows = kWideRows / kSplit;
  static_assert(kShareW == 1 || kShareW == 2);
  static_assert(kHalf % 16 == 0 && kXShare % 8 == 0 && kCluster <= 8);
  static_assert(kSplit == 1 || kWideRows * kSumStride * 4 <= kBarriers);

  // Place is a tile of outputs.
  struct Place {
    int part;
    int row;           // of the part: where the tile begins
    int output, end;   // of all: where it begins, and where the part ends
  };

  __device__ static Place place(const WideGemmParams& p, int tile) {
    const int part = (tile >= p.tile_ends[0]) + (tile >= p.tile_ends[1]) + (tile >= p.tile_ends[2]);
    const int first_tile = part == 0 ? 0 : p.tile_ends[part - 1];
    const int first = part == 0 ? 0 : p.ends[part - 1];
    Place at;
    at.part = part;
    at.row = (tile - first_tile) * (p.gated ? kHalf : kOutputs);
    at.output = first + at.row;
    at.end = p.ends[part];
    return at;
  }

  // Walk gives a cluster its tiles, in an order in which those that run together share rows of both
  // matrices.
  struct Walk {
    int index, clusters, tiles;
    __device__ explicit Walk(const WideGemmParams& p)
        : index(blockIdx.x / kCluster),
          clusters(gridDim.x / kCluster),
          tiles(p.row_tiles * p.output_tiles) {}
    __device__ bool more() const { return index < tiles; }
    __device__ void next() { index += clusters; }
    __device__ void get(const WideGemmParams& p, int& row_tile, int& output_tile) const {
      const int band = p.group * p.output_tiles;
      const int first = index / band * p.group, in_band = index % band;
      const int rows = min(p.row_tiles - first, p.group);
      row_tile = first + in_band % rows;
      output_tile = in_band / rows;
    }
  };

  // Ring is a position in the ring of stages.
  struct Ring {
    int stage = 0;
    uint32_t parity = 0;
    __device__ void next() {
      if (++stage == kStages) {
        stage = 0;
        parity ^= 1;
      }
    }
  };

  __device__ static uint32_t rank_of(int w, int x, int split) {
    return (w * kShareX + x) * kSplit + split;
  }

  __device__ static void run(const WideGemmParams& p, uint32_t shared) {
    shared = (shared + kSwizzled - 1) & ~(kSwizzled - 1);
    const uint32_t full = shared + kBarriers, empty = full + kStages * 8;
    const int warp = threadIdx.x / kWarp;
    const int rank = kCluster == 1 ? 0 : cluster_rank();
    const int split = rank % kSplit, share_x = rank / kSplit % kShareX,
              share_w = rank / (kSplit * kShareX);
    if (threadIdx.x == kWideWarps * kWarp) {
      prefetch_map(&p.x);
#pragma unroll
      for (int i = 0; i < kMaxParts; i++) prefetch_map(&p.w[i]);
    }
    if (threadIdx.x == 0) {
      for (int s = 0; s < kStages; s++) {
        barrier_make(full + s * 8, 1);
        barrier_make(empty + s * 8, kWideWarps * (kShareW + kShareX - 1));
      }
      barrier_made();
    }
    if (kCluster > 1) {
      cluster_meet();
    } else {
      __syncthreads();
    }
    let_next_begin();

    const int split_steps = (p.steps + kSplit - 1) / kSplit;
    const int first_step = min(split * split_steps, p.steps);
    const int steps = min(split_steps, p.steps - first_step);
    if (warp >= kWideWarps) {
      if (kGives) asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
      if (threadIdx.x == kWideWarps * kWarp) {
        fetch(p, shared, full, empty, share_w, share_x, split, first_step, steps);
      }
      __syncwarp();
    } else {
      if (kGives) asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
      wait_for_previous();
      consume(p, shared, full, empty, share_w, share_x, split, steps);
    }
    // Nobody goes while others may read its memory, send to it or arrive at its barriers.
    if (kSplit > 1) {
      cluster_come();
      cluster_wait();
      if (warp < kWideWarps) {
        finish(p, shared, share_w, share_x, split);
      } else {
        cluster_come();
      }
      cluster_wait();
    } else if (kCluster > 1) {
      cluster_meet();
    }
  }

  // fetch is the work of the thread that keeps the ring full. w does not depend on what ran before:
  // its first tiles are on the way while x is still being made.
  __device__ static void fetch(const WideGemmParams& p, uint32_t shared, uint32_t full,
                               uint32_t empty, int share_w, int share_x, int split, int first_step,
                               int steps) {
    uint16_t x_blocks = 0, w_blocks = 0;
#pragma unroll
    for (int i = 0; i < kShareX; i++) x_blocks |= 1 << rank_of(share_w, i, split);
#pragma unroll
    for (int i = 0; i < kShareW; i++) w_blocks |= 1 << rank_of(i, share_x, split);

    auto fetch_w = [&](const Place& at, int step, int stage) {
      const int column = (first_step + step) * kStep;
      const uint32_t to = shared + stage * kStageBytes + kXBytes;
#pragma unroll
      for (int i = 0; i < 2; i++) {
        if (kShareW == 2 && i != share_w) continue;
        const TensorMap* map = &p.w[p.gated ? i : at.part];
        const int row = p.gated ? at.row : at.row + i * kHalf;
        const uint32_t half = to + i * kHalf * kStepBytes;
        if (kShareW == 2) {
          copy_tile_to(w_blocks, half, map, column, row, full + stage * 8);
        } else {
          copy_tile(half, map, column, row, full + stage * 8);
        }
      }
    };
    auto fetch_x = [&](int row, int step, int stage) {
      const int column = (first_step + step) * kStep;
      const uint32_t to = shared + stage * kStageBytes + share_x * kXShare * kStepBytes;
      row += share_x * kXShare;
      if (kShareX > 1) {
        copy_tile_to(x_blocks, to, &p.x, column, row, full + stage * 8);
      } else {
        copy_tile(to, &p.x, column, row, full + stage * 8);
      }
    };

    Walk walk(p);
    Ring ring;
    int ahead = 0;  // steps of the first tile whose w is on the way
    bool first = true;
    for (; walk.more(); walk.next()) {
      int row_tile, output_tile;
      walk.get(p, row_tile, output_tile);
      const int row = (row_tile * kShareW + share_w) * kWideRows;
      const Place at = place(p, output_tile * kShareX + share_x);
      if (first) {
        for (; ahead < min(kStages, steps); ahead++) {
          barrier_announce(full + ahead * 8, kStageBytes);
          fetch_w(at, ahead, ahead);
        }
        wait_for_previous();
        first = false;
      }
      for (int step = 0; step < steps; step++) {
        if (ahead > 0) {
          ahead--;
        } else {
          barrier_wait(empty + ring.stage * 8, ring.parity ^ 1);
          barrier_announce(full + ring.stage * 8, kStageBytes);
          fetch_w(at, step, ring.stage);
        }
        fetch_x(row, step, ring.stage);
        ring.next();
      }
    }
    if (first) wait_for_previous();
  }

  // consume multiplies what is in the ring, and stores the sums or, where blocks divide the columns,
  // leaves them in shared memory.
  __device__ static void consume(const WideGemmParams& p, uint32_t shared, uint32_t full,
                                 uint32_t empty, int share_w, int share_x, int split, int steps) {
    const int lane = threadIdx.x % kWarp, group = threadIdx.x / kWarpgroup;
    // Whom to tell that a stage is free: the blocks that fetch into it, one a lane.
    const bool tells = lane < kShareX + kShareW - 1;
    const uint32_t fetcher = lane < kShareX
                                 ? rank_of(share_w, lane, split)
                                 : rank_of((share_w + 1) % kShareW, share_x, split);
    const uint32_t empty_there = kCluster > 1 ? there_in(empty, tells ? fetcher : 0)
                                              : empty;
    Ring ring;
    int before = -1;  // the stage that is being multiplied
    auto release = [&](int stage) {
      if (tells) barrier_arrive(empty_there + stage * 8);
    };
    for (Walk walk(p); walk.more(); walk.next()) {
      float sums[kOutputs / 2];
      if (steps == 0) {
#pragma unroll
        for (int i = 0; i < kOutputs / 2; i++) sums[i] = 0;
      }
      for (int step = 0; step < steps; step++) {
        barrier_wait(full + ring.stage * 8, ring.parity);
        const uint32_t at = shared + ring.stage * kStageBytes;
        const uint64_t x = operand_at(at + group * 64 * kStepBytes);
        const uint64_t w = operand_at(at + kXBytes);
        products_begin();
#pragma unroll
        for (int k = 0; k < kStep / 16; k++)
          product_add<kOutputs>(sums, x + 2 * k, w + 2 * k, k > 0 || step > 0);
        products_commit();
        if (before >= 0) {
          products_wait<1>();
          release(before);
        }
        before = ring.stage;
        ring.next();
      }
      products_wait<0>();
      if (before >= 0) release(before);
      before = -1;
      if (kSplit > 1) {
        leave(sums, shared);
        continue;
      }
      int row_tile, output_tile;
      walk.get(p, row_tile, output_tile);
      store(p, sums, (row_tile * kShareW + share_w) * kWideRows,
            place(p, output_tile * kShareX + share_x));
    }
  }

  // store does with the sums of a warpgroup what the product wants.
  __device__ static void store(const WideGemmParams& p, float (&sums)[kOutputs / 2], int first_row,
                               const Place& at) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int t = lane % 4;
    // Gated, the second half of the sums has a bias of its own.
    const bf16* bias[2] = {p.bias[at.part], p.bias[p.gated ? 1 : at.part]};
    if (bias[0] != nullptr || bias[1] != nullptr) {
#pragma unroll
      for (int j = 0; j < kOutputs / 8; j++) {
        const int n = p.gated ? j * 8 % kHalf : j * 8;
        const bf16* from = bias[j * 8 / kHalf];
        if (from == nullptr || at.output + n >= at.end) continue;
        const uint32_t pair = *reinterpret_cast<const uint32_t*>(from + at.row + n + 2 * t);
#pragma unroll
        for (int i = 0; i < 2; i++) {
          sums[4 * j + 2 * i] += lower_bf16(pair);
          sums[4 * j + 2 * i + 1] += upper_bf16(pair);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int row = first_row + warp * 16 + lane / 4 + 8 * i;
      const bool there = row < p.rows;
      const int64_t first = row * p.out_stride + at.output;
      if (p.gated) {
        uint32_t words[kHalf / 8];
#pragma unroll
        for (int j = 0; j < kHalf / 8; j++) {
          const float* g = &sums[4 * j + 2 * i];
          const float* u = &sums[4 * (j + kHalf / 8) + 2 * i];
          words[j] = pack_bf16(gate(g[0], u[0]), gate(g[1], u[1]));
        }
        store_words<kHalf / 8>(static_cast<bf16*>(p.out) + first, words, at.end - at.output, there);
        continue;
      }
      if (p.store == kStoreF32) {
#pragma unroll
        for (int j = 0; j < kOutputs / 8; j++) {
          if (there && at.output + j * 8 < at.end)
            *reinterpret_cast<float2*>(static_cast<float*>(p.out) + first + j * 8 + 2 * t) =
                make_float2(sums[4 * j + 2 * i], sums[4 * j + 2 * i + 1]);
        }
        continue;
      }
      bf16* out = static_cast<bf16*>(p.out) + first;
#pragma unroll
      for (int c = 0; c < kOutputs / 8; c += kChunk) {
        const int count = at.end - at.output - c * 8;
        uint32_t words[kChunk];
        if (p.store == kAddBF16) {
          load_words<kChunk>(words, out + c * 8, count, there);
#pragma unroll
          for (int j = 0; j < kChunk; j++)
            words[j] =
                add_pair(words[j], sums[4 * (c + j) + 2 * i], sums[4 * (c + j) + 2 * i + 1]);
        } else {
#pragma unroll
          for (int j = 0; j < kChunk; j++)
            words[j] = pack_bf16(sums[4 * (c + j) + 2 * i], sums[4 * (c + j) + 2 * i + 1]);
        }
        store_words<kChunk>(out + c * 8, words, count, there);
      }
    }
  }

  // store_words writes a row's words, two outputs each: word j of lane t is outputs 8j + 2t and the
  // next one. The lanes of a quad turn them, so that each writes 16 bytes. count outputs are in the
  // part, a multiple of 8.
  template <int kWords>
  __device__ static void store_words(bf16* out, const uint32_t (&words)[kWords], int count,
                                     bool there) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int j = 0; j + 4 <= kWords; j += 4) {
      const uint4 run = turn4(words[j], words[j + 1], words[j + 2], words[j + 3]);
      if (there && (j + t) * 8 < count) *reinterpret_cast<uint4*>(out + (j + t) * 8) = run;
    }
#pragma unroll
    for (int j = kWords / 4 * 4; j < kWords; j++) {
      if (there && j * 8 < count) *reinterpret_cast<uint32_t*>(out + j * 8 + 2 * t) = words[j];
    }
  }

  // load_words is its reverse, with zeros for what is not there.
  template <int kWords>
  __device__ static void load_words(uint32_t (&words)[kWords], const bf16* out, int count,
                                    bool there) {
    const int t = threadIdx.x % 4;
    uint4 runs[kWords / 4];
#pragma unroll
    for (int j = 0; j < kWords / 4; j++) {
      runs[j] = make_uint4(0, 0, 0, 0);
      if (there && (4 * j + t) * 8 < count)
        runs[j] = *reinterpret_cast<const uint4*>(out + (4 * j + t) * 8);
    }
#pragma unroll
    for (int j = 0; j < kWords / 4; j++) {
      const uint4 turned = turn4(runs[j].x, runs[j].y, runs[j].z, runs[j].w);
      words[4 * j] = turned.x;
      words[4 * j + 1] = turned.y;
      words[4 * j + 2] = turned.z;
      words[4 * j + 3] = turned.w;
    }
#pragma unroll
    for (int j = kWords / 4 * 4; j < kWords; j++) {
      words[j] = 0;
      if (there && j * 8 < count)
        words[j] = *reinterpret_cast<const uint32_t*>(out + j * 8 + 2 * t);
    }
  }

  // leave puts the sums where the ring was: [kWideRows, kSumStride] float32. The last step of both
  // warpgroups is over then, and nothing is on the way: kSplit > 1 has one tile a block.
  __device__ static void leave(const float (&sums)[kOutputs / 2], uint32_t shared) {
    consumers_meet();
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const uint32_t to = shared + ((warp * 16 + lane / 4) * kSumStride + lane % 4 * 2) * 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
      for (int j = 0; j < kOutputs / 8; j++) {
        asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to + (8 * i * kSumStride + j * 8) * 4),
                     "f"(sums[4 * j + 2 * i]), "f"(sums[4 * j + 2 * i + 1])
                     : "memory");
      }
    }
  }

  // total8 is the sums of eight outputs over the blocks that divide the columns.
  __device__ static void total8(float (&sums)[8], uint32_t place, int first_rank) {
#pragma unroll
    for (int s = 0; s < kSplit; s++) {
      const uint32_t there = there_in(place, first_rank + s);
      const float4 a = load_there(there), b = load_there(there + 16);
      const float v[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
      for (int i = 0; i < 8; i++) sums[i] = s == 0 ? v[i] : sums[i] + v[i];
    }
  }

  // add8 adds the eight numbers at an index of a vector, if there is one.
  __device__ static void add8(float (&sums)[8], const bf16* vector, int index) {
    if (vector == nullptr) return;
    float v[8];
    unpack8(v, *reinterpret_cast<const uint4*>(vector + index));
#pragma unroll
    for (int k = 0; k < 8; k++) sums[k] += v[k];
  }

  // finish adds up a block's share of the rows of the tile, comes to the cluster's meeting when it
  // has read the others' sums, and stores.
  __device__ static void finish(const WideGemmParams& p, uint32_t shared, int share_w, int share_x,
                                int split) {
    int row_tile, output_tile;
    const Walk walk(p);
    walk.get(p, row_tile, output_tile);
    const Place at = place(p, output_tile * kShareX + share_x);
    const int first_row = (row_tile * kShareW + share_w) * kWideRows + split * kSplitRows;
    const int first_rank = rank_of(share_w, share_x, 0);
    const int runs = (p.gated ? kHalf : kOutputs) / 8;  // of a row
    constexpr int kThreadRuns = (kSplitRows * kOutputs / 8 + kWideWarps * kWarp - 1) /
                                (kWideWarps * kWarp);
    float sums[kThreadRuns][8];
    auto there = [&](int i) {
      return i < kSplitRows * runs && first_row + i / runs < p.rows &&
             at.output + i % runs * 8 < at.end;
    };
#pragma unroll
    for (int k = 0; k < kThreadRuns; k++) {
      const int i = threadIdx.x + k * kWideWarps * kWarp;
      if (!there(i)) continue;
      const int n = i % runs * 8;
      const uint32_t from = shared + ((split * kSplitRows + i / runs) * kSumStride + n) * 4;
      total8(sums[k], from, first_rank);
      add8(sums[k], p.bias[at.part], at.row + n);
      if (p.gated) {
        float up[8];
        total8(up, from + kHalf * 4, first_rank);
        add8(up, p.bias[1], at.row + n);
#pragma unroll
        for (int e = 0; e < 8; e++) sums[k][e] = gate(sums[k][e], up[e]);
      }
    }
    __syncwarp();
    cluster_come();
#pragma unroll
    for (int k = 0; k < kThreadRuns; k++) {
      const int i = threadIdx.x + k * kWideWarps * kWarp;
      if (!there(i)) continue;
      const int64_t to = (first_row + i / runs) * p.out_stride + at.output + i % runs * 8;
      if (!p.gated && p.store == kStoreF32) {
        float4* out = reinterpret_cast<float4*>(static_cast<float*>(p.out) + to);
        out[0] = make_float4(sums[k][0], sums[k][1], sums[k][2], sums[k][3]);
        out[1] = make_float4(sums[k][4], sums[k][5], sums[k][6], sums[k][7]);
        continue;
      }
      uint4* out = reinterpret_cast<uint4*>(static_cast<bf16*>(p.out) + to);
      if (!p.gated && p.store == kAddBF16) add8(sums[k], reinterpret_cast<const bf16*>(out), 0);
      *out = pack8(sums[k]);
    }
  }
};
