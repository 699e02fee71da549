// The arguments of the CPU kernels. args.go describes them; sizes and offsets are compared when the Go side compiles.

#ifndef QUIRE_CPU_H
#define QUIRE_CPU_H

#include <stdint.h>

// A kernel takes units from the queue until none is left; several threads run it on the same arguments.
struct queue {
  int64_t next, units, grain, share;
};

struct norm_args {
  struct queue queue;
  const float *x;
  const int32_t *index;
  const char *norm;
  void *out;
  int64_t cols, out_stride;
  float eps, pad;
};

struct gate_args {
  struct queue queue;
  const float *in;
  void *out;
  int64_t cols, out_stride;
};

struct matmul_part {
  const char *data, *bias;
  int64_t rows;
};

struct matmul_args {
  struct queue queue;
  const void *x;
  float *y;
  const struct matmul_part *parts;
  int64_t part_count, rows, cols, x_stride, y_cols, chunk_rows, block_rows, blocks, add;
};

// The place of the scale in a row of cols int16: the float32 that they were made from lay before it.
#define INT8_SCALE_AT(cols) (4 * (((cols) + 63) & ~(int64_t)63))

struct int8_args {
  struct queue queue;
  const void *x;
  float *y;
  const struct matmul_part *parts;
  int64_t part_count, rows, cols, x_stride, y_cols, chunk_rows, block_groups, blocks, block, group_bytes, add;
};

enum { kv_bf16, kv_f32, kv_i8 };  // kind

struct kv_args {
  char *base;
  int64_t bytes, block_stride, v_offset, token_stride, head_stride, block_tokens, kind;
};

struct rotate_args {
  struct queue queue;
  float *qkv;
  const char *q_norm, *k_norm;
  const float *rope;
  const int32_t *positions, *slots;
  struct kv_args kv;
  int64_t heads, kv_heads, head_dim;
  float eps, pad;
};

// attend_room is the memory that a thread has for itself, in bytes; key_tile is how many keys are met at once, and
// stretch_tokens how many tokens are summed apart.
enum { attend_room = 512 << 10, key_tile = 64, stretch_tokens = 512 };

struct attend_tile {
  int32_t row, rows, segment, segments, stretch, from;
};

// partial is what a query has summed: weights, the score that they are relative to, and weighted values, of which as many
// count as a head has.
struct partial {
  float total[16], top, pad[15], acc[256];
};

// How attend walks the tiles.
enum { attend_whole, attend_stretch, attend_merge };

struct attend_segment {
  int32_t block, off, len, pos, stored;
};

struct attend_args {
  struct queue queue;
  const float *q;
  float *out;
  const int32_t *positions;
  const float *rope;
  const struct attend_tile *tiles;
  const struct attend_segment *segments;
  const int32_t *blocks;
  struct kv_args kv;
  char *rooms, *slots;
  const int32_t *bases, *rows;
  int64_t taken, mode, slot_bytes;
  int64_t rope_len, block_count, q_stride, heads, kv_heads, head_dim;
  float scale, pad;
};

struct sample_row {
  float temperature;
  int32_t want;
  uint64_t seed, counter;
};

struct chunk_max {
  float value;
  int32_t finite;
};

struct chunk_sum {
  double plain, tempered;
};

struct sample_args {
  struct queue queue;
  const float *logits;
  const struct sample_row *params;
  const float *row_max;
  struct chunk_max *maxima;
  struct chunk_sum *sums;
  int64_t vocab, chunks, chunk_len;
};

struct candidate {
  double score;
  uint64_t weight;
  int32_t id, pad;
};

#define FILTER_BLOCK 256  // a multiple of every set's SPAN

struct filter_row {
  const float *logits;
  float *peaks;
  uint64_t *sums;
  double *moments;
  struct candidate *room;
  int64_t *counts;
  double largest, temperature;
  float mark, pad;
};

struct filter_args {
  struct queue queue;
  const char *rows;
  int64_t row_bytes, vocab, chunks, chunk_len;
};

typedef void kernel(void *args);

// The kernels of one set.
struct kernel_set {
  kernel *norm, *gate, *matmul, *rotate, *attend, *maxima, *sums, *peaks, *weigh, *gather, *int8_norm, *int8_gate,
      *int8_matmul;
};

// pool is what a worker sees of pool.go's rounds.
struct pool {
  uint64_t state;
  uint32_t waiting, pad;
  kernel *compiled;
  void *args;
};

#define pool_open ((uint64_t)1 << 31)

// Why quire_stay returns: nothing came for a while; the owner sleeps, and this was the last worker that it waits for; the
// worker has joined a round whose kernel is not compiled.
enum { pool_left, pool_last, pool_joined };

// quire_stay computes the round that a worker has joined, and then others that come within spin_nanos of each other. *round
// is the last one it has joined.
int quire_stay(struct pool *p, uint64_t *round, int64_t spin_nanos);

extern const struct kernel_set quire_avx512bf16, quire_avx512, quire_avx2, quire_portable;

static inline void quire_run(kernel *k, void *args) { k(args); }

#endif
