//go:build cgo && !windows

// AVX-512 with dot products of bfloat16 (Zen 4, Sapphire Rapids and later): twice the arithmetic of AVX-512, for inputs of
// products that are rounded to bfloat16. The instruction rounds each of its steps to the nearest float32, takes subnormal
// numbers for zero, and does not look at the rounding mode: its results are the same on every processor.

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,fma")
#endif

#include <string.h>

#include "cpu_avx512.h"

#define DOTS 1
#define TILE_X 8  // 24 accumulators at most, as many of W as WIDTH says and one of x: up to 31 registers
#define TILE_W 6
#define TILE_BYTES (33 << 10)
#define WIDTH(nx) ((nx) <= 2 ? 1 : (nx) <= 4 ? 6 : (nx) <= 6 ? 4 : 3)

typedef __m512bh vh;

V vh pairs(const char *p) { return (vh)_mm512_loadu_si512(p); }
V vh keep_pairs(vh v) {
  __asm__("" : "+v"(v));
  return v;
}
V vf dot(vh a, vh b, vf c) { return _mm512_dpbf16_ps(c, a, b); }
V void narrow(uint16_t *p, vf a, vf b) { _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(b, a)); }


V vh narrowed(vf a, vf b) { return (vh)_mm512_cvtne2ps_pbh(b, a); }
V vh spread(const char *p) {
  int32_t pair;
  memcpy(&pair, p, sizeof pair);
  return (vh)_mm512_set1_epi32(pair);
}
V vh first_of_pairs(vh v) { return (vh)_mm512_and_si512((__m512i)v, _mm512_set1_epi32(0xffff)); }

// mesh pairs the elements of a and b: in each quarter, lo has the first four, hi the others. unmesh puts sums in order.
V void mesh(vh a, vh b, vh *lo, vh *hi) {
  *lo = (vh)_mm512_unpacklo_epi16((__m512i)a, (__m512i)b);
  *hi = (vh)_mm512_unpackhi_epi16((__m512i)a, (__m512i)b);
}
V void unmesh(vf lo, vf hi, vf *a, vf *b) {
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  *a = _mm512_permutex2var_ps(lo, first, hi);
  *b = _mm512_permutex2var_ps(lo, _mm512_add_epi32(first, _mm512_set1_epi32(8)), hi);
}

// power_of_2 is 2^x within 3e-6 of it, 0 for −∞. The polynomial is the minimax one of 2^f for f in 0..1 that is 1 at 0.
V vf power_of_2(vf x) {
  vf f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  vf p = splat(0.0134266838f);
  p = madd(p, f, splat(0.0522424728f));
  p = madd(p, f, splat(0.241280198f));
  p = madd(p, f, splat(0.693044841f));
  p = madd(p, f, splat(1.0f));
  return _mm512_scalef_ps(p, x);
}

#include "cpu_kernels.h"

const struct kernel_set quire_avx512bf16 = KERNEL_SET;

#if defined(__clang__)
#pragma clang attribute pop
#endif
