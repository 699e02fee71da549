// The vector of cpu_kernels.h in AVX-512: 16 lanes, 32 registers.

#include <immintrin.h>
#include <stdint.h>

#define LANES 16
#define PARTS (LANES / 4)
#define ATTEND_QUERIES 6  // 24 accumulators, 4 of keys or values and one of a query: 29 registers
#define ATTEND_COLUMNS 4
#define FEW_COLUMNS 4
#define V static inline __attribute__((always_inline))

typedef __m512 vf;

V vf load(const float *p) { return _mm512_loadu_ps(p); }
V void store(float *p, vf v) { _mm512_storeu_ps(p, v); }
V vf keep(vf v) {
  __asm__("" : "+v"(v));
  return v;
}

V vf splat(float x) { return _mm512_set1_ps(x); }
V vf zero(void) { return _mm512_setzero_ps(); }
V vf madd(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
V vf above(vf a, vf b) { return _mm512_max_ps(a, b); }
V vf below(vf a, vf b) { return _mm512_min_ps(a, b); }
V vf round_even(vf v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

V vf power2(vf n) {
  __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}

V float highest(vf v) {
  v = _mm512_max_ps(v, _mm512_shuffle_f32x4(v, v, 0x4e));
  v = _mm512_max_ps(v, _mm512_shuffle_f32x4(v, v, 0xb1));
  v = _mm512_max_ps(v, _mm512_permute_ps(v, 0x4e));
  return _mm512_cvtss_f32(_mm512_max_ps(v, _mm512_permute_ps(v, 0xb1)));
}

// quarters is the sum of the four quarters of a vector, the first and the third first.
V __m128 quarters(vf v) {
  __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  return _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
}

V float sum(vf v) {
  v = _mm512_add_ps(v, _mm512_permute_ps(v, 0x4e));  // x0+x2 x1+x3 in each quarter
  v = _mm512_add_ps(v, _mm512_permute_ps(v, 0xb1));
  return _mm_cvtss_f32(quarters(v));
}

V void sum4(float *p, vf a, vf b, vf c, vf d) {
  vf ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));  // a0+a2 b0+b2 a1+a3 b1+b3
  vf cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  _mm_storeu_ps(p, quarters(_mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee))));
}

V vf widen(const char *p) {
  __m512i half = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(half, 16));
}

V vf from_int8(const char *p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p))); }

V vf even(const char *p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16)); }

V vf odd(const char *p) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32((int)0xffff0000)));
}

V void split(vf a, vf b, vf *e, vf *o) {
  const __m512i evens = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  *e = _mm512_permutex2var_ps(a, evens, b);
  *o = _mm512_permutex2var_ps(a, _mm512_or_si512(evens, _mm512_set1_epi32(1)), b);
}

V void turn_fours(vf v[4]) {
  vf ab = _mm512_unpacklo_ps(v[0], v[1]), AB = _mm512_unpackhi_ps(v[0], v[1]);
  vf cd = _mm512_unpacklo_ps(v[2], v[3]), CD = _mm512_unpackhi_ps(v[2], v[3]);
  v[0] = _mm512_shuffle_ps(ab, cd, 0x44);
  v[1] = _mm512_shuffle_ps(ab, cd, 0xee);
  v[2] = _mm512_shuffle_ps(AB, CD, 0x44);
  v[3] = _mm512_shuffle_ps(AB, CD, 0xee);
}

V void turn_parts(vf *a, vf *b, vf *c, vf *d) {
  vf ab = _mm512_shuffle_f32x4(*a, *b, 0x88), AB = _mm512_shuffle_f32x4(*a, *b, 0xdd);
  vf cd = _mm512_shuffle_f32x4(*c, *d, 0x88), CD = _mm512_shuffle_f32x4(*c, *d, 0xdd);
  *a = _mm512_shuffle_f32x4(ab, cd, 0x88);
  *b = _mm512_shuffle_f32x4(AB, CD, 0x88);
  *c = _mm512_shuffle_f32x4(ab, cd, 0xdd);
  *d = _mm512_shuffle_f32x4(AB, CD, 0xdd);
}

V void transpose(vf v[LANES]) {
  for (int i = 0; i < LANES; i += 4) turn_fours(v + i);
  for (int i = 0; i < 4; i++) turn_parts(v + i, v + i + 4, v + i + 8, v + i + 12);
}

V vf fold(vf v[PARTS]) {
  turn_parts(v, v + 1, v + 2, v + 3);
  return v[0] + v[1] + v[2] + v[3];
}

V int any_reaches(vf v, vf mark) { return _mm512_cmp_ps_mask(v, mark, _CMP_GE_OQ) != 0; }

// Doubles.

typedef __m512d vd;

V vd doubles(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
V vd splat_double(double x) { return _mm512_set1_pd(x); }
V vd larger(vd a, vd b) { return _mm512_max_pd(a, b); }
V vd whole(vd v) { return _mm512_roundscale_pd(v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
V vd whole_int(vd v) { return whole(v); }
