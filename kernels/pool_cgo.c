//go:build cgo && !windows && (amd64 || arm64 || loong64 || riscv64)

// The life of pool.go's workers in C.

#include <time.h>

#include "cpu.h"

static int64_t nanos(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * (int64_t)1000000000 + t.tv_nsec;
}

static inline void pause_briefly(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// next_state looks for a round to join, for at most so long; 0 for none.
static uint64_t next_state(struct pool *p, uint64_t round, int64_t spin_nanos) {
  for (int64_t start = nanos(); nanos() - start < spin_nanos;) {
    for (int i = 0; i < 64; i++) {
      uint64_t state = __atomic_load_n(&p->state, __ATOMIC_ACQUIRE);
      if (state & pool_open && state >> 32 != round) return state;
      pause_briefly();
    }
  }
  return 0;
}

int quire_stay(struct pool *p, uint64_t *round, int64_t spin_nanos) {
  for (;;) {
    p->compiled(p->args);
    uint64_t state = __atomic_sub_fetch(&p->state, 1, __ATOMIC_SEQ_CST);
    if ((state & (pool_open - 1)) == 0 && __atomic_load_n(&p->waiting, __ATOMIC_SEQ_CST)) return pool_last;
    do {
      state = next_state(p, *round, spin_nanos);
      if (state == 0) return pool_left;
    } while (!__atomic_compare_exchange_n(&p->state, &state, state + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    *round = state >> 32;
    if (!p->compiled) return pool_joined;
  }
}
