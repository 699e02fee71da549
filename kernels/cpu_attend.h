// Attention on the CPU, over the vector of cpu_kernels.h.
//
// A unit is one key-value head for the rows of a tile. Up to max_queries queries (row × head of the group) pass over the
// keys together, so that each key and value is read and widened once for all of them. Keys are walked in tiles of key_tile
// tokens that begin at multiples of key_tile in logical position, with one online softmax: how a prompt was cut into
// steps, or which rows share the walk, does not change a row's tiles, so it does not change its bits.
// https://arxiv.org/abs/1805.02867
//
//   q   [rows, q_stride]            kv   token: kv_heads · head_dim keys, and v_offset bytes on the values
//   out [rows, heads · head_dim]
//
// Bounds. Decoding is bound by the memory that holds keys and values: a tile's rows are prefetched while the one before
// is computed. (Walking several heads together, whose keys are neighbours, was slower.) Prefill is bound by multiply-adds.

enum { max_head_dim = 256, key_tile = 16, max_queries = 16 };

// walk is the state of one pass of a unit. Its matrices have rows of stride elements.
struct walk {
  int64_t queries, dim, stride;  // stride is dim rounded up to whole vectors; what lies between is zero
  int64_t last[max_queries];     // position of the row
  float top[max_queries];        // largest score so far
  float total[max_queries];      // of the weights
  float weight[max_queries][key_tile];
  float q[max_queries * max_head_dim], acc[max_queries * max_head_dim];
  float key[key_tile * max_head_dim], value[key_tile * max_head_dim];
};

// expand copies dim elements of a key or value as float32.
INLINE void expand(float *out, const char *row, int64_t dim, int float32s) {
  int64_t i = 0;
  if (float32s) {
    for (; i < dim; i += LANES) store(out + i, load_at((const float *)row, i, dim));
  } else {
    for (; i + LANES <= dim; i += LANES) store(out + i, widen(row + 2 * i));
    if (i < dim) store(out + i, widen_part(row + 2 * i, dim - i));
  }
}

// turn_queries reads the queries, scales them and, where the keys were stored for another position, turns them back by
// delta positions. The factor that the rope table carries is divided out: it is the cosine of position 0.
static void turn_queries(const struct attend_args *a, struct walk *w, const float *const *queries, int64_t delta) {
  int64_t half = w->dim / 2;
  float cos[max_head_dim / 2], sin[max_head_dim / 2];
  if (delta) {
    const float *row = a->rope + (delta < 0 ? -delta : delta) * w->dim;
    for (int64_t i = 0; i < half; i++) {
      cos[i] = row[i] / a->rope[0];
      sin[i] = (delta < 0 ? row[i + half] : -row[i + half]) / a->rope[0];
    }
  }
  for (int64_t k = 0; k < w->queries; k++) {
    float *q = w->q + k * w->stride;
    for (int64_t i = w->dim; i < w->stride; i++) q[i] = 0;
    if (delta) {
      rotate_pairs(q, queries[k], cos, sin, half);
    } else {
      memcpy(q, queries[k], w->dim * sizeof(float));
    }
    for (int64_t i = 0; i < w->dim; i++) q[i] *= a->scale;
  }
}

// scores sets the products of n queries from k on with the tile's keys. Keys past the tile's end give numbers that nobody
// reads.
INLINE void scores(struct walk *w, int64_t k, const int n) {
  const float *queries = w->q + k * w->stride;
  for (int j = 0; j < key_tile; j += 4) {
    const float *keys = w->key + j * w->stride;
    vf acc[2][4];
    UNROLL for (int m = 0; m < n; m++) {
      UNROLL for (int t = 0; t < 4; t++) acc[m][t] = zero();
    }
    for (int64_t i = 0; i < w->stride; i += LANES) {
      vf key[4];
      UNROLL for (int t = 0; t < 4; t++) key[t] = keep(load(keys + t * w->stride + i));
      UNROLL for (int m = 0; m < n; m++) {
        vf q = keep(load(queries + m * w->stride + i));
        UNROLL for (int t = 0; t < 4; t++) acc[m][t] = madd(q, key[t], acc[m][t]);
      }
    }
    UNROLL for (int m = 0; m < n; m++) sum4(w->weight[k + m] + j, acc[m][0], acc[m][1], acc[m][2], acc[m][3]);
  }
}

// largest is the largest of the tile's scores.
INLINE float largest(const float *s) {
  vf top = load(s);
  for (int j = LANES; j < key_tile; j += LANES) top = above(top, load(s + j));
  float lanes[LANES];
  store(lanes, top);
  for (int n = LANES / 2; n > 0; n /= 2) {
    for (int j = 0; j < n; j++) lanes[j] = lanes[j] > lanes[j + n] ? lanes[j] : lanes[j + n];
  }
  return lanes[0];
}

// soften turns the first n scores of query k into weights, the others into 0. If there is a new maximum, what was summed
// under the old one shrinks.
INLINE void soften(struct walk *w, int64_t k, int64_t n) {
  float *s = w->weight[k];
  for (int64_t j = n; j < key_tile; j++) s[j] = -__builtin_inff();
  float top = largest(s);
  if (top > w->top[k]) {
    float lanes[LANES];
    store(lanes, exponential(splat(w->top[k]) - splat(top)));
    float *acc = w->acc + k * w->stride;
    for (int64_t i = 0; i < w->stride; i += LANES) store(acc + i, load(acc + i) * splat(lanes[0]));
    w->total[k] *= lanes[0];
    w->top[k] = top;
  }
  vf totals = zero();
  for (int j = 0; j < key_tile; j += LANES) store(s + j, exponential(load(s + j) - splat(w->top[k])));
  for (int64_t j = n; j < key_tile; j++) s[j] = 0;
  for (int j = 0; j < key_tile; j += LANES) totals = totals + load(s + j);
  w->total[k] += sum(totals);
}

// add_values adds the first tokens weighted values of the tile to nv vectors from element i on of n queries from k on.
INLINE void add_values(struct walk *w, int64_t k, const int n, int64_t i, const int nv, int64_t tokens) {
  float *out = w->acc + k * w->stride + i;
  const float *values = w->value + i;
  vf acc[4][VALUES];
  UNROLL for (int m = 0; m < n; m++) {
    UNROLL for (int t = 0; t < nv; t++) acc[m][t] = load(out + m * w->stride + t * LANES);
  }
  for (int64_t j = 0; j < tokens; j++) {
    vf v[VALUES];
    UNROLL for (int t = 0; t < nv; t++) v[t] = keep(load(values + j * w->stride + t * LANES));
    UNROLL for (int m = 0; m < n; m++) {
      vf p = splat(w->weight[k + m][j]);
      UNROLL for (int t = 0; t < nv; t++) acc[m][t] = madd(p, v[t], acc[m][t]);
    }
  }
  UNROLL for (int m = 0; m < n; m++) {
    UNROLL for (int t = 0; t < nv; t++) store(out + m * w->stride + t * LANES, acc[m][t]);
  }
}

// add_rows is add_values over whole heads.
INLINE void add_rows(struct walk *w, int64_t k, const int n, int64_t tokens) {
  int64_t i = 0;
  for (; i + VALUES * LANES <= w->stride; i += VALUES * LANES) add_values(w, k, n, i, VALUES, tokens);
  for (; i < w->stride; i += LANES) add_values(w, k, n, i, 1, tokens);
}

// seen is how many of a tile's tokens, the first at pos, query k sees.
INLINE int64_t seen(const struct walk *w, int64_t k, int64_t pos, int64_t count) {
  return max64(0, min64(count, w->last[k] - pos + 1));
}

// attend_keys takes one tile of count tokens, the first at position pos, into every query.
static void attend_keys(struct walk *w, int64_t pos, int64_t count) {
  int64_t k = 0;
  for (; k + 2 <= w->queries; k += 2) scores(w, k, 2);
  if (k < w->queries) scores(w, k, 1);
  for (k = 0; k < w->queries; k++) {
    int64_t n = seen(w, k, pos, count);
    if (n > 0) soften(w, k, n);
  }
  for (k = 0; k < w->queries;) {
    // Queries that see the same tokens add them together. At the tile that holds their own rows they do not.
    int64_t n = seen(w, k, pos, count), same = 1;
    while (same < 4 && k + same < w->queries && seen(w, k + same, pos, count) == n) same++;
    if (same == 4) {
      add_rows(w, k, 4, n);
      k += 4;
    } else if (same >= 2) {
      add_rows(w, k, 2, n);
      k += 2;
    } else {
      add_rows(w, k, 1, n);
      k++;
    }
  }
}

// key_at is the key of token t of a segment, for the first head.
INLINE const char *key_at(const struct attend_args *a, const struct attend_segment *s, int64_t t) {
  uint32_t at = s->off + t, tokens = a->kv.block_tokens;
  return a->kv.base + a->blocks[s->block + at / tokens] * a->kv.block_stride + at % tokens * a->kv.token_stride;
}

// tile_end is the token after the tile that begins at token t.
INLINE int64_t tile_end(const struct attend_segment *s, int64_t t) {
  return min64(t + key_tile - (s->pos + t) % key_tile, s->len);
}

// attend_segment walks one segment. head is where the key-value head lies within a token, in bytes.
static void attend_segment(const struct attend_args *a, struct walk *w, const struct attend_segment *s, int64_t head) {
  int64_t bytes = w->dim * (a->kv.float32s ? 4 : 2), visible = 0;
  for (int64_t k = 0; k < w->queries; k++) visible = max64(visible, seen(w, k, s->pos, s->len));
  for (int64_t t = 0, end; t < visible; t = end) {
    end = tile_end(s, t);
    for (int64_t j = end; j < min64(end + key_tile, visible); j++) {
      const char *key = key_at(a, s, j) + head;
      for (int64_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch(key + i, 0, 2);  // to the second-level cache: more may be under way than to the first
        __builtin_prefetch(key + a->kv.v_offset + i, 0, 2);
      }
    }
    for (int64_t j = t; j < end; j++) {
      const char *key = key_at(a, s, j) + head;
      expand(w->key + (j - t) * w->stride, key, w->dim, a->kv.float32s);
      expand(w->value + (j - t) * w->stride, key + a->kv.v_offset, w->dim, a->kv.float32s);
    }
    attend_keys(w, s->pos + t, end - t);
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
  w->stride = (dim + LANES - 1) / LANES * LANES;
  memset(w->acc, 0, count * w->stride * sizeof(float));
  for (int64_t k = 0; k < count; k++) {
    int64_t row = tile->row + (first + k) / group, h = kv_head * group + (first + k) % group;
    queries[k] = a->q + row * a->q_stride + h * dim;
    out[k] = a->out + (row * a->heads + h) * dim;
    w->last[k] = a->positions[row];
    w->top[k] = -__builtin_inff();
    w->total[k] = 0;
  }
  int64_t turned = INT64_MIN;
  for (int32_t i = 0; i < tile->segments; i++) {
    const struct attend_segment *s = a->segments + tile->segment + i;
    int64_t delta = (int64_t)s->pos - s->stored;
    if (delta != turned) turn_queries(a, w, queries, turned = delta);
    attend_segment(a, w, s, kv_head * dim * (a->kv.float32s ? 4 : 2));
  }
  for (int64_t k = 0; k < count; k++) {
    const float *acc = w->acc + k * w->stride;
    for (int64_t i = 0; i < dim; i++) out[k][i] = w->total[k] != 0 ? acc[i] / w->total[k] : 0;
  }
}

static void attend_kernel(void *args) {
  struct attend_args *a = args;
  struct walk w;
  memset(w.key, 0, sizeof w.key);  // the rows that a first, short tile leaves are read, though not used
  for (int64_t u, hi; claim(&a->queue, &u, &hi);) {
    for (; u < hi; u++) {
      const struct attend_tile *tile = a->tiles + u / a->kv_heads;
      int64_t count = tile->rows * (a->heads / a->kv_heads);
      for (int64_t k = 0; k < count; k += max_queries) {
        attend_queries(a, &w, tile, u % a->kv_heads, k, min64(max_queries, count - k));
      }
    }
  }
}
