// The params of the kernels, one struct each, passed by value. The Go twins, the numbers of the
// constants and the checks of sizes and offsets are generated from this file: `go generate` in this
// folder. So it keeps to a few forms: a constant, a struct, a field `type name;` or `type name[n];`
// of a fixed-width type, of a pointer or of a struct above, and comments. Fields leave no gaps. A
// struct's comment says in which file its kernels are.
#pragma once
#include <cuda_bf16.h>
#include <stdint.h>

#include "tensor_map.h"

using bf16 = __nv_bfloat16;

constexpr int32_t kMaxParts = 4;      // of a weight
constexpr int32_t kMaxHeadDim = 256;  // a multiple of 8
constexpr int32_t kMaxExperts = 1024;
constexpr int32_t kMaxTopK = 32;
constexpr int32_t kRowThreads = 256;    // a block of embed, rmsnorm, silu_mul and moe_combine
constexpr int32_t kNormRows = 8;        // rows that a block of rmsnorm takes
constexpr int32_t kVector = 8;          // elements that a thread takes at a time: 16 bytes
constexpr int32_t kHeadWarps = 4;       // heads that a block of qk_norm_rope_write takes
constexpr int32_t kRouteWarps = 4;      // rows that a block of moe_route takes
constexpr int32_t kSortThreads = 1024;  // a block of moe_sort
constexpr int32_t kProbeThreads = 256;  // a block of probe_read and probe_mma

// How gemm's tiles lie: rows of x, outputs, threads, and the shared memory that a block asks for at
// launch.
constexpr int32_t kGemmLargeRows = 128;
constexpr int32_t kGemmLargeOutputs = 128;
constexpr int32_t kGemmLargeThreads = 256;
constexpr int32_t kGemmLargeShared = 98304;
constexpr int32_t kGemmSmallRows = 64;
constexpr int32_t kGemmSmallOutputs = 64;
constexpr int32_t kGemmSmallThreads = 128;
constexpr int32_t kGemmSmallShared = 65536;

// How gemm_sm90 divides the work: rows of a tile; threads of a block, and of one with the most
// outputs.
constexpr int32_t kWideGemmRows = 128;
constexpr int32_t kWideGemmThreads = 288;
constexpr int32_t kWidestGemmThreads = 384;

// How gemv divides the work: at most so many rows of x; threads of a block; pieces of 16 bytes that
// a thread has under way from memory. Rows and outputs of a block are in the kernel's name, and
// over how many blocks the columns are divided.
constexpr int32_t kGemvRows = 32;
constexpr int32_t kGemvThreads = 256;
constexpr int32_t kGemvSlots = 16;
constexpr int32_t kGemvRanks = 4;
constexpr int32_t kGemvNormBytes = 67584;  // of normalized x, at most

// What a product does with its sums, to which a bias is added first: round to bfloat16 and store;
// store as float32; add to the bfloat16 that is there and round once; round, and store silu of the
// first half times the second half as bfloat16 (only gemv).
constexpr int32_t kStoreBF16 = 0;
constexpr int32_t kStoreF32 = 1;
constexpr int32_t kAddBF16 = 2;
constexpr int32_t kGateBF16 = 3;

// Element types of the key-value cache. With float8 (e4m3) a head has a float32 scale, which lies
// apart.
constexpr int32_t kKVBF16 = 0;
constexpr int32_t kKVF32 = 1;
constexpr int32_t kKVFP8 = 2;

// WeightParts is a bfloat16 matrix, row-major, that lies in up to four runs of rows. Rows are as
// far apart as there are columns.
struct WeightParts {
  const bf16* data[kMaxParts];  // [ends[i] - ends[i-1], cols]
  const bf16* bias[kMaxParts];  // [ends[i] - ends[i-1]], or null
  int32_t ends[kMaxParts];      // first row after the part; unused parts repeat the last one's
};

// EmbedParams: out[r] = table[tokens[r]]; zeros for a token outside the table. A token -(i+1) stands
// for sampled[i]'s.
//
// Kernels of embed.cu: embed_bf16.
struct EmbedParams {
  const int32_t* tokens;   // [rows]
  const int32_t* sampled;  // [any, sampled_stride], the token first: SampleOut; or null
  bf16* out;              // [rows, cols]
  WeightParts table;
  int32_t rows;
  int32_t cols;
  int32_t sampled_rows;  // a token that points beyond them is outside the table
  int32_t sampled_stride;
};

// RMSNormParams: out[i] = RMSNorm(x[index[i]], weight).
//
// Kernels of norm.cu: rmsnorm_bf16.
struct RMSNormParams {
  const bf16* x;         // [any, cols]
  const int32_t* index;  // [rows] into x, or null for row i itself
  const bf16* weight;    // [cols]
  bf16* out;             // [rows, cols]
  int32_t rows;
  int32_t cols;
  float eps;
  int32_t unused;
};

// GemmParams: out[r, n] = w[n] · x[r] + bias[n]; what is done with it is store's.
//
// Kernels of gemm.cu: gemm_large_bf16, gemm_small_bf16.
struct GemmParams {
  const bf16* x;  // [rows, x_stride]
  void* out;      // [rows, out_stride] bfloat16 or float32
  WeightParts w;  // [outputs, cols]
  int64_t x_stride;
  int64_t out_stride;
  int32_t rows;
  int32_t cols;
  int32_t outputs;
  int32_t store;
};

// GemvParams: out[r, n] = w[n] · y[r] + bias[n] with y[r] = RMSNorm(x[index[r]], norm), or x[r] where
// norm is null; what is done with it is store's. For kGateBF16 w has twice as many rows as there are
// outputs.
//
// Kernels of gemv.cu: gemv_8x8_bf16, gemv_8x16_bf16, gemv_8x32_bf16, gemv_8x32_k4_bf16.
// Kernels of gemv.cu: gemv_16x8_bf16, gemv_16x16_bf16, gemv_16x32_bf16, gemv_16x32_k4_bf16.
// Kernels of gemv.cu: gemv_32x8_bf16, gemv_32x16_bf16, gemv_32x32_bf16, gemv_32x32_k4_bf16.
// Kernels of gemv.cu: gemv_8x16_normed_bf16, gemv_8x32_normed_bf16, gemv_16x16_normed_bf16, gemv_16x32_normed_bf16.
struct GemvParams {
  const bf16* x;         // [any, x_stride]
  const int32_t* index;  // [rows] into x, or null for row r itself
  const bf16* norm;      // [cols], or null
  void* out;             // [rows, out_stride] bfloat16 or float32
  WeightParts w;         // [outputs, cols], or [2 * outputs, cols]
  int64_t x_stride;
  int64_t out_stride;
  int32_t rows;
  int32_t cols;
  int32_t outputs;
  int32_t store;
  float eps;
  int32_t unused;
};

// WideGemmParams: a product like GemmParams', of matrices that the copy engine can read: cols and all
// ends are multiples of 8, addresses of 16 bytes. A tile of outputs lies within a part. Gated, w is
// gate and up, of as many outputs each, ends are gate's, and out[r] = silu(gate[r]) ⊙ up[r].
//
// Kernels of gemm_sm90.cu: sm90_gemm_128_w1x1k1, sm90_gemm_64_w1x1k4, sm90_gemm_64_w1x1k2, sm90_gemm_128_w2x1k4.
// Kernels of gemm_sm90.cu: sm90_gemm_192_w1x1k1, sm90_gemm_192_w1x1k4, sm90_gemm_192_w1x1k2, sm90_gemm_128_w2x1k1.
// Kernels of gemm_sm90.cu: sm90_gemm_256_w2x1k1.
struct WideGemmParams {
  TensorMap x;                  // [rows, cols], boxes of a block's share of a tile's rows
  TensorMap w[kMaxParts];       // [outputs of the part, cols], boxes of half a tile's outputs
  void* out;                    // [rows, out_stride] bfloat16 or float32
  const bf16* bias[kMaxParts];  // [outputs of the part], or null
  int64_t out_stride;
  int32_t ends[kMaxParts];       // first output after the part; unused parts repeat the last one's
  int32_t tile_ends[kMaxParts];  // first tile of outputs after the part, likewise
  int32_t rows;
  int32_t steps;         // of 64 columns, the last one maybe less
  int32_t row_tiles;     // of a cluster
  int32_t output_tiles;  // of a cluster
  int32_t group;         // row tiles that are taken before the next output tile
  int32_t store;
  int32_t gated;
  int32_t unused[5];
};

// SiluMulParams: out[r] = silu(gate_up[r, :inner]) ⊙ gate_up[r, inner:].
//
// Kernels of silu.cu: silu_mul_bf16.
struct SiluMulParams {
  const bf16* gate_up;  // [rows, 2 * inner]
  bf16* out;            // [rows, inner]
  int32_t rows;
  int32_t inner;
};

// ProbeParams: read count runs of 16 bytes, or make steps steps of products, and keep nothing.
//
// Kernels of probe.cu: probe_read, probe_mma_bf16.
struct ProbeParams {
  const uint8_t* data;  // [16 * count], aligned to 16 bytes
  uint32_t* sink;       // [1]
  int64_t count;
  int64_t steps;  // a multiple of 8
};

// KVCache is where one layer's keys and values lie: the key of head h at token t of block b begins
// at base + b * block_stride + t * token_stride + h * bytes of a head; the value is v_offset
// further. With float8 the scale of that key is at base + b * block_stride + scale_offset + 4 * (h *
// block_tokens + t), and the value's v_scale_offset further.
struct KVCache {
  uint8_t* base;
  int64_t block_stride;
  int64_t v_offset;
  int64_t token_stride;
  int64_t scale_offset;
  int64_t v_scale_offset;
  int32_t block_tokens;
  int32_t type;
};

// QKNormRopeWriteParams: see kernels.QKNormRopeWriteParams.
//
// Kernels of rope.cu: qk_norm_rope_write_bf16.
struct QKNormRopeWriteParams {
  bf16* qkv;                 // [rows, (heads + 2 * kv_heads) * head_dim]
  const bf16* q_norm;        // [head_dim], or null
  const bf16* k_norm;        // [head_dim], or null
  const float* rope;         // [positions, head_dim]
  const int32_t* positions;  // [rows]
  const int32_t* slots;      // [rows]
  KVCache kv;
  int32_t rows;
  int32_t heads;
  int32_t kv_heads;
  int32_t head_dim;
  float eps;
  int32_t unused;
};

// MoERouteParams: the top_k experts of each row, ascending, and their probabilities. See
// kernels.MoEParams.
//
// Kernels of moe.cu: moe_route_f32.
struct MoERouteParams {
  const float* logits;  // [rows, experts]
  int32_t* chosen;      // [rows, top_k]
  float* weights;       // [rows, top_k]
  int32_t rows;
  int32_t experts;
  int32_t top_k;
  int32_t normalize;
};

// MoETile is a run of sorted pairs of one expert that a block of moe_gemm takes.
struct MoETile {
  int32_t expert;
  int32_t first;
  int32_t end;
  int32_t unused;
};

// MoESortParams: the pairs of (row, choice) in the order of their experts, and of their rows within
// one.
//
// Kernels of moe.cu: moe_sort.
struct MoESortParams {
  const int32_t* chosen;  // [rows, top_k]
  int32_t* source;        // [rows * top_k]: the row of the i-th sorted pair
  int32_t* place;         // [rows, top_k]: where a pair went
  MoETile* tiles;         // [MoETiles(rows * top_k, experts)]
  int32_t* tile_count;    // [1]
  int32_t rows;
  int32_t experts;
  int32_t top_k;
  int32_t unused;
};

// MoEGemmParams: out[i, n] = w[n] · x[index[i]] + bias[n] for the i-th sorted pair with its
// expert's w.
//
// Kernels of moe.cu: moe_gemm_bf16.
struct MoEGemmParams {
  const bf16* x;               // [any, cols]
  const int32_t* index;        // [pairs] into x, or null for row i itself
  void* out;                   // [pairs, outputs] bfloat16 or float32
  const WeightParts* experts;  // [experts] in device memory, of [outputs, cols]
  const MoETile* tiles;
  const int32_t* tile_count;
  int32_t max_tiles;  // MoETiles: the grid's
  int32_t cols;
  int32_t outputs;
  int32_t store;
};

// MoECombineParams: out[r] += sum over k of weights[r, k] · down[place[r, k]], experts in ascending
// order.
//
// Kernels of moe.cu: moe_combine_bf16.
struct MoECombineParams {
  const float* down;     // [pairs, cols]
  const float* weights;  // [rows, top_k]
  const int32_t* place;  // [rows, top_k]
  bf16* out;             // [rows, cols]
  int32_t rows;
  int32_t cols;
  int32_t top_k;
  int32_t unused;
};
