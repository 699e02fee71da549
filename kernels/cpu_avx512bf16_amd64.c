//go:build cgo && !windows

// AVX-512 with dot products of bfloat16 (Zen 4, Sapphire Rapids and later): twice the arithmetic of AVX-512, for inputs of
// products that are rounded to bfloat16. The instruction rounds each of its steps to the nearest float32, takes subnormal
// numbers for zero, and does not look at the rounding mode: its results are the same on every processor.

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")
#endif

#include "cpu_avx512.h"

#define DOTS 1
#define TILE_X 8  // 24 accumulators at most, as many of W as WIDTH says and one of x: up to 31 registers
#define TILE_W 6
#define TILE_BYTES (24 << 10)
#define WIDTH(nx) ((nx) <= 2 ? 1 : (nx) <= 4 ? 6 : (nx) <= 6 ? 4 : 3)

typedef __m512bh vh;

V vh pairs(const char *p) { return (vh)_mm512_loadu_si512(p); }
V vh keep_pairs(vh v) {
  __asm__("" : "+v"(v));
  return v;
}
V vf dot(vh a, vh b, vf c) { return _mm512_dpbf16_ps(c, a, b); }
V void narrow(uint16_t *p, vf a, vf b) { _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(b, a)); }

#include "cpu_kernels.h"

const struct kernel_set quire_avx512bf16 = KERNEL_SET;

#if defined(__clang__)
#pragma clang attribute pop
#endif
