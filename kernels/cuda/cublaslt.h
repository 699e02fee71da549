// The part of cuBLASLt's interface that this package uses, declared here so that no CUDA header is needed to build. The
// library is opened at run time, where there is one.
#ifndef QUIRE_CUBLASLT_H
#define QUIRE_CUBLASLT_H

#include <stddef.h>
#include <stdint.h>

typedef int cublasStatus_t;  // enumerations are ints here: the same to the calling convention
typedef void *cublasLtHandle_t;
typedef void *cublasLtMatmulDesc_t;
typedef void *cublasLtMatrixLayout_t;
typedef void *cublasLtMatmulPreference_t;

typedef struct {
  uint64_t data[8];
} cublasLtMatmulAlgo_t;

typedef struct {
  cublasLtMatmulAlgo_t algo;
  size_t workspaceSize;
  cublasStatus_t state;
  float wavesCount;
  int reserved[4];
} cublasLtMatmulHeuristicResult_t;

// QUIRE_CUBLASLT_CALLS is every call: X(name, parameters).
#define QUIRE_CUBLASLT_CALLS(X)                                                                                        \
  X(cublasLtCreate, (cublasLtHandle_t * handle))                                                                      \
  X(cublasLtDestroy, (cublasLtHandle_t handle))                                                                       \
  X(cublasLtMatmulDescCreate, (cublasLtMatmulDesc_t * desc, int compute, int scale))                                  \
  X(cublasLtMatmulDescDestroy, (cublasLtMatmulDesc_t desc))                                                           \
  X(cublasLtMatmulDescSetAttribute, (cublasLtMatmulDesc_t desc, int attribute, const void *value, size_t bytes))      \
  X(cublasLtMatrixLayoutCreate, (cublasLtMatrixLayout_t * layout, int type, uint64_t rows, uint64_t cols, int64_t ld)) \
  X(cublasLtMatrixLayoutDestroy, (cublasLtMatrixLayout_t layout))                                                     \
  X(cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t * preference))                                        \
  X(cublasLtMatmulPreferenceDestroy, (cublasLtMatmulPreference_t preference))                                         \
  X(cublasLtMatmulPreferenceSetAttribute,                                                                             \
    (cublasLtMatmulPreference_t preference, int attribute, const void *value, size_t bytes))                          \
  X(cublasLtMatmulAlgoGetHeuristic,                                                                                   \
    (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,          \
     cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int wanted,           \
     cublasLtMatmulHeuristicResult_t *results, int *found))                                                           \
  X(cublasLtMatmul,                                                                                                   \
    (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *a, cublasLtMatrixLayout_t a_at, \
     const void *b, cublasLtMatrixLayout_t b_at, const void *beta, const void *c, cublasLtMatrixLayout_t c_at, void *d, \
     cublasLtMatrixLayout_t d_at, const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,          \
     void *stream))

// quire_lt is the opened library and its handle. Go sees an incomplete type.
struct quire_lt;

// quire_lt_open opens library and makes a handle in the current context; NULL, with the reason in text, where it cannot.
struct quire_lt *quire_lt_open(const char *library, char *text, size_t text_bytes);
void quire_lt_close(struct quire_lt *lt);
size_t quire_lt_version(const struct quire_lt *lt);

// quire_lt_plan is a product of a shape with the algorithm that the library chose for it.
struct quire_lt_plan;

// quire_lt_plan_make plans out[rows, outputs] (+)= x[rows, cols] · w[outputs, cols]ᵀ, all row-major bfloat16 but for out,
// which float_out makes float32 and whose rows are out_stride numbers apart. Addresses will be multiples of 256. NULL, with
// the status, where there is no algorithm.
struct quire_lt_plan *quire_lt_plan_make(struct quire_lt *lt, int64_t rows, int64_t cols, int64_t outputs, int64_t out_stride,
                                         int float_out, int add, size_t workspace_bytes,
                                         cublasStatus_t *status);
void quire_lt_plan_free(struct quire_lt *lt, struct quire_lt_plan *plan);

// quire_lt_run queues it. It may be captured.
cublasStatus_t quire_lt_run(struct quire_lt *lt, const struct quire_lt_plan *plan, uint64_t x, uint64_t w, uint64_t out,
                            uint64_t workspace, void *stream);

#endif
