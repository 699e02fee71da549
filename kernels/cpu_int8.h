// Products with int8 weights, included by cpu_kernels.h. The weight's layout is that of QuantizeInt8: groups of 16 rows,
// each a run of blocks, each 16 scales (float32, one a row) and then the columns in pairs: pair p of row r at byte
// 32·p + 2·r. The input of a product is int16 with one scale a row (see quantize_row).
//
// A block's sum is whole numbers and exact: 127 · 32767 · 512 columns fit in 31 bits. So it does not matter in what order
// a kernel set takes the columns of a block. The blocks' sums, as float32, times their scales are added in the order of the
// columns, and the sum is multiplied by the row's scale at last, with every step rounded on its own: all kernel sets give
// the same bits for the same input.
//
// A lane is a row of W: nothing is summed across lanes, a block costs three operations for each 16 outputs, and W is read
// as one sequential stream whatever the tile. One row of x is bound by memory, twelve by the multiply-adds.

#define INT8_GROUP 16
#define HALVES (INT8_GROUP / LANES)            // vectors of a group
#define INT8_WIDTH (INT8_GROUPS * HALVES)      // vectors of a tile
#define INT8_WIDE 5                            // rows of x from which on a tile takes INT8_GROUPS groups

#if LANES == 16

#define INT8_TILE 12  // with 2 groups of W 24 sums, 2 of W and one of x: 27 registers
#define INT8_GROUPS 2
typedef __m512i vi;

// bytes is the pairs of LANES rows, as int16; pair is one pair of x in all lanes.
V vi bytes(const char *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p)); }
V vi pair(const char *p) {
  int32_t x;
  memcpy(&x, p, sizeof x);
  return _mm512_set1_epi32(x);
}
V vi nothing(void) { return _mm512_setzero_si512(); }
V vi plus(vi a, vi b) { return _mm512_add_epi32(a, b); }
#ifdef DOTS
V vi dot_pairs(vi a, vi b, vi c) { return _mm512_dpwssd_epi32(c, a, b); }
#else
V vi dot_pairs(vi a, vi b, vi c) { return plus(c, _mm512_madd_epi16(a, b)); }
#endif
V vf floats(vi v) { return _mm512_cvtepi32_ps(v); }
V vf settle(vf v) { return keep(v); }
V void store_int16(char *p, vf v) {
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(v)));
}

#elif LANES == 8

#define INT8_TILE 6  // 12 sums, 2 of W and one of x: 15 registers
#define INT8_GROUPS 1
typedef __m256i vi;

V vi bytes(const char *p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)); }
V vi pair(const char *p) {
  int32_t x;
  memcpy(&x, p, sizeof x);
  return _mm256_set1_epi32(x);
}
V vi nothing(void) { return _mm256_setzero_si256(); }
V vi plus(vi a, vi b) { return _mm256_add_epi32(a, b); }
V vi dot_pairs(vi a, vi b, vi c) { return plus(c, _mm256_madd_epi16(a, b)); }
V vf floats(vi v) { return _mm256_cvtepi32_ps(v); }
V vf settle(vf v) { return keep(v); }
V void store_int16(char *p, vf v) {
  __m256i whole = _mm256_cvtps_epi32(v);
  _mm_storeu_si128((__m128i *)p, _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1)));
}

#else

#define INT8_TILE 2
#define INT8_GROUPS 1

#if defined(__SSE2__)
#include <emmintrin.h>

typedef __m128i vi;

V vi bytes(const char *p) {
  __m128i low = _mm_loadl_epi64((const __m128i *)p);
  return _mm_srai_epi16(_mm_unpacklo_epi8(low, low), 8);
}
V vi pair(const char *p) {
  int32_t x;
  memcpy(&x, p, sizeof x);
  return _mm_set1_epi32(x);
}
V vi plus(vi a, vi b) { return _mm_add_epi32(a, b); }
V vi dot_pairs(vi a, vi b, vi c) { return plus(c, _mm_madd_epi16(a, b)); }
V vf floats(vi v) { return (vf)_mm_cvtepi32_ps(v); }
V vf settle(vf v) {
  __asm__("" : "+x"(v));
  return v;
}
#else
typedef int32_t vi __attribute__((vector_size(16)));  // of pairs: the two int16 of each lane

V vi bytes(const char *p) {
  int8_t b[8];
  int16_t w[8];
  memcpy(b, p, sizeof b);
  for (int i = 0; i < 8; i++) w[i] = b[i];
  vi v;
  memcpy(&v, w, sizeof v);
  return v;
}
V vi pair(const char *p) {
  int32_t x;
  memcpy(&x, p, sizeof x);
  return (vi){x, x, x, x};
}
V vi plus(vi a, vi b) { return a + b; }
V vi dot_pairs(vi a, vi b, vi c) {
  int16_t x[8], y[8];
  memcpy(x, &a, sizeof x);
  memcpy(y, &b, sizeof y);
  vi sums;
  for (int i = 0; i < 4; i++) sums[i] = (int32_t)x[2 * i] * y[2 * i] + (int32_t)x[2 * i + 1] * y[2 * i + 1];
  return c + sums;
}
V vf floats(vi v) { return (vf){(float)v[0], (float)v[1], (float)v[2], (float)v[3]}; }
V vf settle(vf v) {
#if defined(__aarch64__)
  __asm__("" : "+w"(v));
#else
  __asm__("" : "+m"(v));
#endif
  return v;
}
#endif
V vi nothing(void) { return (vi){0}; }
V void store_int16(char *p, vf v) {
  int16_t whole[LANES];
  v = round_even(v);
  for (int k = 0; k < LANES; k++) whole[k] = (int16_t)v[k];
  memcpy(p, whole, sizeof whole);
}

#endif

// settle keeps a compiler from contracting a product and the sum that it goes into.

// quantize_row replaces the float32 of a row by int16, x ≈ int16 · scale, and writes the scale at scale_at. The int16 take
// the first half of the row. A row with numbers that are not finite gets a scale that says so.
INLINE void quantize_row(char *row, int64_t cols, int64_t scale_at) {
  const float *x = (const float *)row;
  vf top = zero(), odd_ones = zero();  // x − x is not zero for NaN and infinity
  for (int64_t i = 0; i < cols; i += LANES) {
    vf v = load_at(x, i, cols);
    top = above(above(v, zero() - v), top);
    odd_ones = odd_ones + (v - v);
  }
  float lanes[LANES], largest = 0;
  store(lanes, top);
  for (int k = 0; k < LANES; k++) largest = lanes[k] > largest ? lanes[k] : largest;
  float scale = largest / 32767.0f, rest = sum(odd_ones);
  if (rest != 0 || !(largest > 1e-30f)) {
    scale = rest;
    memset(row, 0, 2 * ((cols + 7) & ~(int64_t)7));
  } else {
    vf inverse = splat(32767.0f / largest);
    for (int64_t i = 0; i < cols; i += LANES) store_int16(row + 2 * i, load_at(x, i, cols) * inverse);
  }
  memcpy(row + scale_at, &scale, sizeof scale);
}

static void int8_norm_kernel(void *args) {
  struct norm_args *a = args;
  int64_t cols = a->cols;
  for (int64_t u, hi; claim(&a->queue, &u, &hi);) {
    for (; u < hi; u++) {
      const float *x = a->x + (a->index ? a->index[u] : u) * cols;
      char *out = (char *)a->out + u * a->out_stride;
      vf scale = splat(a->norm ? inverse_rms(x, cols, a->eps) : 1.0f);
      for (int64_t i = 0; i < cols; i += LANES) {
        vf v = load_at(x, i, cols);
        if (a->norm) v = v * scale * widen_at(a->norm, i, cols);
        store((float *)out + i, v);
      }
      quantize_row(out, cols, INT8_SCALE_AT(cols));
    }
  }
}

static void int8_gate_kernel(void *args) {
  struct gate_args *a = args;
  int64_t cols = a->cols;
  for (int64_t u, hi; claim(&a->queue, &u, &hi);) {
    for (; u < hi; u++) {
      const float *gate = a->in + 2 * u * cols, *up = gate + cols;
      char *out = (char *)a->out + u * a->out_stride;
      for (int64_t i = 0; i < cols; i += LANES) {
        vf g = load_at(gate, i, cols);
        store((float *)out + i, g / (splat(1.0f) + exponential(-g)) * load_at(up, i, cols));
      }
      quantize_row(out, cols, INT8_SCALE_AT(cols));
    }
  }
}

// int8_pairs adds the products of one pair of columns.
INLINE void int8_pairs(vi acc[INT8_TILE][INT8_WIDTH], const char *w, int64_t group_bytes, const char *x, int64_t x_stride,
                       const int nx, const int vectors) {
  vi row[INT8_WIDTH];
  UNROLL for (int o = 0; o < vectors; o++) row[o] = bytes(w + o / HALVES * group_bytes + o % HALVES * 2 * LANES);
  UNROLL for (int r = 0; r < nx; r++) {
    vi v = pair(x + r * x_stride);
    UNROLL for (int o = 0; o < vectors; o++) acc[r][o] = dot_pairs(row[o], v, acc[r][o]);
  }
}

// int8_write is y = v · scale + bias, or adds that to y, for n rows of W.
INLINE void int8_write(const struct int8_args *a, float *y, const char *bias, vf v, float scale, int64_t n) {
  v = settle(v * splat(scale));
  if (n >= LANES) {
    if (bias) v = v + widen(bias);
    if (a->add) v = load(y) + v;
    store(y, v);
    return;
  }
  float lanes[LANES];
  if (bias) v = v + widen_part(bias, n);
  if (a->add) v = load_part(y, n) + v;
  store(lanes, v);
  memcpy(y, lanes, n * sizeof(float));
}

// int8_tile computes the products of nx rows of x with the rows of W of so many vectors, of which n rows count. With few
// vectors in all it runs several sums side by side: one waits for itself.
INLINE void int8_tile(const struct int8_args *a, const char *w, const char *bias, const char *x, float *y, int64_t n,
                      const int nx, const int vectors) {
  const int chains = nx * vectors >= 4 ? 1 : nx * vectors >= 2 ? 2 : 4;
  int64_t cols = (a->cols + 7) & ~(int64_t)7, stride = a->x_stride, group_bytes = a->group_bytes;
  vf total[INT8_TILE][INT8_WIDTH];
  UNROLL for (int r = 0; r < nx; r++) {
    UNROLL for (int o = 0; o < vectors; o++) total[r][o] = zero();
  }
  for (int64_t at = 0; at < cols; at += a->block) {
    const char *scales = w, *end = x + 2 * min64(at + a->block, cols), *p = x + 2 * at;
    vi acc[4][INT8_TILE][INT8_WIDTH];
    UNROLL for (int c = 0; c < chains; c++) {
      UNROLL for (int r = 0; r < nx; r++) {
        UNROLL for (int o = 0; o < vectors; o++) acc[c][r][o] = nothing();
      }
    }
    for (w += INT8_GROUP * sizeof(float); p < end; p += 16, w += 8 * INT8_GROUP) {
      UNROLL for (int k = 0; k < 4; k++) {
        int8_pairs(acc[k % chains], w + k * 2 * INT8_GROUP, group_bytes, p + 4 * k, stride, nx, vectors);
      }
    }
    UNROLL for (int o = 0; o < vectors; o++) {
      vf scale = load((const float *)(scales + o / HALVES * group_bytes) + o % HALVES * LANES);
      UNROLL for (int r = 0; r < nx; r++) {
        vi s = acc[0][r][o];
        if (chains > 1) s = plus(s, acc[1][r][o]);
        if (chains > 2) s = plus(s, plus(acc[2][r][o], acc[3][r][o]));
        total[r][o] = total[r][o] + settle(floats(s) * scale);
      }
    }
  }
  UNROLL for (int r = 0; r < nx; r++) {
    float scale;
    memcpy(&scale, x + r * stride + INT8_SCALE_AT(a->cols), sizeof scale);
    UNROLL for (int o = 0; o < vectors; o++) {
      int64_t first = o * LANES;
      if (first < n) int8_write(a, y + r * a->y_cols + first, bias ? bias + 2 * first : 0, total[r][o], scale, n - first);
    }
  }
}

typedef void int8_tile_function(const struct int8_args *, const char *, const char *, const char *, float *, int64_t);

#define INT8_TILE_OF(nx)                                                                                             \
  static void int8_narrow_##nx(const struct int8_args *a, const char *w, const char *bias, const char *x, float *y,  \
                               int64_t n) {                                                                          \
    int8_tile(a, w, bias, x, y, n, nx, HALVES);                                                                      \
  }                                                                                                                  \
  static void int8_wide_##nx(const struct int8_args *a, const char *w, const char *bias, const char *x, float *y,    \
                             int64_t n) {                                                                            \
    int8_tile(a, w, bias, x, y, n, nx, INT8_WIDTH);                                                                  \
  }

INT8_TILE_OF(1)
INT8_TILE_OF(2)
#if INT8_TILE > 2
INT8_TILE_OF(3)
INT8_TILE_OF(4)
INT8_TILE_OF(5)
INT8_TILE_OF(6)
#endif
#if INT8_TILE > 6
INT8_TILE_OF(7)
INT8_TILE_OF(8)
INT8_TILE_OF(9)
INT8_TILE_OF(10)
INT8_TILE_OF(11)
INT8_TILE_OF(12)
#endif

#define INT8_TILES(nx) {int8_narrow_##nx, int8_wide_##nx}

// int8_tile_of[n] is int8_tile for n rows of x and one group of W, and for INT8_GROUPS of them.
static int8_tile_function *const int8_tile_of[INT8_TILE + 1][2] = {
    {0, 0},
    INT8_TILES(1),
    INT8_TILES(2),
#if INT8_TILE > 2
    INT8_TILES(3),
    INT8_TILES(4),
    INT8_TILES(5),
    INT8_TILES(6),
#endif
#if INT8_TILE > 6
    INT8_TILES(7),
    INT8_TILES(8),
    INT8_TILES(9),
    INT8_TILES(10),
    INT8_TILES(11),
    INT8_TILES(12),
#endif
};

// int8_rows runs the groups [lo, hi) of a part against the rows [row, end) of x, in tiles of about the same size. y is the
// output for the part's first row of W.
static void int8_rows(const struct int8_args *a, const struct matmul_part *part, float *y, int64_t lo, int64_t hi,
                      int64_t row, int64_t end) {
  int64_t tiles = (end - row + INT8_TILE - 1) / INT8_TILE;
  for (int64_t t = 0; t < tiles; t++) {
    int64_t first = row + (end - row) * t / tiles, n = row + (end - row) * (t + 1) / tiles - first, groups;
    for (int64_t g = lo; g < hi; g += groups) {
      int wide = n >= INT8_WIDE && g + INT8_GROUPS <= hi;
      groups = wide ? INT8_GROUPS : 1;
      int64_t at = g * INT8_GROUP;
      int8_tile_of[n][wide](a, part->data + g * a->group_bytes, part->bias ? part->bias + 2 * at : 0,
                            (const char *)a->x + first * a->x_stride, y + first * a->y_cols + at, part->rows - at);
    }
  }
}

static void int8_matmul_kernel(void *args) {
  struct int8_args *a = args;
  for (int64_t u, hi; claim(&a->queue, &u, &hi);) {
    for (; u < hi; u++) {
      int64_t row = u / a->blocks * a->chunk_rows, end = min64(row + a->chunk_rows, a->rows);
      int64_t first = u % a->blocks * a->block_groups, last = first + a->block_groups;
      int64_t start = 0;  // group where the part begins
      float *y = a->y;
      for (const struct matmul_part *p = a->parts; p < a->parts + a->part_count; y += p++->rows) {
        int64_t groups = (p->rows + INT8_GROUP - 1) / INT8_GROUP;
        int64_t lo = max64(first - start, 0), stop = min64(last - start, groups);
        if (lo < stop) int8_rows(a, p, y, lo, stop, row, end);
        start += groups;
      }
    }
  }
}
