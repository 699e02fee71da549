// The loops of probe.c for vectors of BYTES, compiled for TARGET; NAME gives a function its name.
//
//   read    a unit from its beginning to its end; bound by memory
//   read4   the four quarters of a unit side by side, so that more pages and banks are open at once
//   fma     12 chains of multiply-adds in registers; bound by arithmetic
//
// Reading asks for what lies ahead bytes further on: 0 leaves that to the processor.

#define INTS NAME(ints)
#define FLOATS NAME(floats)

typedef int64_t INTS __attribute__((vector_size(BYTES)));
typedef float FLOATS __attribute__((vector_size(BYTES)));

// A step of reading is eight vectors.
TARGET static void NAME(read)(void *args) {
  struct probe_args *a = args;
  INTS sum[8] = {{0}};
  for (int64_t u; (u = probe_claim(a)) >= 0;) {
    const char *p = a->data + u * a->unit_bytes;
    for (const char *end = p + a->unit_bytes; p < end; p += 8 * BYTES) {
      for (int i = 0; i < 8 * BYTES; i += 64) __builtin_prefetch(p + a->ahead + i, 0, 3);
      UNROLL for (int i = 0; i < 8; i++) sum[i] ^= ((const INTS *)p)[i];
    }
  }
  for (int i = 1; i < 8; i++) sum[0] ^= sum[i];
  for (unsigned i = 1; i < BYTES / sizeof(int64_t); i++) sum[0][0] ^= sum[0][i];
  probe_sink(a, sum[0][0]);
}

TARGET static void NAME(read4)(void *args) {
  struct probe_args *a = args;
  INTS sum[8] = {{0}};
  for (int64_t u; (u = probe_claim(a)) >= 0;) {
    const char *p = a->data + u * a->unit_bytes;
    int64_t quarter = a->unit_bytes / 4;
    for (const char *end = p + quarter; p < end; p += 2 * BYTES) {
      UNROLL for (int i = 0; i < 4; i++) {
        const INTS *v = (const INTS *)(p + i * quarter);
        __builtin_prefetch((const char *)v + a->ahead, 0, 3);
        sum[2 * i] ^= v[0];
        sum[2 * i + 1] ^= v[1];
      }
    }
  }
  for (int i = 1; i < 8; i++) sum[0] ^= sum[i];
  for (unsigned i = 1; i < BYTES / sizeof(int64_t); i++) sum[0][0] ^= sum[0][i];
  probe_sink(a, sum[0][0]);
}

enum { NAME(fma_operations) = 12 * BYTES / sizeof(float) * 2 };

TARGET static void NAME(fma)(void *args) {
  struct probe_args *a = args;
  FLOATS sum[12], x, y;
  for (unsigned i = 0; i < BYTES / sizeof(float); i++) {
    x[i] = 0.5f;
    y[i] = 1.0f + (float)a->ahead;
    for (int k = 0; k < 12; k++) sum[k][i] = (float)k;
  }
  while (probe_claim(a) >= 0) {
    for (int64_t s = 0; s < a->steps; s++) {
      UNROLL for (int k = 0; k < 12; k++) sum[k] = sum[k] * x + y;
    }
  }
  for (int k = 1; k < 12; k++) sum[0] += sum[k];
  probe_sink(a, (int64_t)sum[0][0]);
}

#undef INTS
#undef FLOATS
#undef BYTES
#undef TARGET
#undef NAME
