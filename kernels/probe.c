//go:build cgo && !windows

// What the machine can do at best: loops that read memory, or multiply and add in registers, and nothing else. Figures
// are told as shares of what these loops reach just before and after.

#include "probe.h"

#define UNROLL _Pragma("GCC unroll 16")

// probe_claim takes the next unit; −1 at the end.
static inline int64_t probe_claim(struct probe_args *a) {
  int64_t next = __atomic_fetch_add(&a->queue.next, a->queue.grain, __ATOMIC_RELAXED);
  return next < a->queue.units ? next : -1;
}

// probe_sink uses a result, so that the compiler cannot leave out what it comes from.
static inline void probe_sink(struct probe_args *a, int64_t result) {
  __atomic_fetch_add(&a->sink, result, __ATOMIC_RELAXED);
}

#define BYTES 16
#define TARGET
#define NAME(x) portable_##x
#include "probe_loops.h"

const struct probe_set quire_probe_portable = {portable_read, portable_read4, portable_fma, 0, portable_fma_operations, 0};

#if defined(__x86_64__)
#include <immintrin.h>

#define BYTES 32
#define TARGET __attribute__((target("avx2,fma")))
#define NAME(x) avx2_##x
#include "probe_loops.h"

const struct probe_set quire_probe_avx2 = {avx2_read, avx2_read4, avx2_fma, 0, avx2_fma_operations, 0};

#define BYTES 64
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")))
#define NAME(x) avx512bf16_##x
#include "probe_loops.h"

// dot is 12 chains of bfloat16 dot products: two multiply-adds in each of 16 lanes.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16"))) static void avx512bf16_dot(void *args) {
  struct probe_args *a = args;
  __m512 sum[12];
  for (int k = 0; k < 12; k++) sum[k] = _mm512_set1_ps((float)k);
  __m512bh x = (__m512bh)_mm512_set1_epi32(0x3c003c00 + (int)a->ahead), y = (__m512bh)_mm512_set1_epi32(0x3c803c80);
  while (probe_claim(a) >= 0) {
    for (int64_t s = 0; s < a->steps; s++) {
      UNROLL for (int k = 0; k < 12; k++) sum[k] = _mm512_dpbf16_ps(sum[k], x, y);
    }
  }
  for (int k = 1; k < 12; k++) sum[0] = _mm512_add_ps(sum[0], sum[k]);
  probe_sink(a, (int64_t)_mm512_cvtss_f32(sum[0]));
}

const struct probe_set quire_probe_avx512bf16 = {
    avx512bf16_read, avx512bf16_read4, avx512bf16_fma, avx512bf16_dot, avx512bf16_fma_operations, 12 * 16 * 2 * 2,
};
#endif
