// Attention on the CPU, over the vector of cpu_kernels.h.
//
// A unit is one key-value head for the rows of a tile. Up to max_queries queries (row × head of the group) pass over the
// keys together. Keys are walked in tiles of key_tile tokens that begin at multiples of key_tile in logical position,
// wherever the segments lie, with one online softmax: how a prompt was cut into steps, which rows share the walk, or how
// much of the past is a shared segment does not change a row's tiles, so it does not change its bits.
// https://arxiv.org/abs/1805.02867
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
// Bounds. Decoding is bound by the memory that holds keys and values: a tile's rows are prefetched while the one before
// is packed. Prefill is bound by multiply-adds.

enum { max_head_dim = 256, key_tile = 64, max_queries = 64 };

#ifdef DOTS
enum { word_elements = 2 };
typedef vh words;  // LANES of them

INLINE words load_words(const char *p) { return pairs(p); }
INLINE void store_words(char *p, words v) { store((float *)p, (vf)v); }
INLINE void transpose_words(words v[LANES]) { transpose((vf *)v); }
INLINE vf weigh(vf x) { return power_of_2(x); }
static const float score_unit = 1.44269504088896341f;  // scores are logarithms to the base of 2
#else
enum { word_elements = 1 };
typedef vf words;

INLINE words load_words(const char *p) { return load((const float *)p); }
INLINE void store_words(char *p, words v) { store((float *)p, v); }
INLINE void transpose_words(words v[LANES]) { transpose(v); }
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
  float total[max_queries][LANES];  // of the weights, by lanes
  float acc[max_queries * max_head_dim];
  element q[max_queries * max_head_dim];
  char key[max_head_dim / word_elements * key_tile * 4];    // [word of a head][key]
  char value[key_tile / word_elements * max_head_dim * 4];  // [word of tokens][stride]
#ifdef DOTS
  element weight[max_queries][key_tile];
#endif
  float top[max_queries];     // largest score so far
  int64_t last[max_queries];  // position of the row
  int64_t queries, dim, stride;  // stride is dim rounded up to whole vectors; what lies between is zero
};

_Static_assert(sizeof(struct walk) <= attend_room, "a thread's room holds a walk");

// weights is the left side of a query's product with values.
INLINE const element *weights(const struct walk *w, int64_t k) {
#ifdef DOTS
  return w->weight[k];
#else
  return w->score[k];
#endif
}

// fetch is the elements of a key or value from i on, as many as a vector of words takes, with zeros after the end.
INLINE words fetch(const char *row, int64_t i, int64_t dim, const int float32s) {
#ifdef DOTS
  if (float32s) return narrowed(load_at((const float *)row, i, dim), load_at((const float *)row, i + LANES, dim));
  if (i + vector_elements <= dim) return pairs(row + 2 * i);
  char part[2 * vector_elements] = {0};
  memcpy(part, row + 2 * i, 2 * (dim - i));
  return pairs(part);
#else
  return float32s ? load_at((const float *)row, i, dim) : widen_at(row, i, dim);
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
    for (int64_t i = 0; i < w->stride; i += vector_elements) {
      store_words((char *)(w->q + k * w->stride + i), fetch((const char *)q, i, w->stride, 1));
    }
  }
}

// add_block adds to nq rows of nv vectors at out the products of so many words: rows of the left side that are left_stride
// bytes apart, with rows of the right side that are right_stride bytes apart. With half, the last word counts for its
// first element only.
INLINE void add_block(float *out, int64_t out_stride, const char *left, int64_t left_stride, const char *right,
                      int64_t right_stride, int64_t count, int half, const int nq, const int nv) {
  vf acc[ATTEND_QUERIES][ATTEND_COLUMNS];
  UNROLL for (int m = 0; m < nq; m++) {
    UNROLL for (int t = 0; t < nv; t++) acc[m][t] = load(out + m * out_stride + t * LANES);
  }
  for (int64_t i = 0; i < count; i++) {
    words b[ATTEND_COLUMNS];
    UNROLL for (int t = 0; t < nv; t++) b[t] = load_words(right + i * right_stride + t * LANES * 4);
    UNROLL for (int m = 0; m < nq; m++) {
      words x = spread(left + m * left_stride + 4 * i);
      UNROLL for (int t = 0; t < nv; t++) acc[m][t] = dot(x, b[t], acc[m][t]);
    }
  }
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

#define ADD_BLOCK(nq, name, nv)                                                                                 \
  static void add_##name##_##nq(float *out, int64_t out_stride, const char *left, int64_t left_stride,         \
                                const char *right, int64_t right_stride, int64_t count, int half) {            \
    add_block(out, out_stride, left, left_stride, right, right_stride, count, half, nq, nv);                   \
  }
#define ADD_BLOCKS(nq) ADD_BLOCK(nq, one, 1) ADD_BLOCK(nq, all, ATTEND_COLUMNS)

ADD_BLOCKS(1)
ADD_BLOCKS(2)
ADD_BLOCKS(3)
ADD_BLOCKS(4)
#if ATTEND_QUERIES > 4
ADD_BLOCKS(5)
ADD_BLOCKS(6)
#endif

// add_blocks[n] are add_block for n rows, of one vector and of ATTEND_COLUMNS.
static block_function *const add_blocks[ATTEND_QUERIES + 1][2] = {
    {0},
    {add_one_1, add_all_1},
    {add_one_2, add_all_2},
    {add_one_3, add_all_3},
    {add_one_4, add_all_4},
#if ATTEND_QUERIES > 4
    {add_one_5, add_all_5},
    {add_one_6, add_all_6},
#endif
};

// add_rows is add_block over so many vectors.
INLINE void add_rows(float *out, int64_t out_stride, const element *left, int64_t left_stride, const char *right,
                     int64_t right_vectors, int64_t count, int half, int64_t rows, int64_t vectors) {
  for (int64_t t = 0, n; t < vectors; t += n) {
    n = t + ATTEND_COLUMNS <= vectors ? ATTEND_COLUMNS : 1;
    add_blocks[rows][n > 1](out + t * LANES, out_stride, (const char *)left, left_stride * sizeof(element),
                            right + t * LANES * 4, right_vectors * LANES * 4, count, half);
  }
}

// pack_keys transposes a tile's keys, and asks for those of the next one.
INLINE void pack_keys(struct walk *w, const char *const *rows, const char *const *next, int64_t count,
                      const int float32s) {
  for (int64_t j = 0; j < count; j += LANES) {
    for (int64_t i = 0; i < w->dim; i += vector_elements) {
      words v[LANES];
      UNROLL for (int t = 0; t < LANES; t++) {
        v[t] = fetch(rows[j + t], i, w->dim, float32s);
        __builtin_prefetch(next[j + t] + i * (float32s ? 4 : 2), 0, 2);
      }
      transpose_words(v);
      UNROLL for (int t = 0; t < LANES; t++) {
        store_words(w->key + ((i / word_elements + t) * key_tile + j) * 4, v[t]);
      }
    }
  }
}

// pack_values does so with values: as float32, or in pairs of tokens.
INLINE void pack_values(struct walk *w, const char *const *rows, const char *const *next, int64_t v_offset, int64_t count,
                        const int float32s) {
  for (int64_t j = 0; j < count; j += word_elements) {
    char *out = w->value + j / word_elements * w->stride * 4;
    for (int64_t i = 0; i < w->dim; i += vector_elements) {
#ifdef DOTS
      vh lo, hi;
      __builtin_prefetch(next[j] + v_offset + i * (float32s ? 4 : 2), 0, 2);
      __builtin_prefetch(next[j + 1] + v_offset + i * (float32s ? 4 : 2), 0, 2);
      mesh(fetch(rows[j] + v_offset, i, w->dim, float32s), fetch(rows[j + 1] + v_offset, i, w->dim, float32s), &lo, &hi);
      store_words(out + 4 * i, lo);
      store_words(out + 4 * (i + LANES), hi);
#else
      __builtin_prefetch(next[j] + v_offset + i * (float32s ? 4 : 2), 0, 2);
      store_words(out + 4 * i, fetch(rows[j] + v_offset, i, w->dim, float32s));
#endif
    }
  }
}

// soften turns the first n scores of query k into weights. If there is a new maximum, what was summed under the old one
// shrinks.
INLINE void soften(struct walk *w, int64_t k, int64_t n) {
  float *s = w->score[k];
  int64_t end = (n + vector_elements - 1) / vector_elements * vector_elements;
  for (int64_t j = n; j < end; j++) s[j] = -__builtin_inff();
  vf most = load(s);
  for (int64_t j = LANES; j < end; j += LANES) most = above(most, load(s + j));
  float top = highest(most);
  vf total = load(w->total[k]);
  if (top > w->top[k]) {
    vf shrink = weigh(splat(w->top[k]) - splat(top));
    float *acc = w->acc + k * w->stride;
    for (int64_t i = 0; i < w->stride; i += LANES) store(acc + i, load(acc + i) * shrink);
    total = total * shrink;
    w->top[k] = top;
  }
  vf base = splat(w->top[k]);
#ifdef DOTS
  const uint16_t ones[2] = {0x3f80, 0x3f80};
  for (int64_t j = 0; j < end; j += 2 * LANES) {
    vh p = narrowed(weigh(load(s + j) - base), weigh(load(s + j + LANES) - base));
    store_words((char *)(w->weight[k] + j), p);
    total = dot(p, spread((const char *)ones), total);
  }
#else
  for (int64_t j = 0; j < end; j += LANES) store(s + j, weigh(load(s + j) - base));
  for (int64_t j = n; j < end; j++) s[j] = 0;
  for (int64_t j = 0; j < end; j += LANES) total = total + load(s + j);
#endif
  store(w->total[k], total);
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
    for (int64_t m = k; m < k + n; m++) memset(w->score[m], 0, sizeof w->score[m]);
    add_rows(w->score[k], key_tile, w->q + k * w->stride, w->stride, w->key, key_tile / LANES, w->dim / word_elements, 0, n,
             (most + LANES - 1) / LANES);
  }
  for (int64_t k = 0; k < w->queries; k++) {
    int64_t n = seen(w, k, pos, count);
    if (n > 0) soften(w, k, n);
  }
  for (int64_t k = 0, same; k < w->queries; k += same) {
    // Queries that see the same tokens add them together. At the tile that holds their own rows they do not.
    int64_t n = seen(w, k, pos, count);
    for (same = 1; same < ATTEND_QUERIES && k + same < w->queries && seen(w, k + same, pos, count) == n;) same++;
    add_rows(w->acc + k * w->stride, w->stride, weights(w, k), key_tile, w->value, w->stride / LANES, n / word_elements,
             n % word_elements, same, w->stride / LANES);
  }
}

// tile is where the tokens of one tile of keys lie.
struct tile {
  const char *rows[key_tile];  // keys; the last one again after the end
  int64_t pos, count, delta;
};

// cursor is how far a walk has come.
struct cursor {
  int64_t segment, end, token;  // token of the segment
  int64_t visible;              // tokens from this position on are seen by nobody
};

// next_tile lists the tile at the cursor and moves it on. A tile ends where the positions or their turns do not go on.
static void next_tile(const struct attend_args *a, struct cursor *c, struct tile *t, int64_t head) {
  t->count = 0;
  for (; c->segment < c->end; c->segment++, c->token = 0) {
    const struct attend_segment *s = a->segments + c->segment;
    int64_t len = min64(s->len, c->visible - s->pos), delta = (int64_t)s->pos - s->stored;
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

// pack makes a tile's keys and values ready.
static void pack(const struct attend_args *a, struct walk *w, const struct tile *t, const struct tile *next) {
  const char *const *ahead = next->count ? next->rows : t->rows;
  if (a->kv.float32s) {
    pack_keys(w, t->rows, ahead, t->count, 1);
    pack_values(w, t->rows, ahead, a->kv.v_offset, t->count, 1);
  } else {
    pack_keys(w, t->rows, ahead, t->count, 0);
    pack_values(w, t->rows, ahead, a->kv.v_offset, t->count, 0);
  }
}

// put_out writes a query's output.
static void put_out(const struct walk *w, int64_t k, float *out) {
  float row[max_head_dim];
  const float *acc = w->acc + k * w->stride;
  float total = sum(load(w->total[k]));
  for (int64_t i = 0; i < w->stride; i += vector_elements) {
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
    memcpy(out, row, w->dim * sizeof(float));
  } else {
    memset(out, 0, w->dim * sizeof(float));
  }
}

// attend_queries computes the queries [first, first + count) of a tile's rows for one key-value head.
static void attend_queries(const struct attend_args *a, struct walk *w, const struct attend_tile *tile, int64_t kv_head,
                           int64_t first, int64_t count) {
  int64_t group = a->heads / a->kv_heads, dim = a->head_dim;
  const float *queries[max_queries];
  float *out[max_queries];
  w->queries = count;
  w->dim = dim;
  w->stride = (dim + vector_elements - 1) / vector_elements * vector_elements;
  memset(w->acc, 0, count * w->stride * sizeof(float));
  memset(w->total, 0, count * sizeof w->total[0]);
  struct cursor c = {.segment = tile->segment, .end = tile->segment + tile->segments};
  for (int64_t k = 0; k < count; k++) {
    int64_t row = tile->row + (first + k) / group, h = kv_head * group + (first + k) % group;
    queries[k] = a->q + row * a->q_stride + h * dim;
    out[k] = a->out + (row * a->heads + h) * dim;
    w->last[k] = a->positions[row];
    w->top[k] = -__builtin_inff();
    c.visible = max64(c.visible, w->last[k] + 1);
  }
  struct tile tiles[2];
  int64_t turned = INT64_MIN, head = kv_head * dim * (a->kv.float32s ? 4 : 2);
  next_tile(a, &c, &tiles[0], head);
  for (int i = 0; tiles[i].count; i = !i) {
    struct tile *t = &tiles[i];
    next_tile(a, &c, &tiles[!i], head);
    if (t->delta != turned) turn_queries(a, w, queries, turned = t->delta);
    pack(a, w, t, &tiles[!i]);
    attend_keys(w, t->pos, t->count);
  }
  for (int64_t k = 0; k < count; k++) put_out(w, k, out[k]);
}

static void attend_kernel(void *args) {
  struct attend_args *a = args;
  struct walk *w = (void *)(a->rooms + __atomic_fetch_add(&a->taken, 1, __ATOMIC_RELAXED) * attend_room);
  for (int64_t u, hi; claim(&a->queue, &u, &hi);) {
    for (; u < hi; u++) {
      const struct attend_tile *tile = a->tiles + u / a->kv_heads;
      int64_t count = tile->rows * (a->heads / a->kv_heads);
      for (int64_t k = 0; k < count; k += max_queries) {
        attend_queries(a, w, tile, u % a->kv_heads, k, min64(max_queries, count - k));
      }
    }
  }
}
