// What of the sampler's filters looks at every logit. Included by cpu_kernels.h.
//
//   peaks    the largest logit of each block
//   weigh    the weight of each block, and the sum of weight · exponent of each chunk
//   gather   the tokens whose logits reach a mark, and their weights
//
// A weight is that of package ref, bit for bit, so it is made of the same operations on doubles, each rounded: a product must
// not be fused with the sum that takes it. Weights are whole numbers, and a block's are less than 2^53 together: doubles add
// them up exactly, in any order.
//
// SPAN logits are looked at together; if none of them reaches the mark, nothing more is done with them. weigh of a row of
// 151,936, normally distributed with nearly all of them above the mark, on one core of Zen 4:
//
//   in Go                                    1,400 µs
//   a vector after the other                   280 µs   avx512      390 µs   avx2      740 µs   portable
//   a span's vectors step by step              180 µs               250 µs             480 µs
//   instructions for rounding and limits       135 µs               190 µs             410 µs

#define HALF (LANES / 2)
#define SPAN (4 * LANES)
#define SPAN_HALVES (SPAN / HALF)

typedef uint64_t vu64 __attribute__((vector_size(4 * LANES)));

INLINE double sum_doubles(vd v) {
  double s = 0;
  UNROLL for (int k = 0; k < HALF; k++) s += v[k];
  return s;
}

// product is a·b, rounded: the compiler cannot see that it is a product, and fuse it with a sum.
INLINE vd product(vd a, vd b) {
  vd p = a * b;
#if defined(__x86_64__)
  __asm__("" : "+v"(p));
#elif defined(__aarch64__)
  __asm__("" : "+w"(p));
#else
  __asm__("" : "+m"(p));
#endif
  return p;
}

// token_weights makes n times HALF exponents x, at most 0, into the weights e^x in units of 2^-40, rounded down. Those below −28,
// which have none, become −29. See ref.Weight. Each step is done for all n before the next one: there is nothing to wait for.
INLINE void token_weights(vd *w, vd *x, const int n) {
#define EACH UNROLL for (int i = 0; i < n; i++)
  vd halvings[SPAN_HALVES], r[SPAN_HALVES], rr[SPAN_HALVES], even[SPAN_HALVES], odd[SPAN_HALVES];
  EACH x[i] = larger(x[i], splat_double(-29));
  EACH halvings[i] = whole_int(product(x[i], splat_double(-1.44269504088896340736)) + splat_double(0.5));
  EACH r[i] = x[i] + product(halvings[i], splat_double(0.693147180559945309417));
  EACH rr[i] = product(r[i], r[i]);
  EACH even[i] = product(splat_double(1.0 / 3628800), rr[i]) + splat_double(1.0 / 40320);
  EACH odd[i] = product(splat_double(1.0 / 362880), rr[i]) + splat_double(1.0 / 5040);
  EACH even[i] = product(even[i], rr[i]) + splat_double(1.0 / 720);
  EACH odd[i] = product(odd[i], rr[i]) + splat_double(1.0 / 120);
  EACH even[i] = product(even[i], rr[i]) + splat_double(1.0 / 24);
  EACH odd[i] = product(odd[i], rr[i]) + splat_double(1.0 / 6);
  EACH even[i] = product(even[i], rr[i]) + splat_double(1.0 / 2);
  EACH odd[i] = product(odd[i], rr[i]) + splat_double(1);
  EACH even[i] = product(even[i], rr[i]) + splat_double(1);
  EACH even[i] = even[i] + product(odd[i], r[i]);
  EACH {
    // A double from 2^52 to 2^53 has a whole number in its low bits; here that is the exponent of 2^(40 − halvings).
    vd exponent = splat_double(4503599627370496.0 + 1023 + 40) - halvings[i];
    w[i] = whole(product(even[i], (vd)((vu64)exponent << 52)));
  }
#undef EACH
}

// exponents makes n times HALF logits into (logit − largest) / temperature.
INLINE void exponents(vd *x, const float *logits, const struct filter_row *row, const int n) {
  vd largest = splat_double(row->largest), temperature = splat_double(row->temperature);
  UNROLL for (int i = 0; i < n; i++) x[i] = (doubles(logits + i * HALF) - largest) / temperature;
}

// reaches says whether any of SPAN logits is at least the mark.
INLINE int reaches(const float *x, vf mark) {
  vf top = above(above(load(x), load(x + LANES)), above(load(x + 2 * LANES), load(x + 3 * LANES)));
  return any_reaches(top, mark);
}

// span is SPAN logits at x, of which there are n, and then −Inf in room.
INLINE const float *span(float *room, const float *x, int64_t n) {
  if (n >= SPAN) return x;
  for (int k = 0; k < SPAN; k++) room[k] = k < n ? x[k] : -INFINITY;
  return room;
}

// chunk_of is the row of unit u and where its logits [first, end) are.
INLINE const struct filter_row *chunk_of(const struct filter_args *a, int64_t u, int64_t *first, int64_t *end) {
  *first = u % a->chunks * a->chunk_len;
  *end = min64(*first + a->chunk_len, a->vocab);
  return (const struct filter_row *)(a->rows + u / a->chunks * a->row_bytes);
}

static void peaks_kernel(void *args) {
  struct filter_args *a = args;
  for (int64_t u, hi; claim(&a->queue, &u, &hi);) {
    for (; u < hi; u++) {
      int64_t first, end;
      const struct filter_row *row = chunk_of(a, u, &first, &end);
      for (int64_t at = first; at < end && row->peaks; at += FILTER_BLOCK) {
        const float *x = row->logits + at;
        int64_t n = min64(FILTER_BLOCK, end - at), i = 0;
        vf top = splat(-INFINITY);
        for (; i + LANES <= n; i += LANES) top = above(load(x + i), top);
        float lanes[LANES];
        store(lanes, top);
        for (; i < n; i++) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
        for (int k = 1; k < LANES; k++) lanes[0] = lanes[k] > lanes[0] ? lanes[k] : lanes[0];
        row->peaks[at / FILTER_BLOCK] = lanes[0];
      }
    }
  }
}

// weigh_block is the weight of n logits. It adds weight · exponent to moment if that is asked for.
INLINE uint64_t weigh_block(const struct filter_row *row, const float *logits, int64_t n, vd *moment, const int moments) {
  vd total = splat_double(0), x[SPAN_HALVES], w[SPAN_HALVES];
  float room[SPAN];
  for (int64_t at = 0; at < n; at += SPAN) {
    const float *s = span(room, logits + at, n - at);
    if (!reaches(s, splat(row->mark))) continue;
    exponents(x, s, row, SPAN_HALVES);
    token_weights(w, x, SPAN_HALVES);
    UNROLL for (int i = 0; i < SPAN_HALVES; i++) {
      total += w[i];
      if (moments) *moment += product(w[i], x[i]);
    }
  }
  return (uint64_t)(int64_t)sum_doubles(total);
}

static void weigh_kernel(void *args) {
  struct filter_args *a = args;
  for (int64_t u, hi; claim(&a->queue, &u, &hi);) {
    for (; u < hi; u++) {
      int64_t first, end;
      const struct filter_row *row = chunk_of(a, u, &first, &end);
      if (!row->sums) continue;
      vd moment = splat_double(0);
      for (int64_t at = first; at < end; at += FILTER_BLOCK) {
        const float *logits = row->logits + at;
        int64_t n = min64(FILTER_BLOCK, end - at);
        row->sums[at / FILTER_BLOCK] =
            row->moments ? weigh_block(row, logits, n, &moment, 1) : weigh_block(row, logits, n, 0, 0);
      }
      if (row->moments) row->moments[u % a->chunks] = sum_doubles(moment);
    }
  }
}

// write_candidates weighs the tokens with n ids.
static void write_candidates(const struct filter_row *row, struct candidate *out, const int32_t *ids, int64_t n) {
  enum { VECTORS = 2, TOGETHER = VECTORS * HALF };
  for (int64_t i = 0; i < n; i += TOGETHER) {
    float logits[TOGETHER];
    double numbers[TOGETHER];
    vd x[VECTORS], w[VECTORS];
    for (int k = 0; k < TOGETHER; k++) logits[k] = row->logits[ids[min64(i + k, n - 1)]];
    exponents(x, logits, row, VECTORS);
    token_weights(w, x, VECTORS);
    memcpy(numbers, w, sizeof numbers);
    for (int64_t k = 0; k < min64(TOGETHER, n - i); k++) {
      out[i + k] = (struct candidate){logits[k], (uint64_t)(int64_t)numbers[k], ids[i + k], 0};
    }
  }
}

static void gather_kernel(void *args) {
  struct filter_args *a = args;
  for (int64_t u, hi; claim(&a->queue, &u, &hi);) {
    for (; u < hi; u++) {
      int64_t first, end, written = 0, n = 0;
      const struct filter_row *row = chunk_of(a, u, &first, &end);
      if (!row->room) continue;
      struct candidate *out = row->room + first;
      float room[SPAN];
      int32_t ids[FILTER_BLOCK + SPAN];
      for (int64_t at = first; at < end; at += SPAN) {
        const float *s = span(room, row->logits + at, end - at);
        if (!reaches(s, splat(row->mark))) continue;
        for (int v = 0; v < SPAN; v += LANES) {
          if (!any_reaches(load(s + v), splat(row->mark))) continue;
          for (int k = v; k < v + LANES; k++) {  // without a branch: which of them reach it is anybody's guess
            ids[n] = (int32_t)(at + k);
            n += s[k] >= row->mark;
          }
        }
        if (n < FILTER_BLOCK) continue;
        write_candidates(row, out + written, ids, n);
        written += n, n = 0;
      }
      write_candidates(row, out + written, ids, n);
      row->counts[u % a->chunks] = written + n;
    }
  }
}
