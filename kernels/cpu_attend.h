// Attention on the CPU, over the vector of cpu_kernels.h.
//
// A unit is one key-value head for the rows of a tile. Up to max_queries queries (row × head of the group) pass over the
// keys together. Keys are walked in tiles of key_tile tokens that begin at multiples of key_tile in logical position,
// wherever the segments lie, with one online softmax: how a prompt was cut into steps, which rows share the walk, or how
// much of the past is a shared segment does not change a row's tiles, so it does not change its bits.
// https://arxiv.org/abs/1805.02867
//
// Stretches of stretch_tokens, from multiples of it on, are summed apart and merged in order. Where there are too few units
// for the threads, a unit is one stretch, and a second round merges: the same sums, so the same bits. Tokens that rows all
// over the batch share are walked a stretch at a time, too, for all these rows together. They end at a tile's border, where
// a row's state says all of what is before: who goes on with an unfinished stretch takes its sums as if they were its own.
//
//   q   [rows, q_stride]            kv   token: kv_heads · head_dim keys, and v_offset bytes on the values
//   out [rows, heads · head_dim]
//
// Both products of a tile, of queries with keys and of weights with values, are made of one block: a word of a row of the
// left side goes to all lanes and meets vectors of the right side. So a tile's keys are transposed and its values copied
// once for all queries of the pass; nothing is summed across lanes, and a score's lane is its key. A word is a float32, or
// with DOTS a pair of bfloat16: of neighbours in a head for keys, of neighbouring tokens for values. A row adds exactly the
// values that it sees: NaN among those after it cannot reach it.
//
// Bounds. Prefill is bound by multiply-adds. Decoding is bound by the memory that holds keys and values: a tile's rows are
// asked for, to the second-level cache, while the one before is computed, and the few queries of one row read them where
// they lie. On one core of Zen 4 that reads 32 GB/s, head size 128, a group of two, 4,096 tokens:
//
//   packed as for prefill                  12.5 GB/s
//   read where they lie                    17   GB/s   the heads of a token together
//   and each head's tokens together        19   GB/s
//   and what may be forgotten asked again  23   GB/s
//   asked for in the first-level cache     10   GB/s
//
// The same for eight rows of 160 tokens each on two cores that read 41 GB/s; without arithmetic it would be 24.6:
//
//   each walk begins unasked               21.5 GB/s
//   its first tile asked for before        25.0 GB/s
//   line by line in order of addresses     25.5 GB/s

enum { max_head_dim = 256, max_queries = 64, few_queries = 4 };

#ifdef DOTS
enum { word_elements = 2 };
typedef vh words;  // LANES of them

INLINE words load_words(const char *p) { return pairs(p); }
INLINE words keep_words(words v) { return keep_pairs(v); }
INLINE void store_words(char *p, words v) { store((float *)p, (vf)v); }
INLINE void transpose_words(words v[LANES]) { transpose((vf *)v); }
INLINE void turn_four_words(words v[4]) { turn_fours((vf *)v); }
INLINE vf weigh(vf x) { return power_of_2(x); }
static const float score_unit = 1.44269504088896341f;  // scores are logarithms to the base of 2
#else
enum { word_elements = 1 };
typedef vf words;

INLINE words load_words(const char *p) { return load((const float *)p); }
INLINE words keep_words(words v) { return keep(v); }
INLINE void store_words(char *p, words v) { store((float *)p, v); }
INLINE void transpose_words(words v[LANES]) { transpose(v); }
INLINE void turn_four_words(words v[4]) { turn_fours(v); }
INLINE words spread(const char *p) {
  float x;
  memcpy(&x, p, sizeof x);
  return splat(x);
}
INLINE vf dot(words a, words b, vf c) { return madd(a, b, c); }
INLINE vf weigh(vf x) { return exponential(x); }
static const float score_unit = 1;
#endif

enum { vector_elements = LANES * word_elements };

// walk is the state of one pass of a unit. Its matrices have rows of stride elements or key_tile words.
struct walk {
  float score[max_queries][key_tile];
  struct partial now[max_queries], all[max_queries];  // of this stretch, and of those before it
  element q[max_queries * max_head_dim];  // its words in order of parts
  char pattern[few_queries * max_head_dim / word_elements * 16];  // [query][vector of words][4] vectors; see score_few
  char key[max_head_dim / word_elements * key_tile * 4];    // [word of a head][key]
  char value[key_tile / word_elements * max_head_dim * 4];  // [word of tokens][stride]
#ifdef DOTS
  element weight[max_queries][key_tile];
#endif
  int64_t last[max_queries];  // position of the row
  float key_scale[key_tile], value_scale[key_tile];  // of int8
  int64_t scaled;                                    // 1: there are
  int64_t queries, dim, stride;  // stride is dim rounded up to whole vectors; what lies between is zero
};

enum { partial_floats = sizeof(struct partial) / sizeof(float) };

_Static_assert(sizeof(struct walk) <= attend_room, "a thread's room holds a walk");

// weights is the left side of a query's product with values.
INLINE const element *weights(const struct walk *w, int64_t k) {
#ifdef DOTS
  return w->weight[k];
#else
  return w->score[k];
#endif
}

// kind_bytes is the size of an element.
INLINE int kind_bytes(const int kind) { return kind == kv_f32 ? 4 : kind == kv_i8 ? 1 : 2; }

// fetch is the next elements of a key or value, as many as a vector of words takes, with zeros where fewer are left. int8
// become numbers as they are: the scale comes in with the scores and the weights.
INLINE words fetch(const char *at, int64_t left, const int kind) {
  char part[4 * vector_elements] = {0};
  if (left < vector_elements) at = memcpy(part, at, left * kind_bytes(kind));
#ifdef DOTS
  if (kind == kv_f32) return narrowed(load((const float *)at), load((const float *)at + LANES));
  if (kind == kv_i8) return narrowed(from_int8(at), from_int8(at + LANES));
  return pairs(at);
#else
  return kind == kv_f32 ? load((const float *)at) : kind == kv_i8 ? from_int8(at) : widen(at);
#endif
}

// turn_queries reads the queries, scales them and, where the keys were stored for another position, turns them back by
// delta positions. The factor that the rope table carries is divided out: it is the cosine of position 0.
static void turn_queries(const struct attend_args *a, struct walk *w, const float *const *queries, int64_t delta) {
  int64_t half = w->dim / 2;
  float cos[max_head_dim / 2], sin[max_head_dim / 2], q[max_head_dim] = {0};
  if (delta) {
    const float *row = a->rope + (delta < 0 ? -delta : delta) * w->dim;
    for (int64_t i = 0; i < half; i++) {
      cos[i] = row[i] / a->rope[0];
      sin[i] = (delta < 0 ? row[i + half] : -row[i + half]) / a->rope[0];
    }
  }
  for (int64_t k = 0; k < w->queries; k++) {
    if (delta) {
      rotate_pairs(q, queries[k], cos, sin, half);
    } else {
      memcpy(q, queries[k], w->dim * sizeof(float));
    }
    for (int64_t i = 0; i < w->dim; i++) q[i] *= a->scale * score_unit;
    char *out = (char *)(w->q + k * w->stride), *pattern = w->pattern + k * w->stride / word_elements * 16;
    for (int64_t i = 0, n = w->stride / vector_elements; i < n; i++) {
      char part[4 * LANES];
      store_words(part, fetch((const char *)(q + i * vector_elements), vector_elements, kv_f32));
      for (int64_t b = 0; b < PARTS; b++) {
        memcpy(out + (b * n + i) * 16, part + b * 16, 16);
        if (w->queries > few_queries) continue;
        for (int j = 0; j < 16; j++) memcpy(pattern + (i * 4 + j / 4) * LANES * 4 + b * 16 + j % 4 * 4, part + b * 16 + j / 4 * 4, 4);
      }
    }
  }
}

// add_words adds to nq rows of nv vectors the products of so many words: rows of the left side that are left_stride bytes
// apart, with rows of the right side that are right_stride bytes apart.
INLINE void add_words(vf acc[ATTEND_QUERIES][ATTEND_COLUMNS], const char *left, int64_t left_stride, const char *right,
                      int64_t right_stride, int64_t count, const int nq, const int nv) {
  for (int64_t i = 0; i < count; i++) {
    words b[ATTEND_COLUMNS];
    UNROLL for (int t = 0; t < nv; t++) b[t] = load_words(right + i * right_stride + t * LANES * 4);
    UNROLL for (int m = 0; m < nq; m++) {
      words x = spread(left + m * left_stride + 4 * i);
      UNROLL for (int t = 0; t < nv; t++) acc[m][t] = dot(x, b[t], acc[m][t]);
    }
  }
}

// score_block sets scores: the words of the left side come in PARTS of count, whose sums are added in order.
INLINE void score_block(float *out, int64_t out_stride, const char *left, int64_t left_stride, const char *right,
                        int64_t right_stride, int64_t count, int half, const int nq, const int nv) {
  UNROLL for (int b = 0; b < PARTS; b++) {
    vf acc[ATTEND_QUERIES][ATTEND_COLUMNS];
    UNROLL for (int m = 0; m < nq; m++) {
      UNROLL for (int t = 0; t < nv; t++) acc[m][t] = zero();
    }
    add_words(acc, left + b * count * 4, left_stride, right + b * count * right_stride, right_stride, count, nq, nv);
    UNROLL for (int m = 0; m < nq; m++) {
      UNROLL for (int t = 0; t < nv; t++) {
        float *s = out + m * out_stride + t * LANES;
        if (b) acc[m][t] = load(s) + acc[m][t];
        store(s, acc[m][t]);
      }
    }
  }
}

// add_block adds weighted values to outputs. With half, one word more counts for its first element only.
INLINE void add_block(float *out, int64_t out_stride, const char *left, int64_t left_stride, const char *right,
                      int64_t right_stride, int64_t count, int half, const int nq, const int nv) {
  vf acc[ATTEND_QUERIES][ATTEND_COLUMNS];
  UNROLL for (int m = 0; m < nq; m++) {
    UNROLL for (int t = 0; t < nv; t++) acc[m][t] = load(out + m * out_stride + t * LANES);
  }
  add_words(acc, left, left_stride, right, right_stride, count, nq, nv);
#ifdef DOTS
  if (half) {
    UNROLL for (int t = 0; t < nv; t++) {
      words b = first_of_pairs(load_words(right + count * right_stride + t * LANES * 4));
      UNROLL for (int m = 0; m < nq; m++) acc[m][t] = dot(spread(left + m * left_stride + 4 * count), b, acc[m][t]);
    }
  }
#endif
  UNROLL for (int m = 0; m < nq; m++) {
    UNROLL for (int t = 0; t < nv; t++) store(out + m * out_stride + t * LANES, acc[m][t]);
  }
}

typedef void block_function(float *, int64_t, const char *, int64_t, const char *, int64_t, int64_t, int);

#define BLOCK(block, nq, name, nv)                                                                        \
  static void block##_##name##_##nq(float *out, int64_t out_stride, const char *left, int64_t left_stride, \
                                    const char *right, int64_t right_stride, int64_t count, int half) {    \
    block(out, out_stride, left, left_stride, right, right_stride, count, half, nq, nv);                   \
  }
#define BLOCKS(nq)                            \
  BLOCK(score_block, nq, one, 1)              \
  BLOCK(score_block, nq, all, ATTEND_COLUMNS) \
  BLOCK(add_block, nq, one, 1)                \
  BLOCK(add_block, nq, all, ATTEND_COLUMNS)
#define BLOCK_NAMES(nq) \
  { score_block_one_##nq, score_block_all_##nq, add_block_one_##nq, add_block_all_##nq }

BLOCKS(1)
BLOCKS(2)
BLOCKS(3)
BLOCKS(4)
#if ATTEND_QUERIES > 4
BLOCKS(5)
BLOCKS(6)
#endif

// blocks[n] is the two blocks for n queries, each of one vector and of ATTEND_COLUMNS.
static block_function *const blocks[ATTEND_QUERIES + 1][4] = {
    {0}, BLOCK_NAMES(1), BLOCK_NAMES(2), BLOCK_NAMES(3), BLOCK_NAMES(4),
#if ATTEND_QUERIES > 4
    BLOCK_NAMES(5), BLOCK_NAMES(6),
#endif
};

// run_block is a block over so many vectors.
INLINE void run_block(const int add, float *out, int64_t out_stride, const element *left, int64_t left_stride,
                      const char *right, int64_t right_vectors, int64_t count, int half, int64_t rows, int64_t vectors) {
  for (int64_t t = 0, n; t < vectors; t += n) {
    n = t + ATTEND_COLUMNS <= vectors ? ATTEND_COLUMNS : 1;
    blocks[rows][2 * add + (n > 1)](out + t * LANES, out_stride, (const char *)left, left_stride * sizeof(element),
                                    right + t * LANES * 4, right_vectors * LANES * 4, count, half);
  }
}

// want asks for bytes, to the second-level cache: more may be under way than to the first. A processor that has much under
// way forgets such wishes, so they are said again: where the bytes are in the cache it costs next to nothing.
INLINE void want(const char *p, const int bytes) {
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
}

// soon is the row of a tile that is read some time after row j.
INLINE int64_t soon(int64_t j) { return (j + 16) % key_tile; }

// pack_keys transposes a tile's keys, and asks for those of the next one.
INLINE void pack_keys(struct walk *w, const char *const *rows, const char *const *next, int64_t count,
                      const int kind, const int whole) {
  const int bytes = kind_bytes(kind);
  for (int64_t j = 0; j < count; j += LANES) {
    for (int64_t i = 0; i < w->dim; i += vector_elements) {
      words v[LANES];
      UNROLL for (int t = 0; t < LANES; t++) {
        v[t] = fetch(rows[j + t] + i * bytes, whole ? vector_elements : w->dim - i, kind);
        want(next[j + t] + i * bytes, 1);
      }
      transpose_words(v);
      UNROLL for (int t = 0; t < LANES; t++) {
        int64_t word = (t / 4 * w->stride / vector_elements + i / vector_elements) * 4 + t % 4;  // in order of parts
        store_words(w->key + (word * key_tile + j) * 4, v[t]);
      }
    }
  }
}

// pack_values does so with values: as float32, or in pairs of tokens.
INLINE void pack_values(struct walk *w, const char *const *rows, const char *const *next, int64_t v_offset, int64_t count,
                        const int kind, const int whole) {
  const int bytes = kind_bytes(kind);
  for (int64_t j = 0; j < count; j += word_elements) {
    char *out = w->value + j / word_elements * w->stride * 4;
    for (int64_t i = 0; i < w->dim; i += vector_elements) {
      int64_t at = v_offset + i * bytes, left = whole ? vector_elements : w->dim - i;
      words v[2] = {fetch(rows[j] + at, left, kind)};
      want(next[j] + at, 1);
#ifdef DOTS
      v[1] = fetch(rows[j + 1] + at, left, kind);
      want(next[j + 1] + at, 1);
      mesh(v[0], v[1], &v[0], &v[1]);
#endif
      UNROLL for (int o = 0; o < word_elements; o++) store_words(out + 4 * (i + o * LANES), v[o]);
    }
  }
}

// soften turns the first n scores of query k into weights. If there is a new maximum, what was summed under the old one
// shrinks.
INLINE void soften(struct walk *w, int64_t k, int64_t n) {
  float *s = w->score[k];
  if (w->scaled) {
    for (int64_t j = 0; j < n; j += LANES) store(s + j, load(s + j) * load(w->key_scale + j));
  }
  int64_t end = (n + vector_elements - 1) / vector_elements * vector_elements;
  for (int64_t j = n; j < end; j++) s[j] = -__builtin_inff();
  vf most = load(s);
  for (int64_t j = LANES; j < end; j += LANES) most = above(most, load(s + j));
  float top = highest(most);
  struct partial *p = &w->now[k];
  vf total = load(p->total);
  if (top > p->top) {
    vf shrink = weigh(splat(p->top) - splat(top));
    for (int64_t i = 0; i < w->stride; i += LANES) store(p->acc + i, load(p->acc + i) * shrink);
    total = total * shrink;
    p->top = top;
  }
  vf base = splat(p->top);
#ifdef DOTS
  const uint16_t ones[2] = {0x3f80, 0x3f80};
  for (int64_t j = 0; j < end; j += 2 * LANES) {
    vf a = weigh(load(s + j) - base), b = weigh(load(s + j + LANES) - base);
    vh weights = narrowed(a, b);
    if (w->scaled) {
      total = total + (a + b);
      weights = narrowed(a * load(w->value_scale + j), b * load(w->value_scale + j + LANES));
    } else {
      total = dot(weights, spread((const char *)ones), total);
    }
    store_words((char *)(w->weight[k] + j), weights);
  }
  for (int64_t j = n; w->scaled && j < end; j++) w->weight[k][j] = 0;  // the scale of what is not seen may be NaN
#else
  for (int64_t j = 0; j < end; j += LANES) store(s + j, weigh(load(s + j) - base));
  for (int64_t j = n; j < end; j++) s[j] = 0;
  for (int64_t j = 0; j < end; j += LANES) total = total + load(s + j);
  if (w->scaled) {
    for (int64_t j = 0; j < n; j += LANES) store(s + j, load(s + j) * load(w->value_scale + j));
  }
#endif
  store(p->total, total);
}

// seen is how many of a tile's tokens, the first at pos, query k sees.
INLINE int64_t seen(const struct walk *w, int64_t k, int64_t pos, int64_t count) {
  return max64(0, min64(count, w->last[k] - pos + 1));
}

// attend_keys takes one packed tile of count tokens, the first at position pos, into every query.
static void attend_keys(struct walk *w, int64_t pos, int64_t count) {
  for (int64_t k = 0, n; k < w->queries; k += n) {
    n = min64(ATTEND_QUERIES, w->queries - k);
    int64_t most = 0;
    for (int64_t m = k; m < k + n; m++) most = max64(most, seen(w, m, pos, count));
    run_block(0, w->score[k], key_tile, w->q + k * w->stride, w->stride, w->key, key_tile / LANES,
              w->stride / word_elements / PARTS, 0, n, (most + LANES - 1) / LANES);
  }
  for (int64_t k = 0; k < w->queries; k++) {
    int64_t n = seen(w, k, pos, count);
    if (n > 0) soften(w, k, n);
  }
  for (int64_t k = 0, same; k < w->queries; k += same) {
    // Queries that see the same tokens add them together. At the tile that holds their own rows they do not.
    int64_t n = seen(w, k, pos, count);
    for (same = 1; same < ATTEND_QUERIES && k + same < w->queries && seen(w, k + same, pos, count) == n;) same++;
    run_block(1, w->now[k].acc, partial_floats, weights(w, k), key_tile, w->value, w->stride / LANES,
              n / word_elements, n % word_elements, same, w->stride / LANES);
  }
}

// lines is the keys from row on up to end, and the values v_offset bytes further, to ask for line by line in the order of
// addresses: the processor's own prefetcher joins in then.
struct lines {
  const char *const *row, *const *end;
  int64_t at, row_bytes;
};

INLINE void ask_lines(struct lines *l, int64_t n, int64_t v_offset, const int both) {
  for (; n > 0 && l->row < l->end; n--) {
    want(*l->row + l->at, 1);
    if (both) want(*l->row + v_offset + l->at, 1);
    l->at += 64;
    if (l->at >= l->row_bytes) l->at = 0, l->row++;
  }
}

// score_few sets the scores of nq queries of one row with a tile's keys, which are read where they lie. Turning fours of
// words of four keys leaves a part of one key in each lane, and fold adds a key's parts.
INLINE void score_few(struct walk *w, const char *const *rows, const char *const *next, int64_t v_offset, int64_t count,
                      const int kind, const int nq) {
  const int bytes = kind_bytes(kind);
  const int64_t dim = w->dim, row_bytes = dim * bytes + (kind == kv_i8 ? 4 : 0);
  const int64_t steps = dim / vector_elements * PARTS, some = ((row_bytes + 63) / 64 * LANES + steps - 1) / steps;
  for (int64_t j = 0; j < count; j += LANES) {
    struct lines later = {next + j, next + j + LANES, 0, row_bytes};
    struct lines again = {rows + soon(j), rows + soon(j) + LANES, 0, row_bytes};
    vf acc[few_queries][PARTS];
    UNROLL for (int g = 0; g < PARTS; g++) {
      UNROLL for (int m = 0; m < nq; m++) acc[m][g] = zero();
    }
    for (int64_t i = 0; i < dim; i += vector_elements) {
      UNROLL for (int g = 0; g < PARTS; g++) {
        words v[4];
        UNROLL for (int t = 0; t < 4; t++) {
          v[t] = keep_words(fetch(rows[j + 4 * g + t] + i * bytes, vector_elements, kind));
        }
        ask_lines(&later, some, v_offset, 1);
        ask_lines(&again, some, 0, 0);
        turn_four_words(v);
        UNROLL for (int t = 0; t < 4; t++) {
          UNROLL for (int m = 0; m < nq; m++) {
            const char *pattern = w->pattern + (m * dim + i) / word_elements * 16 + t * LANES * 4;
            acc[m][g] = dot(load_words(pattern), v[t], acc[m][g]);
          }
        }
      }
    }
    UNROLL for (int m = 0; m < nq; m++) store(w->score[m] + j, fold(acc[m]));
  }
}

// add_value adds one word of weights, of queries key_tile weights apart, with nv vectors of values at a and, where the
// word is a pair that both count, at b.
INLINE void add_value(vf acc[few_queries][FEW_COLUMNS], const element *weight, const char *a, const char *b, const int both,
                      const int kind, const int nq, const int nv) {
  UNROLL for (int t = 0; t < nv; t += word_elements) {
    const int at = t * LANES * kind_bytes(kind);
    words v[2] = {keep_words(fetch(a + at, vector_elements, kind))};
#ifdef DOTS
    v[1] = both ? keep_words(fetch(b + at, vector_elements, kind)) : (words)zero();
    mesh(v[0], v[1], &v[0], &v[1]);
#endif
    UNROLL for (int m = 0; m < nq; m++) {
      words p = spread((const char *)(weight + m * key_tile));
      UNROLL for (int o = 0; o < word_elements; o++) acc[m][t + o] = dot(p, v[o], acc[m][t + o]);
    }
  }
}

// add_few adds the first n values of a tile to nv vectors, from element i on, of nq queries.
INLINE void add_few(struct walk *w, const char *const *rows, const char *const *next, int64_t v_offset, int64_t n, int64_t i,
                    const int kind, const int nq, const int nv) {
  vf acc[few_queries][FEW_COLUMNS];
  UNROLL for (int m = 0; m < nq; m++) {
    UNROLL for (int t = 0; t < nv; t++) acc[m][t] = load(w->now[m].acc + i + t * LANES);
  }
  const int64_t at = v_offset + i * kind_bytes(kind);
  const element *weight = weights(w, 0);
  int64_t j = 0;
  for (; j + word_elements <= n; j += word_elements) {
    UNROLL for (int o = 0; o < word_elements; o++) {
      want(next[j + o] + at, nv * LANES * kind_bytes(kind));
      want(rows[soon(j + o)] + at, nv * LANES * kind_bytes(kind));
    }
    add_value(acc, weight + j, rows[j] + at, rows[j + word_elements - 1] + at, 1, kind, nq, nv);
  }
  if (j < n) add_value(acc, weight + j, rows[j] + at, 0, 0, kind, nq, nv);
  UNROLL for (int m = 0; m < nq; m++) {
    UNROLL for (int t = 0; t < nv; t++) store(w->now[m].acc + i + t * LANES, acc[m][t]);
  }
}

// attend_few takes a tile into the nq queries of one row, without packing: decoding has little use for a key twice.
INLINE void attend_few(struct walk *w, const char *const *rows, const char *const *next, int64_t v_offset, int64_t count,
                       const int kind, const int nq) {
  score_few(w, rows, next, v_offset, count, kind, nq);
  UNROLL for (int m = 0; m < nq; m++) soften(w, m, count);
  int64_t i = 0;
  for (; i + FEW_COLUMNS * LANES <= w->stride; i += FEW_COLUMNS * LANES) {
    add_few(w, rows, next, v_offset, count, i, kind, nq, FEW_COLUMNS);
  }
  for (; i < w->stride; i += vector_elements) add_few(w, rows, next, v_offset, count, i, kind, nq, word_elements);
}

typedef void few_function(struct walk *, const char *const *, const char *const *, int64_t, int64_t);

#define FEW(kind, nq)                                                                                      \
  static void attend_##kind##_##nq(struct walk *w, const char *const *rows, const char *const *next,       \
                                   int64_t v_offset, int64_t count) {                                      \
    attend_few(w, rows, next, v_offset, count, kind, nq);                                                  \
  }
#define FEWS(kind) FEW(kind, 1) FEW(kind, 2) FEW(kind, 3) FEW(kind, 4)
#define FEW_NAMES(kind) \
  { 0, attend_##kind##_1, attend_##kind##_2, attend_##kind##_3, attend_##kind##_4 }

FEWS(kv_bf16)
FEWS(kv_i8)

// few[kind][n] is attend_few for n queries. Where there is none, as for float32, which is only there to be exact, tiles are
// packed: the bits are the same.
static few_function *const few[][few_queries + 1] = {FEW_NAMES(kv_bf16), {0}, FEW_NAMES(kv_i8)};

// tile is where the tokens of one tile of keys lie.
struct tile {
  const char *rows[key_tile];  // keys; the last one again after the end
  int64_t pos, count, delta;
};

// cursor is how far a walk has come, among the tokens at positions from first on and before last.
struct cursor {
  int64_t segment, end, token;  // token of the segment
  int64_t first, last;
};

// next_tile lists the tile at the cursor and moves it on. A tile ends where the positions or their turns do not go on.
static void next_tile(const struct attend_args *a, struct cursor *c, struct tile *t, int64_t head) {
  t->count = 0;
  for (; c->segment < c->end; c->segment++, c->token = 0) {
    const struct attend_segment *s = a->segments + c->segment;
    int64_t len = min64(s->len, c->last - s->pos), delta = (int64_t)s->pos - s->stored;
    c->token = max64(c->token, c->first - s->pos);
    if (c->token >= len) continue;
    if (t->count == 0) {
      t->pos = s->pos + c->token;
      t->delta = delta;
    } else if (s->pos != t->pos + t->count || delta != t->delta) {
      break;
    }
    int64_t room = key_tile - (t->pos + t->count) % key_tile;
    while (c->token < len && room > 0) {  // a block at a time
      uint32_t at = s->off + c->token, tokens = a->kv.block_tokens;
      int64_t n = min64(room, min64(len - c->token, tokens - at % tokens));
      const char *row = a->kv.base + a->blocks[s->block + at / tokens] * a->kv.block_stride +
                        at % tokens * a->kv.token_stride + head;
      for (int64_t j = 0; j < n; j++) t->rows[t->count + j] = row + j * a->kv.token_stride;
      t->count += n;
      c->token += n;
      room -= n;
    }
    if (room == 0) break;
  }
  for (int64_t j = t->count; j < key_tile && t->count; j++) t->rows[j] = t->rows[t->count - 1];
}

// ask_rest asks for what a tile of few tokens does not have the time to ask for, of the next one.
INLINE void ask_rest(const struct attend_args *a, const struct tile *t, const struct tile *next) {
  int64_t bytes = a->kv.kind == kv_i8 ? a->head_dim + 4 : 2 * a->head_dim;
  for (int64_t j = (t->count + LANES - 1) / LANES * LANES; j < next->count; j++) {
    for (int64_t i = 0; i < bytes; i += 64) {
      want(next->rows[j] + i, 1);
      want(next->rows[j] + a->kv.v_offset + i, 1);
    }
  }
}

// pack makes a tile's keys and values ready.
static void pack(const struct attend_args *a, struct walk *w, const struct tile *t, const struct tile *next) {
  const char *const *ahead = next->count ? next->rows : t->rows;
  switch (a->kv.kind) {
    case kv_f32:
      pack_keys(w, t->rows, ahead, t->count, kv_f32, 0);
      pack_values(w, t->rows, ahead, a->kv.v_offset, t->count, kv_f32, 0);
      break;
    case kv_i8:
      pack_keys(w, t->rows, ahead, t->count, kv_i8, 0);
      pack_values(w, t->rows, ahead, a->kv.v_offset, t->count, kv_i8, 0);
      break;
    default:
      if (w->dim < w->stride) {
        pack_keys(w, t->rows, ahead, t->count, kv_bf16, 0);
        pack_values(w, t->rows, ahead, a->kv.v_offset, t->count, kv_bf16, 0);
      } else {
        pack_keys(w, t->rows, ahead, t->count, kv_bf16, 1);
        pack_values(w, t->rows, ahead, a->kv.v_offset, t->count, kv_bf16, 1);
      }
  }
}

// read_scales lists the scales of a tile's keys and values. After its end weights are 0, and so are these.
static void read_scales(const struct attend_args *a, struct walk *w, const struct tile *t) {
  int64_t dim = w->dim, v_offset = a->kv.v_offset;
  for (int64_t j = 0; j < t->count; j++) {
    memcpy(w->key_scale + j, t->rows[j] + dim, sizeof(float));
    memcpy(w->value_scale + j, t->rows[j] + v_offset + dim, sizeof(float));
  }
  for (int64_t j = t->count; j < key_tile; j++) w->key_scale[j] = w->value_scale[j] = 0;
}

// clear_partials begins n sums.
static void clear_partials(struct partial *p, int64_t n) {
  memset(p, 0, n * sizeof *p);
  for (int64_t k = 0; k < n; k++) p[k].top = -__builtin_inff();
}

// merge_partials adds to a sum that of a later stretch. A sum over no tokens at all changes nothing.
static void merge_partials(struct partial *all, const struct partial *now, int64_t stride) {
  if (sum(load(now->total)) == 0) return;
  if (sum(load(all->total)) == 0) {
    memcpy(all, now, offsetof(struct partial, acc) + stride * sizeof(float));
    return;
  }
  float top = now->top > all->top ? now->top : all->top;
  vf before = weigh(splat(all->top) - splat(top)), after = weigh(splat(now->top) - splat(top));
  for (int64_t i = 0; i < stride; i += LANES) {
    store(all->acc + i, madd(load(now->acc + i), after, load(all->acc + i) * before));
  }
  store(all->total, madd(load(now->total), after, load(all->total) * before));
  all->top = top;
}

// put_out writes a query's output.
static void put_out(const struct partial *p, int64_t dim, float *out) {
  float row[max_head_dim + vector_elements];
  const float *acc = p->acc;
  float total = sum(load(p->total));
  for (int64_t i = 0; i < dim; i += vector_elements) {
#ifdef DOTS
    vf a, b;
    unmesh(load(acc + i), load(acc + i + LANES), &a, &b);
    store(row + i, a / splat(total));
    store(row + i + LANES, b / splat(total));
#else
    store(row + i, load(acc + i) / splat(total));
#endif
  }
  if (total != 0) {
    memcpy(out, row, dim * sizeof(float));
  } else {
    memset(out, 0, dim * sizeof(float));
  }
}

// row_of is the row of the batch that query k of a tile belongs to, and head_of its head.
INLINE int64_t row_of(const struct attend_args *a, const struct attend_tile *tile, int64_t k) {
  int64_t row = tile->row + k / (a->heads / a->kv_heads);
  return a->rows ? a->rows[row] : row;
}

INLINE int64_t head_of(const struct attend_args *a, int64_t kv_head, int64_t k) {
  int64_t group = a->heads / a->kv_heads;
  return kv_head * group + k % group;
}

// slot is where a head of a row keeps what it has summed of a stretch.
INLINE struct partial *slot(const struct attend_args *a, int64_t row, int64_t stretch, int64_t head) {
  return (void *)(a->slots + ((a->bases[row] + stretch) * a->heads + head) * a->slot_bytes);
}

// walk_of is the walk of the queries [first, first + count) of a tile.
INLINE struct cursor walk_of(const struct attend_args *a, const struct attend_tile *tile, int64_t first, int64_t count) {
  struct cursor c = {.segment = tile->segment, .end = tile->segment + tile->segments};
  for (int64_t k = 0; k < count; k++) c.last = max64(c.last, a->positions[row_of(a, tile, first + k)] + 1);
  if (a->mode == attend_stretch) {
    c.first = tile->stretch * stretch_tokens;
    c.last = min64(c.last, c.first + stretch_tokens);
  }
  return c;
}

// attend_queries computes the queries [first, first + count) of a tile's rows for one key-value head.
// What is asked for at the end is the tile `then`, which the thread walks after this.
static void attend_queries(const struct attend_args *a, struct walk *w, const struct attend_tile *tile, int64_t kv_head,
                           int64_t first, int64_t count, const struct tile *then) {
  int64_t dim = a->head_dim, rows[max_queries], heads[max_queries];
  int64_t stretch = a->mode == attend_stretch ? tile->stretch : tile->from / stretch_tokens;
  int64_t begun = tile->from > stretch * stretch_tokens, before = a->mode == attend_stretch ? 0 : stretch;
  const float *queries[max_queries];
  w->queries = count;
  w->scaled = a->kv.kind == kv_i8;
  w->dim = dim;
  w->stride = (dim + vector_elements - 1) / vector_elements * vector_elements;
  clear_partials(w->now, count);
  clear_partials(w->all, count);
  for (int64_t k = 0; k < count; k++) {
    int64_t row = rows[k] = row_of(a, tile, first + k), h = heads[k] = head_of(a, kv_head, first + k);
    queries[k] = a->q + row * a->q_stride + h * dim;
    w->last[k] = a->positions[row];
    for (int64_t s = 0; s < before; s++) merge_partials(&w->all[k], slot(a, row, s, h), w->stride);
    if (begun) memcpy(&w->now[k], slot(a, row, stretch, h), a->slot_bytes);
  }
  struct cursor c = walk_of(a, tile, first, count);
  // Without packing all queries take the same tokens: those of one row do, and rows that share a walk see all of it.
  int few_path = (tile->rows == 1 || a->rows) && count <= few_queries && w->stride == dim && few[a->kv.kind][count];
  struct tile tiles[2];
  int64_t turned = INT64_MIN, head = kv_head * a->kv.head_stride;
  next_tile(a, &c, &tiles[0], head);
  for (int i = 0; tiles[i].count; i = !i) {
    struct tile *t = &tiles[i];
    next_tile(a, &c, &tiles[!i], head);
    if (t->pos / stretch_tokens != stretch) {
      for (int64_t k = 0; k < count; k++) merge_partials(&w->all[k], &w->now[k], w->stride);
      clear_partials(w->now, count);
      stretch = t->pos / stretch_tokens;
    }
    if (t->delta != turned) turn_queries(a, w, queries, turned = t->delta);
    if (w->scaled) read_scales(a, w, t);
    const struct tile *next = tiles[!i].count ? &tiles[!i] : then;
    if (few_path) {
      ask_rest(a, t, next);
      few[a->kv.kind][count](w, t->rows, next->count ? next->rows : t->rows, a->kv.v_offset, t->count);
    } else {
      pack(a, w, t, next);
      attend_keys(w, t->pos, t->count);
    }
  }
  for (int64_t k = 0; k < count; k++) {
    if (a->mode == attend_stretch) {
      memcpy(slot(a, rows[k], tile->stretch, heads[k]), &w->now[k], a->slot_bytes);
      continue;
    }
    merge_partials(&w->all[k], &w->now[k], w->stride);
    put_out(&w->all[k], dim, a->out + (rows[k] * a->heads + heads[k]) * dim);
  }
}

// merge_tile merges a tile's stretches for one key-value head.
static void merge_tile(const struct attend_args *a, const struct attend_tile *tile, int64_t kv_head) {
  int64_t count = tile->rows * (a->heads / a->kv_heads), dim = a->head_dim;
  int64_t stride = (dim + vector_elements - 1) / vector_elements * vector_elements;
  for (int64_t k = 0; k < count; k++) {
    int64_t row = row_of(a, tile, k), h = head_of(a, kv_head, k);
    struct partial *all = slot(a, row, 0, h);
    for (int64_t s = 1; s <= tile->stretch; s++) merge_partials(all, slot(a, row, s, h), stride);
    put_out(all, dim, a->out + (row * a->heads + h) * dim);
  }
}

// attend_unit computes unit u. next is the one that this thread computes after it, or −1.
static void attend_unit(const struct attend_args *a, struct walk *w, int64_t u, int64_t next) {
  const struct attend_tile *tile = a->tiles + u / a->kv_heads;
  if (a->mode == attend_merge) {
    merge_tile(a, tile, u % a->kv_heads);
    return;
  }
  struct tile then = {.count = 0};
  if (next >= 0) {
    const struct attend_tile *after = a->tiles + next / a->kv_heads;
    struct cursor c = walk_of(a, after, 0, 1);
    next_tile(a, &c, &then, next % a->kv_heads * a->kv.head_stride);
  }
  int64_t count = tile->rows * (a->heads / a->kv_heads);
  for (int64_t k = 0; k < count; k += max_queries) {
    attend_queries(a, w, tile, u % a->kv_heads, k, min64(max_queries, count - k), &then);
  }
}

// attend_kernel takes its next units before it does the last one at hand, so that it can ask for their keys and values.
static void attend_kernel(void *args) {
  struct attend_args *a = args;
  struct walk *w = (void *)(a->rooms + __atomic_fetch_add(&a->taken, 1, __ATOMIC_RELAXED) * attend_room);
  int64_t u, hi, next, next_hi;
  for (int more = claim(&a->queue, &u, &hi); more; u = next, hi = next_hi) {
    for (; u < hi; u++) {
      if (u + 1 == hi) more = claim(&a->queue, &next, &next_hi);
      attend_unit(a, w, u, u + 1 < hi ? u + 1 : more ? next : -1);
    }
  }
}
