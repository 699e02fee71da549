// Params of the attention kernels; see params.h for the forms that this file keeps to.
#pragma once
#include "params.h"

constexpr int32_t kAttendThreads = 128;       // a block of all attend kernels but attend_plan
constexpr int32_t kAttendPlanThreads = 1024;  // the one block of attend_plan
constexpr int32_t kAttendTileQueries = 64;  // queries (row, head of a group) of a tensor-core tile
constexpr int32_t kAttendSplitStep = 16;    // parts of a walk are multiples of it
constexpr int32_t kAttendDecodeCost = 160;  // tokens that take as long as a part of a decoded row
constexpr int32_t kAttendSharedSplit = 128;  // least tokens of a part that rows share
constexpr int32_t kAttendSharedStep = 64;    // such parts are multiples of it
constexpr int32_t kAttendSharedCost = 128;   // tokens in whose time such a part begins and ends

// How many bytes of dynamic shared memory a block of the tensor-core kernels asks for.
constexpr int32_t kAttendDecodeShared = 98304;
constexpr int32_t kAttendDecodeSharedFP8 = 101376;
constexpr int32_t kAttendShared64 = 46080;
constexpr int32_t kAttendShared128 = 87040;
constexpr int32_t kAttendShared256 = 101376;

// AttendItem is kernels.WorkItem: a run of rows that walk the same segments.
struct AttendItem {
  int32_t row;
  int32_t rows;
  int32_t segment;
  int32_t segments;
};

// AttendSegment is kernels.WorkSegment: a run of tokens in the cache.
struct AttendSegment {
  int32_t block;   // in blocks
  int32_t off;     // tokens to skip in the first block
  int32_t len;     // tokens
  int32_t pos;     // logical position of the first token
  int32_t stored;  // position the keys were rotated for
};

// AttendTile is what one block does at a time for one key-value head: rows that walk the same
// tokens.
struct AttendTile {
  int32_t row;      // the first; below 0: the rows are listed in shared_rows from ~row on
  int32_t rows;
  int32_t segment;  // where the walk begins
  int32_t skip;     // tokens of that segment before it
  int32_t tokens;   // of the walk, which goes on over the segments behind
  int32_t part;     // row r's partial result is part + r - row; -1: the result is whole
  int32_t first;    // the first part and
  int32_t parts;    // the number of parts of a tile of one row, where it has any
};

// AttendMerge is a row whose result lies in parts.
struct AttendMerge {
  int32_t row;
  int32_t first;  // in part_list
  int32_t parts;
};

// AttendCounts are the numbers of list entries of a step.
struct AttendCounts {
  int32_t decode_tiles;
  int32_t prefill_tiles;
  int32_t merges;
  int32_t unused;
};

// AttendPlanParams: the tiles of a step's work list, which are the same for all its layers. Only
// grid sizes are fixed by the host: all counts are read from and written to device memory.
//
// Kernels of attend_plan.cu: attend_plan.
struct AttendPlanParams {
  const AttendItem* items;
  const AttendSegment* segments;
  const int32_t* positions;    // [rows]
  const int32_t* item_count;   // [5] of kernels.Work.Counts, or null for items_most, shared_most
  AttendCounts* counts;        // [1]
  AttendTile* decode_tiles;    // [rows + parts_most]
  AttendTile* prefill_tiles;   // [rows + parts_most]
  AttendMerge* merges;         // [rows]
  int32_t* part_list;          // [parts_most]
  const AttendItem* shared;    // items whose rows are listed in shared_rows
  const int32_t* shared_rows;  // [any]
  int32_t* row_parts;          // [rows]: parts of shared items; null: nothing is shared
  int32_t* row_first;          // [rows] in shared_list
  int32_t* shared_list;        // [parts_most]
  int32_t* done;               // [rows, kv_heads], is set to 0; or null
  int32_t items_most;          // no more items than this are read
  int32_t parts_most;          // partial results that there is room for; 0: nothing is split
  int32_t group;               // query heads of a key-value head
  int32_t decode_queries;      // of the decode kernel in use
  int32_t only_decode;         // 1: the decode kernel takes all rows
  int32_t decode_split;        // least tokens of a part of a decoded row, a multiple of 64
  int32_t decode_splits;       // most parts of it
  int32_t prefill_split;       // tokens of a part where few rows of a prompt are computed
  int32_t prefill_split_rows;  // that many; 0: never
  int32_t shared_most;         // no more shared items than this are read
  int32_t shared_tiles;        // tiles of shared items that keep the machine busy
  int32_t rows;                // of the step
  int32_t done_most;           // numbers in done
  int32_t decode_tiles_busy;   // tiles of decoded rows that keep the machine busy
};

// AttendParams: see kernels.AttendParams. Keys and values of a token are head_stride bytes apart
// from head to head.
//
// Kernels of attend.cu: attend_decode_q2_bf16_d64, attend_decode_q4_bf16_d64, attend_decode_q8_bf16_d64.
// Kernels of attend.cu: attend_decode_q2_bf16_d128, attend_decode_q4_bf16_d128, attend_decode_q8_bf16_d128.
// Kernels of attend.cu: attend_decode_q2_bf16_d256, attend_decode_q4_bf16_d256, attend_decode_q8_bf16_d256.
// Kernels of attend.cu: attend_decode_q2_fp8_d64, attend_decode_q4_fp8_d64, attend_decode_q8_fp8_d64.
// Kernels of attend.cu: attend_decode_q2_fp8_d128, attend_decode_q4_fp8_d128, attend_decode_q8_fp8_d128.
// Kernels of attend.cu: attend_decode_q2_fp8_d256, attend_decode_q4_fp8_d256, attend_decode_q8_fp8_d256.
// Kernels of attend.cu: attend_decode_q4_f32_d64, attend_decode_q4_f32_d128, attend_decode_q4_f32_d256.
// Kernels of attend_decode.cu: attend_decode_bf16_d64, attend_decode_bf16_d128, attend_decode_fp8_d128.
// Kernels of attend_prefill.cu: attend_prefill_bf16_d64, attend_prefill_bf16_d128, attend_prefill_bf16_d256.
// Kernels of attend_prefill.cu: attend_prefill_fp8_d64, attend_prefill_fp8_d128, attend_prefill_fp8_d256.
// Kernels of attend.cu: attend_merge_bf16, attend_simple_bf16.
struct AttendParams {
  const bf16* q;             // [rows, q_stride]
  bf16* out;                 // [rows, heads, head_dim]
  const int32_t* positions;  // [rows]
  const float* rope;         // [positions, head_dim]
  KVCache kv;
  int64_t head_stride;  // bytes
  const AttendSegment* segments;
  const int32_t* blocks;
  const AttendCounts* counts;
  const AttendTile* decode_tiles;
  const AttendTile* prefill_tiles;
  const AttendMerge* merges;
  const int32_t* part_list;
  const int32_t* shared_rows;  // these four are as in AttendPlanParams
  const int32_t* row_parts;
  const int32_t* row_first;
  const int32_t* shared_list;
  int32_t* done;              // [rows, kv_heads], 0: parts that are there; null: attend_merge follows
  float* part_values;         // [parts_most, heads, head_dim]: sums of weighted values
  float* part_weights;        // [parts_most, heads, 2]: largest score, in bits; sum of weights
  const AttendItem* items;    // read by attend_simple only
  const int32_t* item_count;  // likewise; or null for items_most
  int64_t q_stride;           // elements
  int32_t heads;
  int32_t kv_heads;
  int32_t head_dim;
  int32_t items_most;
  float scale;
  int32_t unused;
};
