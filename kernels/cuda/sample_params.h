// Params of the sampling kernels; see params.h for the forms that this file keeps to.
#pragma once
#include "params.h"

constexpr int32_t kSampleChunk = 2048;  // logits that a block of sample_scan and sample_weigh takes
constexpr int32_t kSampleScanThreads = 256;  // of such a block
constexpr int32_t kSampleThreads = 1024;     // a block of sample_pick and sample_top
constexpr int32_t kSampleChunkBytes = 40;    // of room for each chunk of a row
constexpr int32_t kSampleBins = 256;
constexpr int32_t kSampleMaxTop = 64;

// SampleRow is kernels.SampleRow.
struct SampleRow {
  float temperature;
  int32_t want;
  uint64_t seed;
  uint64_t counter;
};

// SampleOut is kernels.SampleOut.
struct SampleOut {
  int32_t token;
  int32_t argmax;
  float logit;
  float log_sum_exp;
  int32_t finite;
  int32_t unused;
};

// SampleFilter is kernels.SampleFilter.
struct SampleFilter {
  int32_t top_k;
  float top_p;
  float min_p;
  float typical_p;
  float repetition_penalty;
  float presence_penalty;
  float frequency_penalty;
  int32_t bias;
  int32_t biases;
  int32_t count;
  int32_t counts;
};

// TokenBias is kernels.TokenBias.
struct TokenBias {
  int32_t token;
  float bias;
};

// TokenCount is kernels.TokenCount.
struct TokenCount {
  int32_t token;
  int32_t output;
};

// SampleParams: see kernels.SampleParams. chunks is vocab / kSampleChunk, rounded up.
//
// Kernels of sample.cu: sample_scan, sample_weigh.
// Kernels of sample_pick.cu: sample_pick, sample_top.
struct SampleParams {
  const float* logits;          // [rows, vocab]
  const SampleRow* params;      // [rows]
  SampleOut* out;               // [rows]
  const SampleFilter* filters;  // [rows], or null
  const TokenBias* biases;
  const TokenCount* counts;
  int32_t* top_tokens;       // [rows, top_n]
  float* top_logits;         // [rows, top_n]
  void* chunk_room;          // [rows, chunks] of kSampleChunkBytes
  float* edited;             // [rows, vocab]: rows with biases or counts; null without filters
  uint64_t* bin_weights;     // [rows, kSampleBins]; null without filters
  int32_t* bin_counts;       // [rows, kSampleBins]; null without filters
  const int32_t* row_count;  // [1], or null for rows_most
  int32_t rows_most;
  int32_t vocab;
  int32_t top_n;
  int32_t unused;
};
