// The arguments of the loops that measure a machine; probe.go describes them.

#ifndef QUIRE_PROBE_H
#define QUIRE_PROBE_H

#include "cpu.h"

struct probe_args {
  struct queue queue;
  const char *data;
  int64_t unit_bytes, ahead, steps, sink;
};

// The loops for one family of processors; dot is null where it has no bfloat16 dot product.
struct probe_set {
  kernel *read, *read4, *fma, *dot;
  int64_t fma_operations, dot_operations;  // of one step
};

extern const struct probe_set quire_probe_avx512bf16, quire_probe_avx2, quire_probe_portable;

#endif
