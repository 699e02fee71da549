// The CPU kernels, written over a vector of LANES floats that the including file gives:
//
//   vf                      LANES float32; + − · / work on it
//   load store splat zero   unaligned memory, one value to all lanes
//   madd(a, b, c)            a·b + c
//   above(a, b) below(a, b) the larger, the smaller; b where either is NaN
//   round_even power2(n)    nearest integer; 2^n for whole n in −126..127
//   sum(v) sum4(p, a,b,c,d) of all lanes; four of them to p, with the same bits
//   highest(v)              the largest of all lanes
//   transpose(v)            of LANES vectors
//   turn_fours(v)           of 4 × 4 lanes in each of the PARTS of four vectors, a part being four lanes
//   fold(v)                 the sum of the parts of vector p, in order, as part p
//   widen(p)                LANES bfloat16 at any address
//   from_int8(p)            LANES int8 at any address
//   even(p) odd(p)          the even or odd ones of 2·LANES bfloat16 at any address: cheaper than widen
//   split(a, b, &e, &o)     the even and odd elements of the 2·LANES floats a, b
//   keep(v)                 v, in a register: stops the compiler from loading it again at each use
//   any_reaches(v, mark)    whether any lane of v is at least mark's
//   vd                      LANES / 2 doubles; + − · / work on it
//   doubles splat_double    floats at any address, one value to all lanes
//   larger(a, b)            the larger
//   whole(v) whole_int(v)   rounded down, for 0 ≤ v < 2^51 and 0 ≤ v < 2^31
//   TILE_X TILE_W           rows of x and of W in matmul's register tile, at most
//   TILE_BYTES              of x in a tile, at most
//   WIDTH(nx)               rows of W that go with nx rows of x
//   ATTEND_QUERIES, ATTEND_COLUMNS   queries and vectors of keys or values in attention's register tile; FEW_COLUMNS for
//                           up to four queries
//
// and, in a set with DOTS, whose products take bfloat16 on both sides:
//
//   vh pairs(p)             2·LANES bfloat16 at any address
//   dot(a, b, c)            c + the sum of each lane's pair of products
//   narrow(p, a, b)         2·LANES float32 to p as bfloat16, to the nearest; narrowed(a, b) in a register
//   spread(p)               the pair of bfloat16 at any address to all lanes; first_of_pairs(v) takes the others for 0
//   mesh(a, b, &lo, &hi)    pairs of an element of a and one of b; unmesh gives sums over lo and hi in their order
//   power_of_2(x)           2^x, near enough for a bfloat16; 0 for −∞
//
// A panel is an operation's input as matmul wants it. With DOTS it is bfloat16, and eight rows lie together: of each group of
// 2·LANES columns first that of one row, then of the next. Else it is float32, row by row, each group as its even elements,
// then the odd ones, which is what even and odd give of W.
//
// Order of sums. An output of matmul is one vector accumulator that takes the groups of a panel in turn (without DOTS even,
// then odd) and is summed at the end. An output of attend is one lane that takes tokens in turn; a score is one lane for
// each part of its vectors of words, and they are added in order. This is the same in every tile size, so a row's bits do
// not depend on its neighbours. A product feeds a sum only inside madd wherever one value is computed by several instances
// of a function, so that there is nothing for a compiler to contract in one and not in the other.
//
// matmul: y [rows, y_cols] = x [rows, cols] · Wᵀ, W [y_cols, cols] bfloat16 in parts. With few rows of x it is bound by the
// memory that holds W, with many by arithmetic. One core of Zen 4 reads 30 GB/s and does 117 GFLOP/s in float32 or 235 in
// dot products of bfloat16. What it reaches with W of 1,024 and of 3,072 columns, in GB/s of W and GFLOP/s:
//
//   1 row of x      four rows of W at a time              16        the prefetcher makes little of rows 2 KB apart
//                   one after the other                   29, 28
//   8 rows of x     three rows of W at a time              8, 10    70, 85 GFLOP/s
//                   and ask for the next three            20, 13    160, 102
//                   and for the next block instead        22, 13    179, 100
//                   and tiles of x that stay in the
//                   first-level cache                     22, 19    179, 150
//   256 rows of x   6 × 4 tile, float32                   98        the compiler loads x again at each use
//                   x kept in registers, four sums        103
//                   6 × 4 or 8 × 3 tile, dot products     190, 195
//
// even and odd in place of widen make the float32 tile's weights cost one cheap operation for each vector. A chunk of x
// stays in the second-level cache while all of W passes by, a block of W while the chunk's tiles pass by.

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "cpu.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define GROUP (2 * LANES)

#ifdef DOTS
typedef uint16_t element;  // of a panel
enum { panel_rows = 8 };   // that lie together
#else
typedef float element;
#endif

INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

// claim takes the next units [lo, hi); false at the end. See pool.go.
INLINE int claim(struct queue *q, int64_t *lo, int64_t *hi) {
  *lo = __atomic_load_n(&q->next, __ATOMIC_RELAXED);
  do {
    if (*lo >= q->units) return 0;
    *hi = min64(q->units, *lo + max64(q->grain, q->share ? (q->units - *lo) / q->share : 0));
  } while (!__atomic_compare_exchange_n(&q->next, lo, *hi, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return 1;
}

// load_part is the n < LANES floats at p, then zeros.
INLINE vf load_part(const float *p, int64_t n) {
  float lanes[LANES] = {0};
  memcpy(lanes, p, n * sizeof(float));
  return load(lanes);
}

// widen_part is the n < LANES bfloat16 at p, then zeros.
INLINE vf widen_part(const char *p, int64_t n) {
  char lanes[2 * LANES] = {0};
  memcpy(lanes, p, 2 * n);
  return widen(lanes);
}

// bf16 is the bfloat16 at any address.
INLINE float bf16(const char *p) {
  uint16_t half;
  memcpy(&half, p, sizeof half);
  uint32_t bits = (uint32_t)half << 16;
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

#define SUM_VECTORS 4  // that go together where many are summed

// exponentials makes n vectors x into e^x, within 1.1 ulp for x in −87.3..88; beyond it is that of the nearer end. NaN stays
// NaN. The polynomial is that of Cephes' expf. Each step is done for all n before the next one: there is nothing to wait for.
INLINE void exponentials(vf *x, const int n) {
#define EACH UNROLL for (int i = 0; i < n; i++)
  vf twos[SUM_VECTORS], r[SUM_VECTORS], p[SUM_VECTORS];
  EACH x[i] = below(splat(88.0f), above(splat(-87.3f), x[i]));
  EACH twos[i] = round_even(x[i] * splat(1.44269504088896341f));
  EACH r[i] = madd(twos[i], splat(-0.693359375f), x[i]);
  EACH r[i] = madd(twos[i], splat(2.12194440e-4f), r[i]);
  EACH p[i] = madd(splat(1.9875691500e-4f), r[i], splat(1.3981999507e-3f));
  EACH p[i] = madd(p[i], r[i], splat(8.3334519073e-3f));
  EACH p[i] = madd(p[i], r[i], splat(4.1665795894e-2f));
  EACH p[i] = madd(p[i], r[i], splat(1.6666665459e-1f));
  EACH p[i] = madd(p[i], r[i], splat(5.0000001201e-1f));
  EACH p[i] = madd(p[i], r[i] * r[i], r[i]) + splat(1.0f);
  EACH x[i] = p[i] * power2(twos[i]);
#undef EACH
}

INLINE vf exponential(vf x) {
  exponentials(&x, 1);
  return x;
}

// panel_at is where column at, the first of a group, of a row lies in a panel. From one row to the next it is panel_step
// elements, from one group to the next group_step.
INLINE int64_t panel_at(int64_t row, int64_t at, int64_t stride) {
#ifdef DOTS
  return row / panel_rows * panel_rows * stride + at * panel_rows + row % panel_rows * GROUP;
#else
  return row * stride + at;
#endif
}

#ifdef DOTS
#define panel_step(stride) GROUP
#define group_step (panel_rows * GROUP)
#else
#define panel_step(stride) (stride)
#define group_step GROUP
#endif

// store_group writes a group of a panel's row.
INLINE void store_group(element *out, vf a, vf b) {
#ifdef DOTS
  narrow(out, a, b);
#else
  vf e, o;
  split(a, b, &e, &o);
  store(out, e);
  store(out + LANES, o);
#endif
}

// load_at is the elements [at, at + LANES) of a row of cols floats, with zeros after the end.
INLINE vf load_at(const float *row, int64_t at, int64_t cols) {
  if (at + LANES <= cols) return load(row + at);
  return at < cols ? load_part(row + at, cols - at) : zero();
}

// widen_at is the same of bfloat16.
INLINE vf widen_at(const char *row, int64_t at, int64_t cols) {
  if (at + LANES <= cols) return widen(row + 2 * at);
  return at < cols ? widen_part(row + 2 * at, cols - at) : zero();
}

// inverse_rms is 1 / √(mean(x²) + eps).
INLINE float inverse_rms(const float *x, int64_t cols, float eps) {
  vf squares = zero();
  for (int64_t i = 0; i < cols; i += LANES) {
    vf v = load_at(x, i, cols);
    squares = madd(v, v, squares);
  }
  return 1.0f / sqrtf(sum(squares) / (float)cols + eps);
}

static void norm_kernel(void *args) {
  struct norm_args *a = args;
  int64_t cols = a->cols;
  for (int64_t u, hi; claim(&a->queue, &u, &hi);) {
    for (; u < hi; u++) {
      const float *x = a->x + (a->index ? a->index[u] : u) * cols;
      vf scale = splat(a->norm ? inverse_rms(x, cols, a->eps) : 1.0f);
      for (int64_t i = 0; i < cols; i += GROUP) {
        vf v[2];
        for (int k = 0; k < 2; k++) {
          v[k] = load_at(x, i + k * LANES, cols);
          if (a->norm) v[k] = v[k] * scale * widen_at(a->norm, i + k * LANES, cols);
        }
        store_group((element *)a->out + panel_at(u, i, a->out_stride), v[0], v[1]);
      }
    }
  }
}

static void gate_kernel(void *args) {
  struct gate_args *a = args;
  int64_t cols = a->cols;
  for (int64_t u, hi; claim(&a->queue, &u, &hi);) {
    for (; u < hi; u++) {
      const float *gate = a->in + 2 * u * cols, *up = gate + cols;
      for (int64_t i = 0; i < cols; i += GROUP) {
        vf v[2];
        for (int k = 0; k < 2; k++) {
          vf g = load_at(gate, i + k * LANES, cols);
          v[k] = g / (splat(1.0f) + exponential(-g)) * load_at(up, i + k * LANES, cols);
        }
        store_group((element *)a->out + panel_at(u, i, a->out_stride), v[0], v[1]);
      }
    }
  }
}

// add_group adds the products of one group of columns. x and w are its first elements in the first rows.
INLINE void add_group(vf acc[TILE_X][TILE_W], const element *x, int64_t x_step, const char *w, int64_t w_stride,
                      const int nx, const int nw) {
#ifdef DOTS
  vh row[TILE_W];
  UNROLL for (int o = 0; o < nw; o++) row[o] = keep_pairs(pairs(w + o * w_stride));
  UNROLL for (int r = 0; r < nx; r++) {
    vh v = keep_pairs(pairs((const char *)(x + r * x_step)));
    UNROLL for (int o = 0; o < nw; o++) acc[r][o] = dot(row[o], v, acc[r][o]);
  }
#else
  vf v[TILE_X];
  UNROLL for (int r = 0; r < nx; r++) v[r] = keep(load(x + r * x_step));
  UNROLL for (int o = 0; o < nw; o++) {
    vf e = even(w + o * w_stride);
    UNROLL for (int r = 0; r < nx; r++) acc[r][o] = madd(e, v[r], acc[r][o]);
  }
  UNROLL for (int r = 0; r < nx; r++) v[r] = keep(load(x + r * x_step + LANES));
  UNROLL for (int o = 0; o < nw; o++) {
    vf d = odd(w + o * w_stride);
    UNROLL for (int r = 0; r < nx; r++) acc[r][o] = madd(d, v[r], acc[r][o]);
  }
#endif
}

// ahead is the lines of W to ask for while those before are multiplied.
struct ahead {
  const char *next, *end;
  int64_t passes;  // over the block of W at work, for as many tiles of x: each asks for its part of the lines
  int hurry;       // the block at work itself comes from memory: twice as many lines at a time, not in parts
};

enum { second_look = 16 << 10, third_look = 64 << 10 };

// ask_line asks for a line of W, to the second-level cache. A processor that has much under way forgets such wishes, so those for the
// lines before are said again: where they are in the cache it costs next to nothing.
INLINE void ask_line(const char *line) {
  __builtin_prefetch(line, 0, 2);
  __builtin_prefetch(line - second_look, 0, 2);
  __builtin_prefetch(line - third_look, 0, 2);
}

// matmul_tile computes the products of nx rows of a panel with nw rows of W: y[r·y_cols + o]. Where it reads several rows
// of W at a time it asks for the lines ahead in the order of addresses: the processor's own prefetcher makes little of the
// rows.
INLINE void matmul_tile(const struct matmul_args *a, const element *x, const char *w, const char *bias, float *y,
                        struct ahead *ahead, const int nx, const int nw) {
  int64_t cols = a->cols, x_step = panel_step(a->x_stride), w_stride = 2 * cols;
  vf acc[TILE_X][TILE_W];
  UNROLL for (int r = 0; r < nx; r++) {
    UNROLL for (int o = 0; o < nw; o++) acc[r][o] = zero();
  }
  int64_t i = 0, lines = nw == 1 ? 0 : ahead->hurry ? 2 * nw : (nw + ahead->passes - 1) / ahead->passes;
  const char *next = ahead->next, *end = ahead->end;
  for (; i + GROUP <= cols; i += GROUP) {
    for (int64_t l = 0; l < lines && next < end; l++, next += 2 * GROUP) ask_line(next);
    add_group(acc, x, x_step, w + 2 * i, w_stride, nx, nw);
    x += group_step;
  }
  ahead->next = next;
  if (i < cols) {
    char tail[TILE_W][2 * GROUP] = {{0}};
    UNROLL for (int o = 0; o < nw; o++) memcpy(tail[o], w + o * w_stride + 2 * i, 2 * (cols - i));
    add_group(acc, x, x_step, tail[0], 2 * GROUP, nx, nw);
  }
  UNROLL for (int r = 0; r < nx; r++) {
    float s[TILE_W];
    int summed = 0;
#if TILE_W >= 4
    if (nw >= 4) {
      sum4(s, acc[r][0], acc[r][1], acc[r][2], acc[r][3]);
      summed = 4;
    }
#endif
    UNROLL for (int o = summed; o < nw; o++) s[o] = sum(acc[r][o]);
    UNROLL for (int o = 0; o < nw; o++) {
      if (bias) s[o] += bf16(bias + 2 * o);
      float *out = y + r * a->y_cols + o;
      *out = a->add ? *out + s[o] : s[o];
    }
  }
}

// matmul_rows runs rows [lo, hi) of a part of W against nx rows of x. y is the output for row lo. Few rows of x are bound
// by memory, and get most out of it by taking one row of W after the other.
INLINE void matmul_rows(const struct matmul_args *a, const struct matmul_part *part, const element *x, float *y,
                        int64_t lo, int64_t hi, struct ahead *ahead, const int nx) {
  const int nw = WIDTH(nx);
  const char *bias = part->bias;
  int64_t o = lo;
  for (; o + nw <= hi; o += nw) {
    matmul_tile(a, x, part->data + 2 * o * a->cols, bias ? bias + 2 * o : 0, y + (o - lo), ahead, nx, nw);
  }
  for (; o < hi; o++) {
    matmul_tile(a, x, part->data + 2 * o * a->cols, bias ? bias + 2 * o : 0, y + (o - lo), ahead, nx, 1);
  }
}

typedef void rows_function(const struct matmul_args *, const struct matmul_part *, const element *, float *, int64_t,
                           int64_t, struct ahead *);

#define MATMUL_ROWS(nx)                                                                                            \
  static void matmul_rows_##nx(const struct matmul_args *a, const struct matmul_part *part, const element *x, float *y, \
                               int64_t lo, int64_t hi, struct ahead *ahead) {                                      \
    matmul_rows(a, part, x, y, lo, hi, ahead, nx);                                                                 \
  }

MATMUL_ROWS(1)
MATMUL_ROWS(2)
#if TILE_X > 2
MATMUL_ROWS(3)
#endif
#if TILE_X > 3
MATMUL_ROWS(4)
MATMUL_ROWS(5)
MATMUL_ROWS(6)
#endif
#if TILE_X > 6
MATMUL_ROWS(7)
MATMUL_ROWS(8)
#endif

// matmul_rows_of[n] is matmul_rows for n rows of x.
static rows_function *const matmul_rows_of[TILE_X + 1] = {
    0,
    matmul_rows_1,
    matmul_rows_2,
#if TILE_X > 2
    matmul_rows_3,
#endif
#if TILE_X > 3
    matmul_rows_4,
    matmul_rows_5,
    matmul_rows_6,
#endif
#if TILE_X > 6
    matmul_rows_7,
    matmul_rows_8,
#endif
};

// tile_rows is how many of the rows [r, end) of x to take at a time, at most so many: about the same in each tile, within
// the rows of a panel that lie together.
INLINE int64_t tile_rows(int64_t r, int64_t end, int64_t most) {
#ifdef DOTS
  end = min64(end, (r / panel_rows + 1) * panel_rows);
#endif
  int64_t tiles = (end - r + most - 1) / most;
  return (end - r + tiles - 1) / tiles;
}

// block_at is where block u of W begins, and its end or that of its part.
INLINE struct ahead block_at(const struct matmul_args *a, int64_t u) {
  int64_t row = u % a->blocks * a->block_rows;
  const struct matmul_part *p = a->parts;
  for (; row >= p->rows; p++) row -= p->rows;
  const char *begin = p->data + 2 * row * a->cols;
  return (struct ahead){begin, begin + 2 * min64(a->block_rows, p->rows - row) * a->cols, 1, 0};
}

// matmul_block computes unit u. next is the unit that this thread does after it, or −1; cold says that nobody has asked for
// this one's block of W.
static void matmul_block(const struct matmul_args *a, int64_t u, int64_t next, int cold) {
  int64_t most = max64(1, min64(TILE_X, TILE_BYTES / (a->cols * (int64_t)sizeof(element))));
  int64_t row = u / a->blocks * a->chunk_rows, rows = min64(row + a->chunk_rows, a->rows);
  int64_t first = u % a->blocks * a->block_rows, end = min64(first + a->block_rows, a->y_cols);
  struct ahead ahead = block_at(a, cold || next < 0 ? u : next);
  if (cold && next == u + 1) ahead.end += 2 * a->block_rows * a->cols;
  if (!cold && next < 0) ahead.next = ahead.end;
  ahead.passes = (rows - row + most - 1) / most;
  ahead.hurry = cold;
  int64_t start = 0;  // column of y where the part begins
  for (const struct matmul_part *p = a->parts; p < a->parts + a->part_count; start += p++->rows) {
    int64_t lo = max64(first - start, 0), last = min64(end - start, p->rows);
    if (lo >= last) continue;
    for (int64_t r = row, nx; r < rows; r += nx) {
      nx = tile_rows(r, rows, most);
      matmul_rows_of[nx](a, p, (const element *)a->x + panel_at(r, 0, a->x_stride),
                         a->y + r * a->y_cols + start + lo, lo, last, &ahead);
    }
  }
}

// matmul_kernel takes its next units before it does the last one at hand, so that it can ask for their weights.
static void matmul_kernel(void *args) {
  struct matmul_args *a = args;
  int64_t u, hi, next, next_hi;
  int cold = 1;
  for (int more = claim(&a->queue, &u, &hi); more; u = next, hi = next_hi) {
    for (; u < hi; u++, cold = 0) {
      if (u + 1 == hi) more = claim(&a->queue, &next, &next_hi);
      matmul_block(a, u, u + 1 < hi ? u + 1 : more ? next : -1, cold);
    }
  }
}

// rotate_pairs turns the pairs (x[i], x[i+half]) by the angles of a row of the rope table.
INLINE void rotate_pairs(float *out, const float *x, const float *cos, const float *sin, int64_t half) {
  for (int64_t i = 0; i < half; i++) {
    float p = x[i], q = x[i + half];
    out[i] = p * cos[i] - q * sin[i];
    out[i + half] = q * cos[i] + p * sin[i];
  }
}

// rotate_head normalizes a head where there is a norm, and turns it.
INLINE void rotate_head(float *x, const char *norm, float eps, const float *rope, int64_t dim) {
  if (norm) {
    float scale = inverse_rms(x, dim, eps);
    for (int64_t i = 0; i < dim; i++) x[i] = x[i] * scale * bf16(norm + 2 * i);
  }
  rotate_pairs(x, x, rope, rope + dim / 2, dim / 2);
}

// store_bf16 rounds to the nearest bfloat16, ties to even; NaN stays NaN.
INLINE void store_bf16(uint16_t *out, const float *x, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits;
    memcpy(&bits, x + i, sizeof bits);
    uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
    out[i] = ((bits & 0x7fffffff) > 0x7f800000 ? bits | 1 << 22 : rounded) >> 16;
  }
}

// store_i8 rounds to multiples of a scale, which follows them; see ref.Quantize. The bits are the same in all sets.
INLINE void store_i8(char *out, const float *x, int64_t n) {
  float largest = 0, nothing = 0, scale;  // x − x is not zero for NaN and infinity
  for (int64_t i = 0; i < n; i++) {
    float size = fabsf(x[i]);
    largest = size > largest ? size : largest;
    nothing += x[i] - x[i];
  }
  if (nothing != 0 || largest <= 0x1p-100f) {
    memset(out, 0, n);
    scale = nothing;
  } else {
    float inverse = 127.0f / largest;
    for (int64_t i = 0; i < n; i++) ((signed char *)out)[i] = (signed char)rintf(x[i] * inverse);
    scale = largest / 127.0f;
  }
  memcpy(out + n, &scale, sizeof scale);
}

// store_row writes a head's key or value.
INLINE void store_row(char *out, const float *x, int64_t dim, int64_t kind) {
  if (kind == kv_f32) {
    memcpy(out, x, dim * sizeof(float));
  } else if (kind == kv_i8) {
    store_i8(out, x, dim);
  } else {
    store_bf16((uint16_t *)out, x, dim);
  }
}

static void rotate_kernel(void *args) {
  struct rotate_args *a = args;
  const struct kv_args *kv = &a->kv;
  int64_t dim = a->head_dim;
  for (int64_t u, hi; claim(&a->queue, &u, &hi);) {
    for (; u < hi; u++) {
      float *q = a->qkv + u * (a->heads + 2 * a->kv_heads) * dim;
      float *k = q + a->heads * dim, *v = k + a->kv_heads * dim;
      const float *rope = a->rope + a->positions[u] * dim;
      for (int64_t h = 0; h < a->heads; h++) rotate_head(q + h * dim, a->q_norm, a->eps, rope, dim);
      for (int64_t h = 0; h < a->kv_heads; h++) rotate_head(k + h * dim, a->k_norm, a->eps, rope, dim);
      char *row = kv->base + a->slots[u] / kv->block_tokens * kv->block_stride +
                  a->slots[u] % kv->block_tokens * kv->token_stride;
      for (int64_t h = 0; h < a->kv_heads; h++, row += kv->head_stride) {
        store_row(row, k + h * dim, dim, kv->kind);
        store_row(row + kv->v_offset, v + h * dim, dim, kv->kind);
      }
    }
  }
}

static void maxima_kernel(void *args) {
  struct sample_args *a = args;
  for (int64_t u, hi; claim(&a->queue, &u, &hi);) {
    for (; u < hi; u++) {
      int64_t first = u % a->chunks * a->chunk_len, n = min64(a->chunk_len, a->vocab - first);
      const float *x = a->logits + u / a->chunks * a->vocab + first;
      vf top = splat(x[0]), nothing = zero();  // x − x is not zero for NaN and infinity
      int64_t i = 0;
      for (; i + LANES <= n; i += LANES) {
        vf v = load(x + i);
        top = above(v, top);
        nothing = nothing + (v - v);
      }
      float lanes[LANES], rest = sum(nothing);
      store(lanes, top);
      for (; i < n; i++) {
        lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
        rest += x[i] - x[i];
      }
      float value = lanes[0];
      for (int k = 1; k < LANES; k++) value = lanes[k] > value ? lanes[k] : value;
      a->maxima[u] = (struct chunk_max){value, rest == 0};
    }
  }
}

// sum_exponentials is the sum of e^(x[i] − top), or of e^((x[i] − top) / temperature): LANES sums side by side, each in the
// order of x, that are added up at the end.
INLINE double sum_exponentials(const float *x, int64_t n, vf top, vf temperature, const int tempered) {
  enum { TOGETHER = SUM_VECTORS * LANES };
  double sums[LANES] = {0}, total = 0;
  for (int64_t i = 0; i < n; i += TOGETHER) {
    vf v[SUM_VECTORS];
    float e[TOGETHER];
    UNROLL for (int k = 0; k < SUM_VECTORS; k++) {
      v[k] = load_at(x, i + k * LANES, n) - top;
      if (tempered) v[k] = v[k] / temperature;
    }
    exponentials(v, SUM_VECTORS);
    UNROLL for (int k = 0; k < SUM_VECTORS; k++) store(e + k * LANES, v[k]);
    if (n - i >= TOGETHER) {
      UNROLL for (int k = 0; k < SUM_VECTORS; k++) {
        for (int lane = 0; lane < LANES; lane++) sums[lane] += e[k * LANES + lane];
      }
    } else {
      for (int64_t k = 0; k < n - i; k++) sums[k % LANES] += e[k];
    }
  }
  for (int k = 0; k < LANES; k++) total += sums[k];
  return total;
}

static void sums_kernel(void *args) {
  struct sample_args *a = args;
  for (int64_t u, hi; claim(&a->queue, &u, &hi);) {
    for (; u < hi; u++) {
      int64_t row = u / a->chunks, first = u % a->chunks * a->chunk_len, n = min64(a->chunk_len, a->vocab - first);
      const float *x = a->logits + row * a->vocab + first;
      float temperature = a->params[row].temperature;
      vf top = splat(a->row_max[row]);
      a->sums[u].plain = sum_exponentials(x, n, top, zero(), 0);
      a->sums[u].tempered = temperature > 0 ? sum_exponentials(x, n, top, splat(temperature), 1) : 0;
    }
  }
}

#include "cpu_attend.h"
#include "cpu_filter.h"
#include "cpu_int8.h"

#define KERNEL_SET                                                                                                   \
  {norm_kernel, gate_kernel, matmul_kernel, rotate_kernel, attend_kernel, maxima_kernel, sums_kernel, peaks_kernel, \
   weigh_kernel, gather_kernel, int8_norm_kernel, int8_gate_kernel, int8_matmul_kernel}
