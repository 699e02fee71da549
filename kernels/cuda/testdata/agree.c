// Prints how the driver's structures are laid out: with -DNVIDIA those of cuda.h, and then it compiles only if every
// prototype and constant of driver.h is that of cuda.h too; without it those of driver.h. Both must print the same.
#ifdef NVIDIA
#include <cuda.h>
#define QUIRE_NVIDIA_TYPES
#endif
#include <stdio.h>

#include "../driver.h"

#ifdef NVIDIA
#define SAME(name, symbol, params, args)                                                \
  _Static_assert(__builtin_types_compatible_p(__typeof__(&symbol), CUresult(*) params), \
                 #symbol " has other parameters in cuda.h");
QUIRE_CALLS(SAME)


#define EQUAL(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #theirs)
EQUAL(QUIRE_ATTRIBUTE_COOPERATIVE, CU_LAUNCH_ATTRIBUTE_COOPERATIVE);
EQUAL(QUIRE_ATTRIBUTE_CLUSTER, CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
EQUAL(QUIRE_ATTRIBUTE_PROGRAMMATIC, CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
EQUAL(QUIRE_PARAM_END, CU_LAUNCH_PARAM_END_AS_INT);
EQUAL(QUIRE_PARAM_POINTER, CU_LAUNCH_PARAM_BUFFER_POINTER_AS_INT);
EQUAL(QUIRE_PARAM_SIZE, CU_LAUNCH_PARAM_BUFFER_SIZE_AS_INT);
EQUAL(QUIRE_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BUFFER);
EQUAL(QUIRE_JIT_ERROR_LOG_BYTES, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
EQUAL(QUIRE_LOCATION_DEVICE, CU_MEM_LOCATION_TYPE_DEVICE);
EQUAL(QUIRE_ALLOCATION_PINNED, CU_MEM_ALLOCATION_TYPE_PINNED);
EQUAL(QUIRE_ACCESS_READ_WRITE, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
EQUAL(QUIRE_ERROR_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY);
EQUAL(CU_MEM_ALLOC_GRANULARITY_MINIMUM, 0);
EQUAL(QUIRE_MAP_BF16, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
EQUAL(QUIRE_MAP_NOT_INTERLEAVED, CU_TENSOR_MAP_INTERLEAVE_NONE);
EQUAL(QUIRE_MAP_SWIZZLE_128, CU_TENSOR_MAP_SWIZZLE_128B);
EQUAL(QUIRE_MAP_PROMOTE_256, CU_TENSOR_MAP_L2_PROMOTION_L2_256B);
EQUAL(QUIRE_MAP_FILL_ZEROS, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);

// What the Go side numbers, as the test passes it: -DGO_CONSTANTS='EQUAL(2, CUDA_ERROR_OUT_OF_MEMORY); ...'.
GO_CONSTANTS
#endif

#define SIZE(type) printf(#type " %zu\n", sizeof(type))
#define AT(type, field) printf(#type "." #field " %zu+%zu\n", offsetof(type, field), sizeof(((type *)0)->field))

int main(void) {
  SIZE(CUresult);
  SIZE(CUdevice);
  SIZE(CUdeviceptr);
  SIZE(CUmemGenericAllocationHandle);
  SIZE(CUlaunchAttributeValue);
  AT(CUlaunchAttributeValue, clusterDim);
  AT(CUlaunchAttributeValue, clusterDim.y);
  AT(CUlaunchAttributeValue, clusterDim.z);
  AT(CUlaunchAttributeValue, cooperative);
  AT(CUlaunchAttributeValue, programmaticStreamSerializationAllowed);
  SIZE(CUlaunchAttribute);
  AT(CUlaunchAttribute, id);
  AT(CUlaunchAttribute, value);
  SIZE(CUlaunchConfig);
  AT(CUlaunchConfig, gridDimX);
  AT(CUlaunchConfig, gridDimY);
  AT(CUlaunchConfig, gridDimZ);
  AT(CUlaunchConfig, blockDimX);
  AT(CUlaunchConfig, blockDimY);
  AT(CUlaunchConfig, blockDimZ);
  AT(CUlaunchConfig, sharedMemBytes);
  AT(CUlaunchConfig, hStream);
  AT(CUlaunchConfig, attrs);
  AT(CUlaunchConfig, numAttrs);
  SIZE(CUgraphExecUpdateResultInfo);
  AT(CUgraphExecUpdateResultInfo, result);
  AT(CUgraphExecUpdateResultInfo, errorNode);
  AT(CUgraphExecUpdateResultInfo, errorFromNode);
  SIZE(CUmemAllocationProp);
  AT(CUmemAllocationProp, type);
  AT(CUmemAllocationProp, requestedHandleTypes);
  AT(CUmemAllocationProp, location.type);
  AT(CUmemAllocationProp, location.id);
  AT(CUmemAllocationProp, win32HandleMetaData);
  AT(CUmemAllocationProp, allocFlags.usage);
  SIZE(CUmemAccessDesc);
  AT(CUmemAccessDesc, location.type);
  AT(CUmemAccessDesc, location.id);
  AT(CUmemAccessDesc, flags);
  SIZE(CUtensorMap);
  AT(CUtensorMap, opaque);
  return 0;
}
