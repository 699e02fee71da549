//go:build linux && cgo && (amd64 || arm64)

#define _GNU_SOURCE
#include "cublaslt.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(name, params) cublasStatus_t(*name) params;
struct quire_lt {
  void *library;
  cublasLtHandle_t handle;
  QUIRE_CUBLASLT_CALLS(FIELD)
  size_t (*cublasLtGetVersion)(void);
};

struct quire_lt_plan {
  cublasLtMatmulDesc_t product;
  cublasLtMatrixLayout_t w, x, out;
  cublasLtMatmulAlgo_t algo;
  size_t workspace_bytes;
  float beta;
};

// The numbers of the library's enumerations.
enum {
  COMPUTE_FLOAT = 68,
  TYPE_FLOAT = 0,
  TYPE_BF16 = 14,
  PRODUCT_TURN_A = 3,
  TURNED = 1,
  PREFER_WORKSPACE = 1,
};

struct quire_lt *quire_lt_open(const char *library, char *text, size_t text_bytes) {
  text[0] = 0;
  void *opened = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!opened) {
    snprintf(text, text_bytes, "%s", dlerror());
    return NULL;
  }
  struct quire_lt *lt = calloc(1, sizeof *lt);
  if (!lt) {
    snprintf(text, text_bytes, "out of memory");
    dlclose(opened);
    return NULL;
  }
  lt->library = opened;
  const char *missing = NULL;
#define BIND(name, params) \
  if (!(*(void **)&lt->name = dlsym(opened, #name)) && !missing) missing = #name;
  QUIRE_CUBLASLT_CALLS(BIND)
  BIND(cublasLtGetVersion, (void))
  cublasStatus_t status = missing ? 0 : lt->cublasLtCreate(&lt->handle);
  if (missing || status) {
    if (missing) {
      snprintf(text, text_bytes, "it has no %s", missing);
    } else {
      snprintf(text, text_bytes, "cublasLtCreate gave status %d", status);
    }
    dlclose(opened);
    free(lt);
    return NULL;
  }
  return lt;
}

// The library stays in the process: like the driver's it is not made to be unloaded.
void quire_lt_close(struct quire_lt *lt) {
  lt->cublasLtDestroy(lt->handle);
  free(lt);
}

size_t quire_lt_version(const struct quire_lt *lt) { return lt->cublasLtGetVersion(); }

void quire_lt_plan_free(struct quire_lt *lt, struct quire_lt_plan *plan) {
  if (plan->product) lt->cublasLtMatmulDescDestroy(plan->product);
  if (plan->w) lt->cublasLtMatrixLayoutDestroy(plan->w);
  if (plan->x) lt->cublasLtMatrixLayoutDestroy(plan->x);
  if (plan->out) lt->cublasLtMatrixLayoutDestroy(plan->out);
  free(plan);
}

// choose asks the library for the algorithm that it thinks fastest.
static cublasStatus_t choose(struct quire_lt *lt, struct quire_lt_plan *plan, size_t workspace_bytes) {
  cublasLtMatmulPreference_t preference;
  cublasStatus_t status = lt->cublasLtMatmulPreferenceCreate(&preference);
  if (status) return status;
  status = lt->cublasLtMatmulPreferenceSetAttribute(preference, PREFER_WORKSPACE, &workspace_bytes, sizeof workspace_bytes);
  if (!status) {
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    status = lt->cublasLtMatmulAlgoGetHeuristic(lt->handle, plan->product, plan->w, plan->x, plan->out, plan->out, preference,
                                                1, &result, &found);
    if (!status && !found) status = 15;  // CUBLAS_STATUS_NOT_SUPPORTED
    if (!status) status = result.state;
    if (!status) {
      plan->algo = result.algo;
      plan->workspace_bytes = result.workspaceSize;
    }
  }
  lt->cublasLtMatmulPreferenceDestroy(preference);
  return status;
}

// The library's matrices are column-major: a row-major matrix is its own transpose there, and the product is turned.
struct quire_lt_plan *quire_lt_plan_make(struct quire_lt *lt, int64_t rows, int64_t cols, int64_t outputs, int64_t out_stride,
                                         int float_out, int add, size_t workspace_bytes,
                                         cublasStatus_t *status) {
  struct quire_lt_plan *plan = calloc(1, sizeof *plan);
  *status = 3;  // CUBLAS_STATUS_ALLOC_FAILED
  if (!plan) return NULL;
  plan->beta = add ? 1 : 0;
  const int32_t turned = TURNED;
  if ((*status = lt->cublasLtMatmulDescCreate(&plan->product, COMPUTE_FLOAT, TYPE_FLOAT)) ||
      (*status = lt->cublasLtMatmulDescSetAttribute(plan->product, PRODUCT_TURN_A, &turned, sizeof turned)) ||
      (*status = lt->cublasLtMatrixLayoutCreate(&plan->w, TYPE_BF16, cols, outputs, cols)) ||
      (*status = lt->cublasLtMatrixLayoutCreate(&plan->x, TYPE_BF16, cols, rows, cols)) ||
      (*status = lt->cublasLtMatrixLayoutCreate(&plan->out, float_out ? TYPE_FLOAT : TYPE_BF16, outputs, rows, out_stride)) ||
      (*status = choose(lt, plan, workspace_bytes))) {
    quire_lt_plan_free(lt, plan);
    return NULL;
  }
  return plan;
}

cublasStatus_t quire_lt_run(struct quire_lt *lt, const struct quire_lt_plan *plan, uint64_t x, uint64_t w, uint64_t out,
                            uint64_t workspace, void *stream) {
  const float alpha = 1;
  void *to = (void *)(uintptr_t)out;
  return lt->cublasLtMatmul(lt->handle, plan->product, &alpha, (const void *)(uintptr_t)w, plan->w,
                            (const void *)(uintptr_t)x, plan->x, &plan->beta, to, plan->out, to, plan->out, &plan->algo,
                            (void *)(uintptr_t)workspace, plan->workspace_bytes, stream);
}
