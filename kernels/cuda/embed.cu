// Embedding: out[r] = table[tokens[r]], a copy of rows. Bound by latency at decode's sizes.
//
//   tokens [rows], out [rows, cols], table [vocabulary, cols] in up to four parts; tokens below 0
//   point at what was sampled last, so that a step need not wait for the host to know it
//   grid   rows blocks of kRowThreads threads: a block copies a row, 16 bytes a thread where both
//          rows are aligned
#include "device.cuh"

extern "C" __global__ void __launch_bounds__(kRowThreads)
    embed_bf16(const __grid_constant__ EmbedParams p) {
  let_next_start();
  wait_for_previous();
  const int64_t row = blockIdx.x;
  int token = p.tokens[row];
  if (token < 0 && token >= -p.sampled_rows)
    token = p.sampled[static_cast<int64_t>(-1 - token) * p.sampled_stride];
  const bool inside = token >= 0 && token < p.table.ends[kMaxParts - 1];
  const bf16* from = inside ? row_of(p.table, token, p.cols) : nullptr;
  bf16* to = p.out + row * p.cols;
  const bool from_aligned = aligned16(from), to_aligned = aligned16(to);
  for (int c = threadIdx.x * kVector; c < p.cols; c += kRowThreads * kVector) {
    const int count = p.cols - c;
    store8(to + c, count, to_aligned, load8(from + c, inside ? count : 0, from_aligned));
  }
}
