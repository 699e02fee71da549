//go:build cgo && !windows

// AVX-512 with float32 on both sides of every product.

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma")
#endif

#include "cpu_avx512.h"

#define TILE_X 6  // 24 accumulators, 6 of x and one of W: 31 registers
#define TILE_W 4
#define TILE_BYTES (1 << 20)
#define WIDTH(nx) ((nx) == 1 ? 1 : TILE_W)

#include "cpu_kernels.h"

const struct kernel_set quire_avx512 = KERNEL_SET;

#if defined(__clang__)
#pragma clang attribute pop
#endif
