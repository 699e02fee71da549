//go:build linux && cgo && (amd64 || arm64)

package cuda

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAgreesWithNVIDIA compares driver.h and the numbers in this package with NVIDIA's cuda.h, where there is one of
// CUDA 13.0 or later: in the folder that CUDA_INCLUDE names, in CUDA_HOME's include or in /usr/local/cuda/include.
func TestAgreesWithNVIDIA(t *testing.T) {
	folder := includeFolder()
	if folder == "" {
		t.Skip("no cuda.h: set CUDA_INCLUDE to the folder that has it")
	}
	var constants strings.Builder
	for name, value := range map[string]Result{
		"INVALID_VALUE":                  codeInvalidValue,
		"OUT_OF_MEMORY":                  codeOutOfMemory,
		"DEINITIALIZED":                  codeDeinitialized,
		"STUB_LIBRARY":                   codeStubLibrary,
		"CALL_REQUIRES_NEWER_DRIVER":     codeNeedsNewerDriver,
		"DEVICE_UNAVAILABLE":             codeDeviceUnavailable,
		"NO_DEVICE":                      codeNoDevice,
		"NO_BINARY_FOR_GPU":              codeNoBinaryForGPU,
		"ECC_UNCORRECTABLE":              codeECCUncorrectable,
		"NVLINK_UNCORRECTABLE":           codeNVLinkUncorrectable,
		"UNSUPPORTED_PTX_VERSION":        codeUnsupportedPTX,
		"CONTAINED":                      codeContained,
		"NOT_READY":                      codeNotReady,
		"ILLEGAL_ADDRESS":                codeIllegalAddress,
		"LAUNCH_TIMEOUT":                 codeLaunchTimeout,
		"CONTEXT_IS_DESTROYED":           codeContextDestroyed,
		"ASSERT":                         codeAssert,
		"HARDWARE_STACK_ERROR":           codeHardwareStackError,
		"ILLEGAL_INSTRUCTION":            codeIllegalInstruction,
		"MISALIGNED_ADDRESS":             codeMisalignedAddress,
		"INVALID_ADDRESS_SPACE":          codeInvalidAddressSpace,
		"INVALID_PC":                     codeInvalidPC,
		"LAUNCH_FAILED":                  codeLaunchFailed,
		"TENSOR_MEMORY_LEAK":             codeTensorMemoryLeak,
		"NOT_SUPPORTED":                  codeNotSupported,
		"SYSTEM_NOT_READY":               codeSystemNotReady,
		"SYSTEM_DRIVER_MISMATCH":         codeSystemDriverMismatch,
		"COMPAT_NOT_SUPPORTED_ON_DEVICE": codeCompatNotSupported,
		"GRAPH_EXEC_UPDATE_FAILURE":      codeGraphUpdateFailure,
		"EXTERNAL_DEVICE":                codeExternalDevice,
		"UNKNOWN":                        codeUnknown,
	} {
		fmt.Fprintf(&constants, "EQUAL(%d, CUDA_ERROR_%s); ", value, name)
	}
	for name, value := range map[string]int{
		"DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT":                attributeSMs,
		"DEVICE_ATTRIBUTE_L2_CACHE_SIZE":                       attributeL2Bytes,
		"DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR":            attributeMajor,
		"DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR":            attributeMinor,
		"DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN":   attributeSharedBytes,
		"DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED": attributeVirtualMemory,
		"FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK":                 attributeThreads,
		"FUNC_ATTRIBUTE_SHARED_SIZE_BYTES":                     attributeStaticShared,
		"FUNC_ATTRIBUTE_CONST_SIZE_BYTES":                      attributeConstBytes,
		"FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES":                      attributeLocalBytes,
		"FUNC_ATTRIBUTE_NUM_REGS":                              attributeRegisters,
		"FUNC_ATTRIBUTE_BINARY_VERSION":                        attributeCapability,
		"FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES":         attributeDynamicShared,
		"FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT":      attributeCarveout,
		"STREAM_NON_BLOCKING":                                  streamNonBlocking,
		"STREAM_CAPTURE_MODE_THREAD_LOCAL":                     captureThreadLocal,
		"EVENT_BLOCKING_SYNC":                                  eventBlocking,
		"EVENT_DISABLE_TIMING":                                 eventNotTiming,
		"MEMHOSTALLOC_PORTABLE":                                hostPortable,
		"MEMHOSTREGISTER_PORTABLE":                             hostPortable,
		"MEMHOSTREGISTER_READ_ONLY":                            hostReadOnly,
	} {
		fmt.Fprintf(&constants, "EQUAL(%d, CU_%s); ", value, name)
	}
	theirs := layouts(t, "-DNVIDIA", "-I"+folder, "-DGO_CONSTANTS="+constants.String())
	require.Equal(t, theirs, layouts(t))
	require.Contains(t, theirs, "CUlaunchConfig.numAttrs")
}

// includeFolder is where cuda.h lies; "" for nowhere.
func includeFolder() string {
	folders := []string{"/usr/local/cuda/include"}
	if home := os.Getenv("CUDA_HOME"); home != "" {
		folders = append([]string{filepath.Join(home, "include")}, folders...)
	}
	if folder := os.Getenv("CUDA_INCLUDE"); folder != "" {
		folders = []string{folder}
	}
	for _, folder := range folders {
		if _, err := os.Stat(filepath.Join(folder, "cuda.h")); err == nil {
			return folder
		}
	}
	return ""
}

// layouts compiles testdata/agree.c and runs it.
func layouts(t *testing.T, flags ...string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "agree")
	out, err := exec.Command(compiler(), append(flags, "-o", program, "testdata/agree.c")...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.Command(program).Output()
	require.NoError(t, err)
	return string(out)
}
