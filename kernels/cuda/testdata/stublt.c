// cuBLASLt for tests: it multiplies nothing and leaves a line in the log of the stub driver for each plan and each product.
// What a caller gets wrong is CUBLAS_STATUS_INVALID_VALUE. A call fails where the test says so; -1 of the heuristic is that
// it finds no algorithm.
#define _GNU_SOURCE
#include "stub.h"

#include "../cublaslt.h"

#define PROTOTYPE(name, params) cublasStatus_t name params;
QUIRE_CUBLASLT_CALLS(PROTOTYPE)
size_t cublasLtGetVersion(void);

enum { INVALID = 7, HANDLE = 100, PRODUCT, LAYOUT, PREFERENCE };

struct thing {  // any object
  int kind, type, turned;
  uint64_t rows, cols;
  int64_t ld;
  size_t workspace_bytes;
};

static int things, plans;

#define ENTER                       \
  do {                              \
    int failed = failing(__func__); \
    if (failed) return failed;      \
  } while (0)

static cublasStatus_t make(void *to, struct thing t) {
  struct thing *made = malloc(sizeof t);
  *made = t;
  *(void **)to = made;
  things++;
  return 0;
}

static const struct thing *of(const void *p, int kind) {
  static const struct thing none;
  return p && ((const struct thing *)p)->kind == kind ? p : &none;
}

static cublasStatus_t end(void *p, int kind) {
  if (!of(p, kind)->kind) return INVALID;
  free(p);
  things--;
  return 0;
}

size_t cublasLtGetVersion(void) { return 130203; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
  ENTER;
  say("lt create\n");
  return make(handle, (struct thing){.kind = HANDLE});
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  ENTER;
  cublasStatus_t status = end(handle, HANDLE);
  say("lt destroy status=%d left=%d\n", status, things);
  return status;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, int compute, int scale) {
  ENTER;
  return compute == 68 && scale == 0 ? make(desc, (struct thing){.kind = PRODUCT}) : INVALID;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, int attribute, const void *value, size_t bytes) {
  ENTER;
  if (!of(desc, PRODUCT)->kind || attribute != 3 || bytes != 4) return INVALID;
  memcpy(&((struct thing *)desc)->turned, value, bytes);
  return 0;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  ENTER;
  if (!rows || !cols || ld < (int64_t)rows) return INVALID;
  return make(layout, (struct thing){.kind = LAYOUT, .type = type, .rows = rows, .cols = cols, .ld = ld});
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
  ENTER;
  return make(preference, (struct thing){.kind = PREFERENCE});
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference, int attribute, const void *value,
                                                    size_t bytes) {
  ENTER;
  if (!of(preference, PREFERENCE)->kind || attribute != 1 || bytes != sizeof(size_t)) return INVALID;
  memcpy(&((struct thing *)preference)->workspace_bytes, value, bytes);
  return 0;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { return end(desc, PRODUCT); }
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return end(layout, LAYOUT); }
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { return end(preference, PREFERENCE); }

// agree says whether out[cols of b, cols of a] can be the product: both are read along their columns.
static int agree(cublasLtMatmulDesc_t desc, const void *a, const void *b, const void *c, const void *d) {
  const struct thing *w = of(a, LAYOUT), *x = of(b, LAYOUT), *out = of(d, LAYOUT);
  return of(desc, PRODUCT)->turned == 1 && w->type == 14 && x->type == 14 && (out->type == 14 || out->type == 0) && c == d &&
         w->rows && w->rows == x->rows && out->rows == w->cols && out->cols == x->cols;
}

// The algorithm is the number of the plan, and takes half of the workspace.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results, int *found) {
  *found = 0;
  int failed = failing(__func__);
  if (failed) return failed < 0 ? 0 : failed;
  if (!of(handle, HANDLE)->kind || !agree(desc, a, b, c, d) || wanted != 1) return INVALID;
  memset(results, 0, sizeof *results);
  results->workspaceSize = of(preference, PREFERENCE)->workspace_bytes / 2;
  results->algo.data[0] = ++plans;
  *found = 1;
  say("lt plan %d\n", plans);
  return 0;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_at, const void *b, cublasLtMatrixLayout_t b_at, const void *beta,
                              const void *c, cublasLtMatrixLayout_t c_at, void *d, cublasLtMatrixLayout_t d_at,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes, void *stream) {
  ENTER;
  if (!of(handle, HANDLE)->kind || !agree(desc, a_at, b_at, c_at, d_at) || *(const float *)alpha != 1 || c != d ||
      ((uintptr_t)a | (uintptr_t)b | (uintptr_t)d | (uintptr_t)workspace) % 256 || !stream || *(const int *)stream != STREAM) {
    return INVALID;
  }
  const struct thing *w = a_at, *x = b_at, *out = d_at;
  say("lt matmul plan=%d rows=%d cols=%d outputs=%d ld=%d,%d,%d type=%d beta=%g w=%p x=%p out=%p workspace=%p+%zu on stream %d\n",
      (int)algo->data[0], (int)x->cols, (int)w->rows, (int)w->cols, (int)w->ld, (int)x->ld, (int)out->ld, out->type,
      *(const float *)beta, a, b, d, workspace, workspace_bytes, number(stream));
  return 0;
}
