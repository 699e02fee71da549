// A tensor map: how the copy engine finds tiles of a matrix in memory. Its bits are the driver's own
// (cuTensorMapEncodeTiled); kernels take them by value, at a multiple of 64 bytes.
#pragma once
#include <stdint.h>

struct alignas(64) TensorMap {
  uint64_t words[16];
};
