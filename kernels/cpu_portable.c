//go:build cgo && !windows

// The vector of cpu_kernels.h in the vector extensions of GCC and Clang: 4 lanes, whatever the processor. There is no
// fused multiply-add here but where every processor of the family has one.

#include <stdint.h>
#include <string.h>

#define LANES 4
#define PARTS (LANES / 4)
#define TILE_X 2
#define TILE_W 4
#define TILE_BYTES (1 << 20)
#define WIDTH(nx) ((nx) == 1 ? 1 : TILE_W)
#define ATTEND_QUERIES 4
#define ATTEND_COLUMNS 2
#define FEW_COLUMNS 2
#define V static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(16)));
typedef uint32_t vu __attribute__((vector_size(16)));

V vf load(const float *p) {
  vf v;
  memcpy(&v, p, sizeof v);
  return v;
}

V void store(float *p, vf v) { memcpy(p, &v, sizeof v); }
V vf keep(vf v) { return v; }
V vf splat(float x) { return (vf){x, x, x, x}; }
V vf zero(void) { return splat(0); }

#if defined(__aarch64__)
#include <arm_neon.h>
V vf madd(vf a, vf b, vf c) { return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
#else
V vf madd(vf a, vf b, vf c) { return a * b + c; }
#endif

#if defined(__SSE__)
#include <xmmintrin.h>
V vf above(vf a, vf b) { return (vf)_mm_max_ps((__m128)a, (__m128)b); }
V vf below(vf a, vf b) { return (vf)_mm_min_ps((__m128)a, (__m128)b); }
#else
// choose is a where the mask is set, else b.
V vf choose(vu mask, vf a, vf b) { return (vf)((mask & (vu)a) | (~mask & (vu)b)); }
V vf above(vf a, vf b) { return choose((vu)(a > b), a, b); }
V vf below(vf a, vf b) { return choose((vu)(a < b), a, b); }
#endif

// round_even adds and takes away 1.5 · 2^23, which leaves no bits for fractions.
V vf round_even(vf v) {
  vf big = v + splat(12582912.0f);
  return big - splat(12582912.0f);
}

V vf power2(vf n) {
  vf sum = n + splat(12582912.0f + 127.0f);  // the low bits are n + 127
  return (vf)((vu)sum << 23);
}

V float sum(vf v) { return (v[0] + v[2]) + (v[1] + v[3]); }

V float highest(vf v) {
  v = above(v, (vf){v[2], v[3], v[0], v[1]});
  return v[0] > v[1] ? v[0] : v[1];
}

V void sum4(float *p, vf a, vf b, vf c, vf d) {
  p[0] = sum(a);
  p[1] = sum(b);
  p[2] = sum(c);
  p[3] = sum(d);
}

V vf from_int8(const char *p) {
  const signed char *x = (const signed char *)p;
  return (vf){x[0], x[1], x[2], x[3]};
}

V vf even(const char *p) {
  vu pairs;
  memcpy(&pairs, p, sizeof pairs);
  return (vf)(pairs << 16);
}

V vf odd(const char *p) {
  vu pairs;
  memcpy(&pairs, p, sizeof pairs);
  return (vf)(pairs & 0xffff0000);
}

V vf widen(const char *p) {
  uint16_t h[LANES];
  memcpy(h, p, sizeof h);
  return (vf)((vu){h[0], h[1], h[2], h[3]} << 16);
}

V void split(vf a, vf b, vf *e, vf *o) {
  *e = (vf){a[0], a[2], b[0], b[2]};
  *o = (vf){a[1], a[3], b[1], b[3]};
}

V void turn_fours(vf v[4]) {
  vf a = v[0], b = v[1], c = v[2], d = v[3];
  for (int i = 0; i < LANES; i++) v[i] = (vf){a[i], b[i], c[i], d[i]};
}

V void transpose(vf v[LANES]) { turn_fours(v); }
V vf fold(vf v[PARTS]) { return v[0]; }

V int any_reaches(vf v, vf mark) {
  vu mask = (vu)(v >= mark);
  return (mask[0] | mask[1] | mask[2] | mask[3]) != 0;
}

// Doubles.

typedef double vd __attribute__((vector_size(16)));
typedef int64_t vl __attribute__((vector_size(16)));

V vd doubles(const float *p) { return (vd){p[0], p[1]}; }
V vd splat_double(double x) { return (vd){x, x}; }
V vd larger(vd a, vd b) { return (vd){a[0] > b[0] ? a[0] : b[0], a[1] > b[1] ? a[1] : b[1]}; }
V vd whole_int(vd v) { return (vd){(int32_t)v[0], (int32_t)v[1]}; }

#if defined(__aarch64__)
V vd whole(vd v) { return (vd)vrndmq_f64((float64x2_t)v); }
#else
// whole rounds to the nearest by adding and taking away 2^52, which leaves no bits for fractions; where that went up, it
// goes one back.
V vd whole(vd v) {
  const vd big = splat_double(4503599627370496.0);
  vd nearest = (v + big) - big;
  return nearest - (vd)((vl)(nearest > v) & (vl)splat_double(1));
}
#endif

#include "cpu_kernels.h"

const struct kernel_set quire_portable = KERNEL_SET;
