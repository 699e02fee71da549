// How a block of gemv computes its outputs; gemv.cu has the whole.
#pragma once
#include "device.cuh"

constexpr int kGemvWarps = kGemvThreads / kWarp;
constexpr int kWarpStep = 32;                        // columns that a warp takes at a time
constexpr int kBlockStep = kGemvWarps * kWarpStep;   // and a block
constexpr int kSlotBytes = 16 * kGemvThreads;        // a piece of 16 bytes for every thread

// What blocks of a cluster do together. Only kernels with more than one rank call these, and only
// devices that have clusters get such kernels.

__device__ inline void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}

__device__ inline void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// store_at stores to the shared memory of a block of the cluster, where this one's is address.
__device__ inline void store_at(uint32_t address, int rank, float x) {
#if __CUDA_ARCH__ >= 900
  uint32_t there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(there), "f"(x) : "memory");
#endif
}

// Gemv computes products of up to kRows rows. A group is 8 * kTiles rows of w, over whose columns
// kRanks blocks go together. With kNorm x is normalized into shared memory first.
template <int kRows, int kTiles, int kRanks, bool kNorm, int kSlots = kGemvSlots>
struct Gemv {
  static constexpr int kRowTiles = (kRows + 15) / 16;
  static constexpr int kHalves = kRows == 8 ? 1 : 2;  // of 16 rows that are there
  static constexpr int kOutputs = 8 * kTiles;
  static constexpr int kDepth = kSlots / kTiles;  // steps under way from memory
  // Steps whose x a lane has at once: all are waited for together.
  static constexpr int kBatch = kNorm ? 1 : kRows == 8 ? 6 : kRows == 16 ? 4 : 3;
  // Sums of a warp lie in rows of so many floats, so that a warp's stores meet no bank twice.
  static constexpr int kPartStride = kTiles == 1 ? 8 : kOutputs + 8;
  static constexpr int kOwnRows = kRows / kRanks;  // that a block of a cluster stores
  static constexpr int kOwn = (kOwnRows * kOutputs + kGemvThreads - 1) / kGemvThreads;
  static constexpr int kEach = (kRows * kOutputs + kGemvThreads - 1) / kGemvThreads;

  // Shared memory: the pieces of w, sums of the warps, sums of the ranks (two groups), rows of x.
  static constexpr int kRingBytes = kSlots * kSlotBytes;
  static constexpr int kPartBytes = kGemvWarps * kRows * kPartStride * 4;
  static constexpr int kRankBytes = kRanks == 1 ? 0 : 2 * kRows * kOutputs * 4;
  static constexpr int kFixedBytes = kRingBytes + kPartBytes + kRankBytes;
  // row_bytes keeps neighbouring rows 64 bytes apart modulo 128: two rows fill the banks.
  __host__ __device__ static int row_bytes(int cols) { return (2 * cols + 127) / 128 * 128 + 64; }
  __host__ __device__ static int shared_bytes(int cols) {
    return kFixedBytes + (kNorm ? kRows * row_bytes(cols) : 0);
  }

  struct XPieces {
    uint4 of[kRowTiles][kHalves];
  };

  const GemvParams& p;
  const int warp, lane, g, t;
  const int rank, block, blocks;
  const int first_step, end_step;  // of this rank
  const int groups, per_group;     // outputs
  const uint32_t ring;             // this thread's pieces
  float* parts;                    // [kGemvWarps][kRows][kPartStride]
  unsigned char* normed;           // [kRows] of row_bytes
  uint32_t received;               // [2][kRanks][kOwnRows][kOutputs]

  // Where the next step comes from.
  const bf16* w[kTiles];
  int next_group, next_step;

  __device__ Gemv(const GemvParams& params, unsigned char* shared)
      : p(params),
        warp(threadIdx.x / kWarp),
        lane(threadIdx.x % kWarp),
        g(lane / 4),
        t(lane % 4),
        rank(blockIdx.x % kRanks),
        block(blockIdx.x / kRanks),
        blocks(gridDim.x / kRanks),
        first_step((params.cols + kBlockStep - 1) / kBlockStep * rank / kRanks),
        end_step((params.cols + kBlockStep - 1) / kBlockStep * (rank + 1) / kRanks),
        groups((params.outputs + per(params) - 1) / per(params)),
        per_group(per(params)),
        ring(shared_address(shared) + threadIdx.x * 16),
        parts(reinterpret_cast<float*>(shared + kRingBytes)),
        normed(shared + kFixedBytes),
        received(shared_address(shared + kRingBytes + kPartBytes)),
        next_group(block),
        next_step(first_step) {}

  __device__ static int per(const GemvParams& p) {
    return p.store == kGateBF16 ? kOutputs / 2 : kOutputs;
  }

  // row is where this lane's row of tile j of a group begins: the last one's again behind the end.
  __device__ const bf16* row(int group, int j) const {
    int n = group * per_group + j * 8 + g;
    if (p.store != kGateBF16) return row_of(p.w, min(n, p.outputs - 1), p.cols);
    const bool up = j >= kTiles / 2;
    if (up) n -= kOutputs / 2;
    n = min(n, p.outputs - 1);
    return row_of(p.w, up ? n + p.outputs : n, p.cols);
  }

  __device__ void aim() {
    if (next_group >= groups) return;
#pragma unroll
    for (int j = 0; j < kTiles; j++) w[j] = row(next_group, j);
  }

  __device__ int column(int step) const {
    return step * kBlockStep + warp * kWarpStep + t * kVector;
  }

  // fetch asks for the next step's pieces, if there is one.
  __device__ void fetch(int place) {
    if (next_group < groups && next_step < end_step) {
      const int c = column(next_step);
#pragma unroll
      for (int j = 0; j < kTiles; j++)
        copy_async(ring + (place * kTiles + j) * kSlotBytes, w[j] + c, c < p.cols);
      if (++next_step == end_step) {
        next_step = first_step;
        next_group += blocks;
        aim();
      }
    }
    commit_copies();
  }

  // normalize puts RMSNorm(x) into shared memory, a warp a row, as rmsnorm_bf16 does it.
  __device__ void normalize() {
    const int stride = row_bytes(p.cols);
    const bool weight_aligned = aligned16(p.norm);
    constexpr int kHeld = 4, kChunk = kHeld * kWarp * kVector;
    uint4 weights[kHeld];  // they do not depend on the kernel before
#pragma unroll
    for (int i = 0; i < kHeld; i++) {
      const int c = (i * kWarp + lane) * kVector;
      weights[i] = load8(p.norm + c, p.cols - c, weight_aligned);
    }
    wait_for_previous();
    for (int r = warp; r < p.rows; r += kGemvWarps) {
      const bf16* x = p.x + (p.index == nullptr ? r : p.index[r]) * p.x_stride;
      uint4* to = reinterpret_cast<uint4*>(normed + r * stride);
      const bool aligned = aligned16(x);
      float squares = 0;
      for (int first = lane * kVector; first < p.cols; first += kChunk) {
        uint4 v[kHeld];  // all are asked for before the first is stored
#pragma unroll
        for (int i = 0; i < kHeld; i++) {
          const int c = first + i * kWarp * kVector;
          v[i] = load8(x + c, p.cols - c, aligned);
        }
#pragma unroll
        for (int i = 0; i < kHeld; i++) {
          const int c = first + i * kWarp * kVector;
          if (c < p.cols) to[c / kVector] = v[i];
          squares += squares_of(v[i]);
        }
      }
      const float mean = warp_sum(squares) / static_cast<float>(p.cols);
      const float scale = rsqrtf(mean + p.eps);
#pragma unroll
      for (int i = 0; i < kHeld; i++) {
        const int c = (i * kWarp + lane) * kVector;
        if (c < p.cols) to[c / kVector] = normed8(to[c / kVector], weights[i], scale);
      }
#pragma unroll 2
      for (int c = lane * kVector + kChunk; c < p.cols; c += kWarp * kVector)
        to[c / kVector] =
            normed8(to[c / kVector], load8(p.norm + c, p.cols - c, weight_aligned), scale);
    }
    __syncthreads();
  }

  // load_x gives a lane its pieces of x: zeros behind the last row and the last column.
  template <bool kAligned>
  __device__ void load_x(XPieces& x, int step) const {
    const int c = column(step), count = step < end_step ? p.cols - c : 0;
#pragma unroll
    for (int i = 0; i < kRowTiles; i++) {
#pragma unroll
      for (int h = 0; h < kHalves; h++) {
        const int r = i * 16 + h * 8 + g;
        const bool there = r < p.rows && count > 0;
        uint4& v = x.of[i][h];
        v = make_uint4(0, 0, 0, 0);
        if (kNorm) {
          if (there) v = *reinterpret_cast<const uint4*>(normed + r * row_bytes(p.cols) + 2 * c);
        } else if (there) {
          const bf16* from = p.x + r * p.x_stride + c;
          v = kAligned ? *reinterpret_cast<const uint4*>(from) : gather8(from, count);
        }
      }
    }
  }

  // multiply adds a step's products.
  __device__ void multiply(float (&sums)[kRowTiles][kTiles][4], const XPieces& x,
                           const uint4 (&v)[kTiles]) const {
#pragma unroll
    for (int half = 0; half < 2; half++) {  // neighbours do not wait for each other's sums
#pragma unroll
      for (int j = 0; j < kTiles; j++) {
#pragma unroll
        for (int i = 0; i < kRowTiles; i++) {
          const uint4 lower = x.of[i][0];
          const uint4 upper = kHalves == 2 ? x.of[i][kHalves - 1] : make_uint4(0, 0, 0, 0);
          if (half == 0) {
            multiply_add(sums[i][j], lower.x, upper.x, lower.y, upper.y, v[j].x, v[j].y);
          } else {
            multiply_add(sums[i][j], lower.z, upper.z, lower.w, upper.w, v[j].z, v[j].w);
          }
        }
      }
    }
  }

  // sum_group adds up a group's products over this rank's columns. kAligned: rows of w and of x
  // begin at multiples of 16 bytes.
  template <bool kAligned>
  __device__ void sum_group(float (&sums)[kRowTiles][kTiles][4], int group, int& place) {
    const bf16* rows[kTiles];
    if (!kAligned) {
#pragma unroll
      for (int j = 0; j < kTiles; j++) rows[j] = row(group, j);
    }
    constexpr int kTaken = kAligned ? kBatch : 1;
    for (int step = first_step; step < end_step; step += kTaken) {
      XPieces x[kTaken];
#pragma unroll
      for (int b = 0; b < kTaken; b++) load_x<kAligned>(x[b], step + b);
#pragma unroll
      for (int b = 0; b < kTaken; b++) {
        if (step + b >= end_step) break;
        uint4 v[kTiles];
        if (kAligned) {
          wait_copies<kDepth - 1>();
#pragma unroll
          for (int j = 0; j < kTiles; j++)
            v[j] = load_shared(ring + (place * kTiles + j) * kSlotBytes);
        } else {
#pragma unroll
          for (int j = 0; j < kTiles; j++)
            v[j] = gather8(rows[j] + column(step), p.cols - column(step));
        }
        multiply(sums, x[b], v);
        if (kAligned) {  // the products have the pieces: their place is free
          fetch(place);
          place = place + 1 == kDepth ? 0 : place + 1;
        }
      }
    }
  }

  // own says which output the i-th of this thread's is. False: there is none.
  __device__ bool own(int i, int group, int& r, int& o, int& n) const {
    const int e = threadIdx.x + i * kGemvThreads;
    r = e / per_group * kRanks + rank;
    o = e % per_group;
    n = group * per_group + o;
    return r < p.rows && n < p.outputs;
  }

  // finish stores an output, of which sum is w · x, and gate that of the gate.
  __device__ void finish(int r, int n, float sum, float gate, float start) const {
    const int64_t at = r * p.out_stride + n;
    bf16* out = static_cast<bf16*>(p.out) + at;
    switch (p.store) {
      case kStoreBF16:
        *out = __float2bfloat16_rn(sum + bias_of(p.w, n));
        break;
      case kStoreF32:
        static_cast<float*>(p.out)[at] = sum + bias_of(p.w, n);
        break;
      case kAddBF16:
        *out = __float2bfloat16_rn(start + (sum + bias_of(p.w, n)));
        break;
      case kGateBF16: {
        const float x = round_bf16(gate + bias_of(p.w, n));
        const float up = round_bf16(sum + bias_of(p.w, n + p.outputs));
        *out = __float2bfloat16_rn(round_bf16(x / (1.0f + expf(-x))) * up);
        break;
      }
    }
  }

  // sum_of_warps is the sum of an output over this block's columns.
  __device__ float sum_of_warps(int r, int o) const {
    float sum = 0;
#pragma unroll
    for (int k = 0; k < kGemvWarps; k++) sum += parts[(k * kRows + r) * kPartStride + o];
    return sum;
  }

  __device__ void run() {
    let_next_start();
    const bool w_aligned = rows_aligned(p.w, p.cols);
    if (w_aligned) {
      aim();
#pragma unroll
      for (int d = 0; d < kDepth; d++) fetch(d);
    }
    if (kRanks > 1) cluster_arrive();  // the others have begun
    if (kNorm) {
      normalize();
    } else {
      wait_for_previous();
    }
    if (kRanks > 1) cluster_wait();

    const bool aligned = w_aligned && (kNorm || (aligned16(p.x) && p.x_stride % kVector == 0));
    int place = 0, turn = 0;
    for (int group = block; group < groups; group += blocks, turn ^= 1) {
      float start[kOwn] = {};
      if (p.store == kAddBF16) {
#pragma unroll
        for (int i = 0; i < kOwn; i++) {
          int r, o, n;
          if (own(i, group, r, o, n))
            start[i] = __bfloat162float(static_cast<const bf16*>(p.out)[r * p.out_stride + n]);
        }
      }
      float sums[kRowTiles][kTiles][4] = {};
      if (aligned) {
        sum_group<true>(sums, group, place);
      } else {
        sum_group<false>(sums, group, place);
      }

      if (group != block) __syncthreads();  // the sums of the last group have been read
#pragma unroll
      for (int i = 0; i < kRowTiles; i++) {
#pragma unroll
        for (int h = 0; h < kHalves; h++) {
#pragma unroll
          for (int j = 0; j < kTiles; j++)
            *reinterpret_cast<float2*>(
                &parts[(warp * kRows + i * 16 + h * 8 + g) * kPartStride + j * 8 + 2 * t]) =
                make_float2(sums[i][j][2 * h], sums[i][j][2 * h + 1]);
        }
      }
      __syncthreads();

      if (kRanks > 1) {  // rows are the ranks' in turn
        const uint32_t to = received + (turn * kRanks + rank) * kOwnRows * kOutputs * 4;
#pragma unroll
        for (int i = 0; i < kEach; i++) {
          const int e = threadIdx.x + i * kGemvThreads, r = e / kOutputs, o = e % kOutputs;
          if (r >= p.rows) continue;
          store_at(to + (r / kRanks * kOutputs + o) * 4, r % kRanks, sum_of_warps(r, o));
        }
        cluster_arrive();
        cluster_wait();
      }
#pragma unroll
      for (int i = 0; i < kOwn; i++) {
        int r, o, n;
        if (!own(i, group, r, o, n)) continue;
        if (kRanks == 1) {
          const bool gated = p.store == kGateBF16;
          const float sum = sum_of_warps(r, gated ? o + kOutputs / 2 : o);
          finish(r, n, sum, gated ? sum_of_warps(r, o) : 0.0f, start[i]);
          continue;
        }
        float sum = 0, gate = 0;
#pragma unroll
        for (int k = 0; k < kRanks; k++) {
          const uint32_t at =
              received + (((turn * kRanks + k) * kOwnRows + r / kRanks) * kOutputs + o) * 4;
          if (p.store == kGateBF16) {
            gate += load_shared_float(at);
            sum += load_shared_float(at + kOutputs / 2 * 4);
          } else {
            sum += load_shared_float(at);
          }
        }
        finish(r, n, sum, gate, start[i]);
      }
    }
    if (w_aligned) wait_copies<0>();
  }
};
