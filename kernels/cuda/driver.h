// The part of the CUDA driver's interface that this package uses, declared here so that no CUDA header is needed to build.
// A test compares every prototype and structure with NVIDIA's cuda.h where there is one.
#ifndef QUIRE_DRIVER_H
#define QUIRE_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#ifndef QUIRE_NVIDIA_TYPES  // defined where cuda.h, which has the same names, was included before

typedef int CUresult;  // enumerations are ints here: the same to the calling convention
typedef int CUdevice;
typedef int CUdevice_attribute;
typedef int CUfunction_attribute;
typedef int CUjit_option;
typedef int CUstreamCaptureMode;
typedef int CUmemAllocationGranularity_flags;
typedef int CUtensorMapDataType;
typedef int CUtensorMapInterleave;
typedef int CUtensorMapSwizzle;
typedef int CUtensorMapL2promotion;
typedef int CUtensorMapFloatOOBfill;
typedef uint32_t cuuint32_t;
typedef uint64_t cuuint64_t;
typedef unsigned long long CUdeviceptr;
typedef unsigned long long CUmemGenericAllocationHandle;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;

typedef union {
  char pad[64];
  struct {
    unsigned x, y, z;
  } clusterDim;
  int cooperative;
  int programmaticStreamSerializationAllowed;
  uint64_t align;
} CUlaunchAttributeValue;

typedef struct {
  int id;
  char pad[4];
  CUlaunchAttributeValue value;
} CUlaunchAttribute;

typedef struct {
  unsigned gridDimX, gridDimY, gridDimZ;
  unsigned blockDimX, blockDimY, blockDimZ;
  unsigned sharedMemBytes;
  CUstream hStream;
  CUlaunchAttribute *attrs;
  unsigned numAttrs;
} CUlaunchConfig;

typedef struct {
  int result;
  void *errorNode, *errorFromNode;
} CUgraphExecUpdateResultInfo;

typedef struct {
  int type, id;
} CUmemLocation;

typedef struct {
  int type, requestedHandleTypes;
  CUmemLocation location;
  void *win32HandleMetaData;
  struct {
    unsigned char compressionType, gpuDirectRDMACapable;
    unsigned short usage;
    unsigned char reserved[4];
  } allocFlags;
} CUmemAllocationProp;

typedef struct {
  CUmemLocation location;
  int flags;
} CUmemAccessDesc;

typedef struct {
  _Alignas(64) cuuint64_t opaque[16];
} CUtensorMap;

#endif

// The constants of cuda.h that the C side needs; the Go side names its own.
enum {
  QUIRE_ATTRIBUTE_COOPERATIVE = 2,
  QUIRE_ATTRIBUTE_CLUSTER = 4,
  QUIRE_ATTRIBUTE_PROGRAMMATIC = 6,
  QUIRE_PARAM_END = 0,
  QUIRE_PARAM_POINTER = 1,
  QUIRE_PARAM_SIZE = 2,
  QUIRE_JIT_ERROR_LOG = 5,
  QUIRE_JIT_ERROR_LOG_BYTES = 6,
  QUIRE_LOCATION_DEVICE = 1,
  QUIRE_ALLOCATION_PINNED = 1,
  QUIRE_ACCESS_READ_WRITE = 3,
  QUIRE_ERROR_OUT_OF_MEMORY = 2,
  QUIRE_MAP_BF16 = 9,
  QUIRE_MAP_NOT_INTERLEAVED = 0,
  QUIRE_MAP_SWIZZLE_128 = 3,
  QUIRE_MAP_PROMOTE_256 = 3,
  QUIRE_MAP_FILL_ZEROS = 0,
};

// QUIRE_CALLS is every call: X(field of the table, symbol with its version, parameters, arguments).
#define QUIRE_CALLS(X)                                                                                              \
  X(cuDriverGetVersion, cuDriverGetVersion, (int *version), (version))                                              \
  X(cuInit, cuInit, (unsigned flags), (flags))                                                                      \
  X(cuGetErrorName, cuGetErrorName, (CUresult code, const char **text), (code, text))                               \
  X(cuGetErrorString, cuGetErrorString, (CUresult code, const char **text), (code, text))                           \
  X(cuDeviceGetCount, cuDeviceGetCount, (int *devices), (devices))                                                  \
  X(cuDeviceGet, cuDeviceGet, (CUdevice *device, int index), (device, index))                                       \
  X(cuDeviceGetName, cuDeviceGetName, (char *name, int bytes, CUdevice device), (name, bytes, device))              \
  X(cuDeviceGetPCIBusId, cuDeviceGetPCIBusId, (char *id, int bytes, CUdevice device), (id, bytes, device))          \
  X(cuDeviceTotalMem, cuDeviceTotalMem_v2, (size_t * bytes, CUdevice device), (bytes, device))                      \
  X(cuDeviceGetAttribute, cuDeviceGetAttribute, (int *value, CUdevice_attribute attribute, CUdevice device),        \
    (value, attribute, device))                                                                                     \
  X(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device), (context, device))  \
  X(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2, (CUdevice device), (device))                           \
  X(cuCtxSetCurrent, cuCtxSetCurrent, (CUcontext context), (context))                                               \
  X(cuCtxGetCurrent, cuCtxGetCurrent, (CUcontext * context), (context))                                             \
  X(cuCtxGetDevice, cuCtxGetDevice_v2, (CUdevice * device, CUcontext context), (device, context))                   \
  X(cuMemGetInfo, cuMemGetInfo_v2, (size_t * free_bytes, size_t * bytes), (free_bytes, bytes))                      \
  X(cuStreamCreate, cuStreamCreateWithPriority, (CUstream * stream, unsigned flags, int priority),                  \
    (stream, flags, priority))                                                                                      \
  X(cuStreamDestroy, cuStreamDestroy_v2, (CUstream stream), (stream))                                               \
  X(cuStreamSynchronize, cuStreamSynchronize, (CUstream stream), (stream))                                          \
  X(cuStreamWaitEvent, cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags), (stream, event, flags)) \
  X(cuStreamBeginCapture, cuStreamBeginCapture_v2, (CUstream stream, CUstreamCaptureMode mode), (stream, mode))     \
  X(cuStreamEndCapture, cuStreamEndCapture, (CUstream stream, CUgraph * graph), (stream, graph))                    \
  X(cuEventCreate, cuEventCreate, (CUevent * event, unsigned flags), (event, flags))                                \
  X(cuEventDestroy, cuEventDestroy_v2, (CUevent event), (event))                                                    \
  X(cuEventRecord, cuEventRecord, (CUevent event, CUstream stream), (event, stream))                                \
  X(cuEventSynchronize, cuEventSynchronize, (CUevent event), (event))                                               \
  X(cuEventQuery, cuEventQuery, (CUevent event), (event))                                                           \
  X(cuEventElapsedTime, cuEventElapsedTime_v2, (float *millis, CUevent start, CUevent end), (millis, start, end))   \
  X(cuModuleLoadDataEx, cuModuleLoadDataEx,                                                                         \
    (CUmodule * module, const void *image, unsigned options, CUjit_option *names, void **values),                   \
    (module, image, options, names, values))                                                                        \
  X(cuModuleUnload, cuModuleUnload, (CUmodule module), (module))                                                    \
  X(cuModuleGetFunction, cuModuleGetFunction, (CUfunction * function, CUmodule module, const char *name),           \
    (function, module, name))                                                                                       \
  X(cuFuncLoad, cuFuncLoad, (CUfunction function), (function))                                                      \
  X(cuFuncGetAttribute, cuFuncGetAttribute, (int *value, CUfunction_attribute attribute, CUfunction function),      \
    (value, attribute, function))                                                                                   \
  X(cuFuncSetAttribute, cuFuncSetAttribute, (CUfunction function, CUfunction_attribute attribute, int value),       \
    (function, attribute, value))                                                                                   \
  X(cuFuncGetParamInfo, cuFuncGetParamInfo, (CUfunction function, size_t index, size_t *offset, size_t *bytes),     \
    (function, index, offset, bytes))                                                                               \
  X(cuOccupancy, cuOccupancyMaxActiveBlocksPerMultiprocessor,                                                       \
    (int *blocks, CUfunction function, int threads, size_t shared_bytes), (blocks, function, threads, shared_bytes)) \
  X(cuLaunchKernelEx, cuLaunchKernelEx,                                                                             \
    (const CUlaunchConfig *config, CUfunction function, void **params, void **extra),                               \
    (config, function, params, extra))                                                                              \
  X(cuGraphInstantiate, cuGraphInstantiateWithFlags, (CUgraphExec * exec, CUgraph graph, unsigned long long flags), \
    (exec, graph, flags))                                                                                           \
  X(cuGraphExecUpdate, cuGraphExecUpdate_v2,                                                                        \
    (CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo * info), (exec, graph, info))                     \
  X(cuGraphUpload, cuGraphUpload, (CUgraphExec exec, CUstream stream), (exec, stream))                              \
  X(cuGraphLaunch, cuGraphLaunch, (CUgraphExec exec, CUstream stream), (exec, stream))                              \
  X(cuGraphDestroy, cuGraphDestroy, (CUgraph graph), (graph))                                                       \
  X(cuGraphExecDestroy, cuGraphExecDestroy, (CUgraphExec exec), (exec))                                             \
  X(cuMemAlloc, cuMemAlloc_v2, (CUdeviceptr * address, size_t bytes), (address, bytes))                             \
  X(cuMemFree, cuMemFree_v2, (CUdeviceptr address), (address))                                                      \
  X(cuMemsetD8Async, cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t count, CUstream stream),         \
    (to, value, count, stream))                                                                                     \
  X(cuMemsetD32Async, cuMemsetD32Async, (CUdeviceptr to, unsigned value, size_t count, CUstream stream),            \
    (to, value, count, stream))                                                                                     \
  X(cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream),     \
    (to, from, bytes, stream))                                                                                      \
  X(cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t bytes, CUstream stream),           \
    (to, from, bytes, stream))                                                                                      \
  X(cuMemcpyDtoDAsync, cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream),     \
    (to, from, bytes, stream))                                                                                      \
  X(cuMemHostAlloc, cuMemHostAlloc, (void **address, size_t bytes, unsigned flags), (address, bytes, flags))        \
  X(cuMemFreeHost, cuMemFreeHost, (void *address), (address))                                                       \
  X(cuMemHostRegister, cuMemHostRegister_v2, (void *address, size_t bytes, unsigned flags), (address, bytes, flags)) \
  X(cuMemHostUnregister, cuMemHostUnregister, (void *address), (address))                                           \
  X(cuMemAddressReserve, cuMemAddressReserve,                                                                       \
    (CUdeviceptr * address, size_t bytes, size_t alignment, CUdeviceptr wanted, unsigned long long flags),          \
    (address, bytes, alignment, wanted, flags))                                                                     \
  X(cuMemAddressFree, cuMemAddressFree, (CUdeviceptr address, size_t bytes), (address, bytes))                      \
  X(cuMemCreate, cuMemCreate,                                                                                       \
    (CUmemGenericAllocationHandle * pages, size_t bytes, const CUmemAllocationProp *prop, unsigned long long flags), \
    (pages, bytes, prop, flags))                                                                                    \
  X(cuMemRelease, cuMemRelease, (CUmemGenericAllocationHandle pages), (pages))                                      \
  X(cuMemMap, cuMemMap,                                                                                             \
    (CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle pages, unsigned long long flags), \
    (address, bytes, offset, pages, flags))                                                                         \
  X(cuMemUnmap, cuMemUnmap, (CUdeviceptr address, size_t bytes), (address, bytes))                                  \
  X(cuMemSetAccess, cuMemSetAccess, (CUdeviceptr address, size_t bytes, const CUmemAccessDesc *desc, size_t count), \
    (address, bytes, desc, count))                                                                                  \
  X(cuMemGetAllocationGranularity, cuMemGetAllocationGranularity,                                                   \
    (size_t * bytes, const CUmemAllocationProp *prop, CUmemAllocationGranularity_flags which), (bytes, prop, which)) \
  X(cuTensorMapEncodeTiled, cuTensorMapEncodeTiled,                                                                 \
    (CUtensorMap * map, CUtensorMapDataType type, cuuint32_t rank, void *address, const cuuint64_t *sizes,          \
     const cuuint64_t *strides, const cuuint32_t *box, const cuuint32_t *steps, CUtensorMapInterleave interleave,   \
     CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill),                   \
    (map, type, rank, address, sizes, strides, box, steps, interleave, swizzle, promotion, fill))

// quire_driver is the opened library and its functions. Go sees an incomplete type: what it points to is never checked
// for Go pointers.
struct quire_driver;

#define QUIRE_UNPACK(...) __VA_ARGS__
#define QUIRE_DECLARE(name, symbol, params, args) \
  CUresult quire_##name(const struct quire_driver *driver, QUIRE_UNPACK params);
QUIRE_CALLS(QUIRE_DECLARE)

// quire_driver_open opens library and looks up every function. It returns NULL and writes the linker's reason to text if
// it cannot open it; otherwise text gets the symbols that are missing, with commas between them.
struct quire_driver *quire_driver_open(const char *library, char *text, size_t text_bytes);
// quire_driver_close frees the table, and unloads the library if unload is set: only before cuInit.
void quire_driver_close(struct quire_driver *driver, int unload);
int quire_driver_has_version(const struct quire_driver *driver);

// quire_launch is one kernel launch as the Go side queues it: no pointers, so that the memory needs no care in Go.
struct quire_launch {
  uint64_t function;  // CUfunction
  uint64_t params;    // offset of the packed arguments
  uint32_t grid[3], block[3];
  uint32_t cluster[3];  // cluster[0] is 0 for none
  uint32_t shared_bytes, param_bytes;
  uint32_t flags;
};

enum { QUIRE_LAUNCH_EARLY = 1, QUIRE_LAUNCH_COOPERATIVE = 2 };

// quire_outcome is the first failure of some launches, or code 0.
struct quire_outcome {
  CUresult code;
  int index;
};

struct quire_outcome quire_submit(const struct quire_driver *driver, CUstream stream, const struct quire_launch *launches,
                                  int count, const unsigned char *params);

// quire_module_load copies the image, so that it is aligned and ends with the zero byte that PTX needs.
CUresult quire_module_load(const struct quire_driver *driver, CUmodule *module, const void *image, size_t bytes, char *log,
                           size_t log_bytes);
uint64_t quire_function_id(CUfunction function);
CUcontext quire_context_of(uintptr_t handle);

// quire_map_tiles makes the tensor map of a bfloat16 matrix, row-major, that is read in boxes of 64 columns, swizzled over
// 128 bytes.
CUresult quire_map_tiles(const struct quire_driver *driver, uint64_t words[16], CUdeviceptr address, uint64_t rows,
                         uint64_t cols, uint32_t box_rows);

CUresult quire_pages_create(const struct quire_driver *driver, CUdevice device, size_t bytes,
                            CUmemGenericAllocationHandle *pages);
CUresult quire_pages_granularity(const struct quire_driver *driver, CUdevice device, size_t *bytes);
CUresult quire_pages_allow(const struct quire_driver *driver, CUdevice device, CUdeviceptr address, size_t bytes);

#endif
