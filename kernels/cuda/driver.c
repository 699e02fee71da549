//go:build linux && cgo && (amd64 || arm64)

#define _GNU_SOURCE
#include "driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(name, symbol, params, args) CUresult(*name) params;
struct quire_driver {
  void *library;
  QUIRE_CALLS(FIELD)
};

#define FORWARD(name, symbol, params, args)                                       \
  CUresult quire_##name(const struct quire_driver *driver, QUIRE_UNPACK params) { \
    return driver->name args;                                                     \
  }
QUIRE_CALLS(FORWARD)

// find looks one symbol up and adds its name to text if it is missing.
static void *find(void *library, const char *symbol, char *text, size_t text_bytes) {
  void *found = dlsym(library, symbol);
  if (!found) {
    size_t used = strlen(text);
    snprintf(text + used, text_bytes - used, "%s%s", used ? ", " : "", symbol);
  }
  return found;
}

struct quire_driver *quire_driver_open(const char *library, char *text, size_t text_bytes) {
  text[0] = 0;
  void *opened = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!opened) {
    snprintf(text, text_bytes, "%s", dlerror());
    return NULL;
  }
  struct quire_driver *driver = calloc(1, sizeof *driver);
  if (!driver) {
    snprintf(text, text_bytes, "out of memory");
    dlclose(opened);
    return NULL;
  }
  driver->library = opened;
#define BIND(name, symbol, params, args) \
  *(void **)&driver->name = find(opened, #symbol, text, text_bytes);
  QUIRE_CALLS(BIND)
  return driver;
}

void quire_driver_close(struct quire_driver *driver, int unload) {
  if (unload) dlclose(driver->library);
  free(driver);
}

int quire_driver_has_version(const struct quire_driver *driver) {
  return driver->cuDriverGetVersion && driver->cuGetErrorName && driver->cuGetErrorString;
}

struct quire_outcome quire_submit(const struct quire_driver *driver, CUstream stream, const struct quire_launch *launches,
                                  int count, const unsigned char *params) {
  for (int i = 0; i < count; i++) {
    const struct quire_launch *l = &launches[i];
    CUlaunchAttribute attributes[3];
    unsigned used = 0;
    if (l->cluster[0]) {
      CUlaunchAttribute *a = &attributes[used++];
      a->id = QUIRE_ATTRIBUTE_CLUSTER;
      a->value.clusterDim.x = l->cluster[0];
      a->value.clusterDim.y = l->cluster[1];
      a->value.clusterDim.z = l->cluster[2];
    }
    if (l->flags & QUIRE_LAUNCH_EARLY) {
      CUlaunchAttribute *a = &attributes[used++];
      a->id = QUIRE_ATTRIBUTE_PROGRAMMATIC;
      a->value.programmaticStreamSerializationAllowed = 1;
    }
    if (l->flags & QUIRE_LAUNCH_COOPERATIVE) {
      CUlaunchAttribute *a = &attributes[used++];
      a->id = QUIRE_ATTRIBUTE_COOPERATIVE;
      a->value.cooperative = 1;
    }
    CUlaunchConfig config = {
        .gridDimX = l->grid[0],
        .gridDimY = l->grid[1],
        .gridDimZ = l->grid[2],
        .blockDimX = l->block[0],
        .blockDimY = l->block[1],
        .blockDimZ = l->block[2],
        .sharedMemBytes = l->shared_bytes,
        .hStream = stream,
        .attrs = attributes,
        .numAttrs = used,
    };
    size_t bytes = l->param_bytes;
    void *extra[] = {
        (void *)QUIRE_PARAM_POINTER, (void *)(params + l->params), (void *)QUIRE_PARAM_SIZE, &bytes, (void *)QUIRE_PARAM_END,
    };
    CUresult code =
        driver->cuLaunchKernelEx(&config, (CUfunction)(uintptr_t)l->function, NULL, bytes ? extra : NULL);
    if (code) return (struct quire_outcome){code, i};
  }
  return (struct quire_outcome){0, count};
}

CUresult quire_module_load(const struct quire_driver *driver, CUmodule *module, const void *image, size_t bytes, char *log,
                           size_t log_bytes) {
  char *copy = malloc(bytes + 1);
  if (!copy) return QUIRE_ERROR_OUT_OF_MEMORY;
  memcpy(copy, image, bytes);
  copy[bytes] = 0;
  log[0] = 0;
  CUjit_option names[] = {QUIRE_JIT_ERROR_LOG, QUIRE_JIT_ERROR_LOG_BYTES};
  void *values[] = {log, (void *)(uintptr_t)log_bytes};
  CUresult code = driver->cuModuleLoadDataEx(module, copy, 2, names, values);
  log[log_bytes - 1] = 0;
  free(copy);
  return code;
}

uint64_t quire_function_id(CUfunction function) { return (uintptr_t)function; }

CUcontext quire_context_of(uintptr_t handle) { return (CUcontext)handle; }

CUresult quire_map_tiles(const struct quire_driver *driver, uint64_t words[16], CUdeviceptr address, uint64_t rows,
                         uint64_t cols, uint32_t box_rows) {
  CUtensorMap map;
  const cuuint64_t sizes[2] = {cols, rows}, strides[1] = {2 * cols};
  const cuuint32_t box[2] = {64, box_rows}, steps[2] = {1, 1};
  CUresult code = driver->cuTensorMapEncodeTiled(&map, QUIRE_MAP_BF16, 2, (void *)(uintptr_t)address, sizes, strides, box,
                                                 steps, QUIRE_MAP_NOT_INTERLEAVED, QUIRE_MAP_SWIZZLE_128,
                                                 QUIRE_MAP_PROMOTE_256, QUIRE_MAP_FILL_ZEROS);
  memcpy(words, &map, sizeof map);
  return code;
}

static CUmemAllocationProp pages_of(CUdevice device) {
  CUmemAllocationProp prop;
  memset(&prop, 0, sizeof prop);
  prop.type = QUIRE_ALLOCATION_PINNED;
  prop.location.type = QUIRE_LOCATION_DEVICE;
  prop.location.id = device;
  return prop;
}

CUresult quire_pages_create(const struct quire_driver *driver, CUdevice device, size_t bytes,
                            CUmemGenericAllocationHandle *pages) {
  CUmemAllocationProp prop = pages_of(device);
  return driver->cuMemCreate(pages, bytes, &prop, 0);
}

CUresult quire_pages_granularity(const struct quire_driver *driver, CUdevice device, size_t *bytes) {
  CUmemAllocationProp prop = pages_of(device);
  return driver->cuMemGetAllocationGranularity(bytes, &prop, 0);  // the least that works
}

CUresult quire_pages_allow(const struct quire_driver *driver, CUdevice device, CUdeviceptr address, size_t bytes) {
  CUmemAccessDesc desc;
  memset(&desc, 0, sizeof desc);
  desc.location.type = QUIRE_LOCATION_DEVICE;
  desc.location.id = device;
  desc.flags = QUIRE_ACCESS_READ_WRITE;
  return driver->cuMemSetAccess(address, bytes, &desc, 1);
}
