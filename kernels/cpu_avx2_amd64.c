//go:build cgo && !windows

// The vector of cpu_kernels.h in AVX2 and FMA: 8 lanes, 16 registers.

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include <immintrin.h>

#define LANES 8
#define PARTS (LANES / 4)
#define TILE_X 3  // 9 accumulators, 3 of x, one of W and the mask of odd: 14 registers
#define TILE_W 3
#define TILE_BYTES (1 << 20)
#define WIDTH(nx) ((nx) == 1 ? 1 : TILE_W)
#define ATTEND_QUERIES 6  // 12 accumulators, 2 of keys or values and one of a query: 15 registers
#define ATTEND_COLUMNS 2
#define FEW_COLUMNS 2
#define V static inline __attribute__((always_inline))

typedef __m256 vf;

V vf load(const float *p) { return _mm256_loadu_ps(p); }
V void store(float *p, vf v) { _mm256_storeu_ps(p, v); }
V vf keep(vf v) {
  __asm__("" : "+x"(v));
  return v;
}

V vf splat(float x) { return _mm256_set1_ps(x); }
V vf zero(void) { return _mm256_setzero_ps(); }
V vf madd(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
V vf above(vf a, vf b) { return _mm256_max_ps(a, b); }
V vf below(vf a, vf b) { return _mm256_min_ps(a, b); }
V vf round_even(vf v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

V vf power2(vf n) {
  __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

V float highest(vf v) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_max_ps(half, _mm_permute_ps(half, 0x4e));
  return _mm_cvtss_f32(_mm_max_ps(half, _mm_permute_ps(half, 0xb1)));
}

// halves is the sum of the two halves of a vector.
V __m128 halves(vf v) { return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)); }

V float sum(vf v) {
  v = _mm256_add_ps(v, _mm256_permute_ps(v, 0x4e));  // x0+x2 x1+x3 in each half
  v = _mm256_add_ps(v, _mm256_permute_ps(v, 0xb1));
  return _mm_cvtss_f32(halves(v));
}

V void sum4(float *p, vf a, vf b, vf c, vf d) {
  vf ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));  // a0+a2 b0+b2 a1+a3 b1+b3
  vf cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
  _mm_storeu_ps(p, halves(_mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee))));
}

V vf widen(const char *p) {
  __m256i half = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(half, 16));
}

V vf from_int8(const char *p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p))); }

V vf even(const char *p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256((const __m256i *)p), 16));
}

V vf odd(const char *p) {
  __m256i pairs = _mm256_loadu_si256((const __m256i *)p);
  return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000)));
}

V void split(vf a, vf b, vf *e, vf *o) {
  __m256 lo = _mm256_permute2f128_ps(a, b, 0x20), hi = _mm256_permute2f128_ps(a, b, 0x31);
  *e = _mm256_shuffle_ps(lo, hi, 0x88);
  *o = _mm256_shuffle_ps(lo, hi, 0xdd);
}

V void turn_fours(vf v[4]) {
  vf ab = _mm256_unpacklo_ps(v[0], v[1]), AB = _mm256_unpackhi_ps(v[0], v[1]);
  vf cd = _mm256_unpacklo_ps(v[2], v[3]), CD = _mm256_unpackhi_ps(v[2], v[3]);
  v[0] = _mm256_shuffle_ps(ab, cd, 0x44);
  v[1] = _mm256_shuffle_ps(ab, cd, 0xee);
  v[2] = _mm256_shuffle_ps(AB, CD, 0x44);
  v[3] = _mm256_shuffle_ps(AB, CD, 0xee);
}

V void turn_parts(vf *a, vf *b) {
  vf lo = _mm256_permute2f128_ps(*a, *b, 0x20);
  *b = _mm256_permute2f128_ps(*a, *b, 0x31);
  *a = lo;
}

V void transpose(vf v[LANES]) {
  turn_fours(v);
  turn_fours(v + 4);
  for (int i = 0; i < 4; i++) turn_parts(v + i, v + i + 4);
}

V vf fold(vf v[PARTS]) {
  turn_parts(v, v + 1);
  return v[0] + v[1];
}

V int any_reaches(vf v, vf mark) { return _mm256_movemask_ps(_mm256_cmp_ps(v, mark, _CMP_GE_OQ)); }

// Doubles.

typedef __m256d vd;

V vd doubles(const float *p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
V vd splat_double(double x) { return _mm256_set1_pd(x); }
V vd larger(vd a, vd b) { return _mm256_max_pd(a, b); }
V vd whole(vd v) { return _mm256_floor_pd(v); }
V vd whole_int(vd v) { return whole(v); }

#include "cpu_kernels.h"

const struct kernel_set quire_avx2 = KERNEL_SET;

#if defined(__clang__)
#pragma clang attribute pop
#endif
