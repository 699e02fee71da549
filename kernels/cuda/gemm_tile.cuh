// A tile of a product on the tensor cores: out[r, n] = w[n] · x[r] + bias[n] for a tile of rows r
// and outputs n, by one block. gemm.cu takes tiles of one matrix, moe.cu of one matrix for each
// expert.
//
//   x [any, x_stride] bfloat16; w [outputs, cols] bfloat16 in up to four parts;
//   out [rows, out_stride]
//
// The block goes along the columns in steps of 64. kStages steps lie in shared memory: while one is
// multiplied the next ones are copied (cp.async). A row of a step is 128 bytes, eight runs of 16;
// run i lies at i ^ (row % 8), so that neither the copies nor ldmatrix meet a bank twice. Columns
// past the end are zeros there. Where rows are not aligned to 16 bytes (odd sizes, in small models
// only) threads gather elements instead of copying.
//
// Sums are float32, from the first column to the last, whatever the tile's size: a row's bits
// depend on neither its neighbours nor the tile. With the bias added they are rounded once: to
// bfloat16, or after adding the bfloat16 that is there (where the reference rounds the product
// too). No atomics.
#pragma once
#include "device.cuh"

constexpr int kStep = 64;  // columns of a step
constexpr int kRuns = kStep / kVector;

// Product is what a block works on.
struct Product {
  const bf16* x;
  const int32_t* index;  // row r of the product reads row index[r] of x, or r without one
  void* out;
  int64_t x_stride;
  int64_t out_stride;
  int first;  // rows first to end: at most a tile's
  int end;
  int first_output;
  int outputs;  // of w, not of the tile
  int cols;
  int store;
};

// store_output does with one sum what the product wants.
__device__ inline void store_output(void* out, int64_t at, int store, float sum) {
  switch (store) {
    case kStoreBF16:
      static_cast<bf16*>(out)[at] = __float2bfloat16_rn(sum);
      break;
    case kStoreF32:
      static_cast<float*>(out)[at] = sum;
      break;
    case kAddBF16: {
      bf16* to = static_cast<bf16*>(out) + at;
      *to = __float2bfloat16_rn(__bfloat162float(*to) + sum);
      break;
    }
  }
}

// store_outputs does it with two neighbours at an aligned place.
__device__ inline void store_outputs(void* out, int64_t at, int store, float first, float second) {
  switch (store) {
    case kStoreBF16:
      *reinterpret_cast<uint32_t*>(static_cast<bf16*>(out) + at) = pack_bf16(first, second);
      break;
    case kStoreF32:
      *reinterpret_cast<float2*>(static_cast<float*>(out) + at) = make_float2(first, second);
      break;
    case kAddBF16: {
      uint32_t* to = reinterpret_cast<uint32_t*>(static_cast<bf16*>(out) + at);
      const uint32_t there = *to;
      *to = pack_bf16(lower_bf16(there) + first, upper_bf16(there) + second);
      break;
    }
  }
}

// Tile is a tile of kRows x kOutputs that kRowWarps x kOutputWarps warps share: each has a tile of
// its own, of 16 x 8 products on the tensor cores.
template <int kRows, int kOutputs, int kRowWarps, int kOutputWarps, int kStages>
struct Tile {
  static constexpr int kThreads = kRowWarps * kOutputWarps * kWarp;
  static constexpr int kStageBytes = (kRows + kOutputs) * kStep * 2;
  static constexpr int kSharedBytes = kStages * kStageBytes;
  static constexpr int kWarpRows = kRows / kRowWarps;
  static constexpr int kWarpOutputs = kOutputs / kOutputWarps;
  static constexpr int kRowTiles = kWarpRows / 16;
  static constexpr int kOutputTiles = kWarpOutputs / 8;
  static constexpr int kPassRows = kThreads / kRuns;  // rows that the threads load at a time
  static constexpr int kRowPasses = kRows / kPassRows;
  static constexpr int kOutputPasses = kOutputs / kPassRows;
  static_assert(kWarpRows % 16 == 0 && kWarpOutputs % 16 == 0);
  static_assert(kRows % kPassRows == 0 && kOutputs % kPassRows == 0);
  static_assert(kPassRows % 8 == 0 && kRuns == 8, "a thread's rows must agree in row % 8");

  // Loader is what a thread loads of a step: run threadIdx.x % 8 of some rows of x and of w. Rows
  // past the end are the last one again: nothing of them is stored.
  struct Loader {
    const bf16* x[kRowPasses];     // at the run of column 0
    const bf16* w[kOutputPasses];  // likewise
    uint32_t to;                   // where the first run goes, from the start of a stage
    int left;                      // columns from the run of column 0 to the end

    __device__ Loader(const Product& p, const WeightParts& weight) {
      const int row = threadIdx.x / kRuns, run = threadIdx.x % kRuns;
      to = row * (kStep * 2) + (run ^ row % 8) * 16;
      left = p.cols - run * kVector;
#pragma unroll
      for (int i = 0; i < kRowPasses; i++) {
        const int r = min(p.first + row + i * kPassRows, p.end - 1);
        const int64_t source = p.index == nullptr ? r : p.index[r];
        x[i] = p.x + source * p.x_stride + run * kVector;
      }
#pragma unroll
      for (int i = 0; i < kOutputPasses; i++) {
        const int n = min(p.first_output + row + i * kPassRows, p.outputs - 1);
        w[i] = row_of(weight, n, p.cols) + run * kVector;
      }
    }

    // load brings the step that begins at column to a stage.
    template <bool kAligned>
    __device__ void load(uint32_t stage, int column) const {
      const int count = left - column;
#pragma unroll
      for (int i = 0; i < kRowPasses; i++)
        run<kAligned>(stage + to + i * kPassRows * kStep * 2, x[i] + column, count);
      stage += kRows * kStep * 2;
#pragma unroll
      for (int i = 0; i < kOutputPasses; i++)
        run<kAligned>(stage + to + i * kPassRows * kStep * 2, w[i] + column, count);
    }

    template <bool kAligned>
    __device__ static void run(uint32_t place, const bf16* from, int count) {
      if (kAligned) {  // then count is a multiple of 8
        copy_async(place, from, count > 0);
      } else {
        store_shared(place, gather8(from, count));
      }
    }
  };

  // multiply adds up the sums of a warp's tile over all columns.
  template <bool kAligned>
  __device__ static void multiply(float (&sums)[kRowTiles][kOutputTiles][4], const Product& p,
                                  const WeightParts& weight, uint32_t shared) {
    const Loader loader(p, weight);
    const int steps = (p.cols + kStep - 1) / kStep;
#pragma unroll
    for (int s = 0; s < kStages - 1; s++) {
      if (s < steps) loader.template load<kAligned>(shared + s * kStageBytes, s * kStep);
      commit_copies();  // also where there is none: the count of groups tells the step
    }

    // Where this lane's addresses for ldmatrix begin. All rows of a lane agree in row % 8.
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int flip = lane % 8;
    const int x_row = warp / kOutputWarps * kWarpRows + lane % 16;
    const int x_run = lane / 16;
    const int w_row = warp % kOutputWarps * kWarpOutputs + lane / 16 * 8 + lane % 8;
    const int w_run = lane / 8 % 2;
    const uint32_t x_base = shared + x_row * (kStep * 2);
    const uint32_t w_base = shared + (kRows + w_row) * (kStep * 2);

    int stage = 0, free_stage = kStages - 1;
    for (int step = 0; step < steps; step++) {
      wait_copies<kStages - 2>();  // this step's are there
      __syncthreads();             // for all threads, and all are done with the stage of the last
      const int ahead = step + kStages - 1;
      if (ahead < steps)
        loader.template load<kAligned>(shared + free_stage * kStageBytes, ahead * kStep);
      commit_copies();

      const uint32_t at = stage * kStageBytes;
#pragma unroll
      for (int k = 0; k < kStep / 16; k++) {
        uint32_t x[kRowTiles][4], w[kOutputTiles / 2][4];
#pragma unroll
        for (int i = 0; i < kRowTiles; i++)
          load_matrices(x[i], x_base + at + i * 16 * kStep * 2 + ((2 * k + x_run) ^ flip) * 16);
#pragma unroll
        for (int i = 0; i < kOutputTiles / 2; i++)
          load_matrices(w[i], w_base + at + i * 16 * kStep * 2 + ((2 * k + w_run) ^ flip) * 16);
#pragma unroll
        for (int i = 0; i < kRowTiles; i++) {
#pragma unroll
          for (int j = 0; j < kOutputTiles; j++)
            multiply_add(sums[i][j], x[i][0], x[i][1], x[i][2], x[i][3], w[j / 2][j % 2 * 2],
                         w[j / 2][j % 2 * 2 + 1]);
        }
      }
      stage = stage + 1 == kStages ? 0 : stage + 1;
      free_stage = free_stage + 1 == kStages ? 0 : free_stage + 1;
    }
  }

  // run computes the tile. shared is the address of kSharedBytes, aligned to 128.
  __device__ static void run(const Product& p, const WeightParts& weight, uint32_t shared) {
    float sums[kRowTiles][kOutputTiles][4] = {};
    if (aligned16(p.x) && p.x_stride % kVector == 0 && rows_aligned(weight, p.cols)) {
      multiply<true>(sums, p, weight, shared);
    } else {
      multiply<false>(sums, p, weight, shared);
    }

    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int first = p.first + warp / kOutputWarps * kWarpRows + lane / 4;
    const int first_output = p.first_output + warp % kOutputWarps * kWarpOutputs + lane % 4 * 2;
    const bool pairs = p.out_stride % 2 == 0 && reinterpret_cast<uintptr_t>(p.out) % 8 == 0;
#pragma unroll
    for (int j = 0; j < kOutputTiles; j++) {
      const int n = first_output + j * 8;
      if (n >= p.outputs) break;
      const bool both = n + 1 < p.outputs;
      const float bias = bias_of(weight, n);
      const float next_bias = both ? bias_of(weight, n + 1) : 0.0f;
#pragma unroll
      for (int i = 0; i < 2 * kRowTiles; i++) {
        const int r = first + i * 8;
        if (r >= p.end) break;
        const float a = sums[i / 2][j][i % 2 * 2] + bias;
        const float b = sums[i / 2][j][i % 2 * 2 + 1] + next_bias;
        const int64_t at = r * p.out_stride + n;
        if (both && pairs) {
          store_outputs(p.out, at, p.store, a, b);
          continue;
        }
        store_output(p.out, at, p.store, a);
        if (both) store_output(p.out, at + 1, p.store, b);
      }
    }
  }
};
