//go:build linux && cgo && (amd64 || arm64)

package cuda

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCallsFail makes every call of the driver fail and wants its code, its name and what was being done.
func TestCallsFail(t *testing.T) {
	const code = codeNotSupported
	type state struct {
		*rig
		function *Function
		event    *Event
		graph    *Graph
		exec     *GraphExec
		memory   Ptr
		host     []byte
		span     Ptr
		pages    Pages
		other    *Context
	}
	const granule = 2 << 20
	two := func(_ any, err error) error { return err }
	cases := []struct {
		call, want string
		do         func(*state) error
		loses      string // kind of what nobody gives up any more
	}{
		{"cuDeviceGetCount", "counting devices", func(s *state) error { return two(s.driver.Devices()) }, ""},
		{"cuDeviceGet", "finding device 0", func(s *state) error { return two(s.driver.OpenContext(0)) }, ""},
		{"cuDeviceGetName", "reading the name of device 0", func(s *state) error { return two(s.driver.Devices()) }, ""},
		{"cuDeviceGetPCIBusId", "reading the PCI address of device 0", func(s *state) error { return two(s.driver.Devices()) }, ""},
		{"cuDeviceTotalMem_v2", "reading the memory size of device 0", func(s *state) error { return two(s.driver.Devices()) }, ""},
		{"cuDeviceGetAttribute", "reading attribute 16 of device 0", func(s *state) error { return two(s.driver.Devices()) }, ""},
		{"cuDevicePrimaryCtxRetain", "opening a context on device 0", func(s *state) error { return two(s.driver.OpenContext(0)) }, ""},
		{"cuCtxGetDevice_v2", "adopting context 0x", func(s *state) error { return two(s.driver.Adopt(s.context.Handle())) }, ""},
		{"cuCtxSetCurrent", "using the context of device 0", func(s *state) error { return s.context.Use() }, ""},
		{"cuMemGetInfo_v2", "reading the free memory of device 0", func(s *state) error { _, _, err := s.context.Memory(); return err }, ""},
		{"cuStreamCreateWithPriority", `opening stream "copy"`, func(s *state) error { return two(s.context.OpenStream(StreamOptions{Name: "copy"})) }, ""},
		{"cuStreamSynchronize", `waiting for stream "main"`, func(s *state) error { return s.stream.Sync() }, ""},
		{"cuStreamWaitEvent", `stream "main" waiting for an event`, func(s *state) error { return s.stream.Wait(s.event) }, ""},
		{"cuStreamBeginCapture_v2", `beginning a capture on stream "main"`, func(s *state) error { return s.stream.BeginCapture() }, ""},
		{"cuStreamEndCapture", `ending the capture on stream "main"`, func(s *state) error { return two(s.stream.EndCapture()) }, ""},
		{"cuEventCreate", "opening an event", func(s *state) error { return two(s.context.OpenEvent(EventOptions{})) }, ""},
		{"cuEventRecord", `recording an event on stream "main"`, func(s *state) error { return s.stream.Record(s.event) }, ""},
		{"cuEventSynchronize", "waiting for an event", func(s *state) error { return s.event.Sync() }, ""},
		{"cuEventQuery", "waiting for an event", func(s *state) error { _, err := s.event.Done(); return err }, ""},
		{"cuEventElapsedTime_v2", "measuring the time between events", func(s *state) error { return two(s.event.Since(s.event)) }, ""},
		{"cuModuleLoadDataEx", `loading module "other"`, func(s *state) error { return two(s.context.OpenModule("other", []byte(image))) }, ""},
		{"cuModuleGetFunction", `finding function "norm" in module "kernels"`, func(s *state) error { return two(s.module.Function("norm")) }, ""},
		{"cuFuncLoad", `loading function "norm" of module "kernels"`, func(s *state) error { return two(s.module.Function("norm")) }, ""},
		{"cuFuncGetAttribute", `reading attribute 0 of function "norm"`, func(s *state) error { return two(s.module.Function("norm")) }, ""},
		{"cuFuncGetParamInfo", `reading parameter 0 of function "norm"`, func(s *state) error { return two(s.module.Function("norm")) }, ""},
		{"cuFuncSetAttribute", `keeping shared memory for function "none"`, func(s *state) error { return s.function.KeepShared() }, ""},
		{"cuFuncSetAttribute", `allowing function "none" 65536 bytes of shared memory`, func(s *state) error { return s.function.AllowShared(64 << 10) }, ""},
		{"cuOccupancyMaxActiveBlocksPerMultiprocessor", `counting the blocks of function "none" that fit an SM`,
			func(s *state) error { return two(s.function.BlocksPerSM(128, 0)) }, ""},
		{"cuLaunchKernelEx", `launching "none"`, func(s *state) error {
			return errors.Join(s.stream.Launch(s.function, one, nil), s.stream.Flush())
		}, ""},
		{"cuGraphInstantiateWithFlags", `instantiating graph "step"`, func(s *state) error { return two(s.graph.Instantiate("step")) }, ""},
		{"cuGraphExecUpdate_v2", `updating graph "g", result 0`, func(s *state) error { return s.exec.Update(s.graph) }, ""},
		{"cuGraphUpload", `uploading graph "g"`, func(s *state) error { return s.stream.UploadGraph(s.exec) }, ""},
		{"cuGraphLaunch", `launching graph "g"`, func(s *state) error { return s.stream.LaunchGraph(s.exec) }, ""},
		{"cuMemAlloc_v2", "allocating 64 bytes on device 0", func(s *state) error { return two(s.context.Alloc(64)) }, ""},
		{"cuMemsetD8Async", "filling 64 bytes", func(s *state) error { return s.stream.Fill(s.memory, 64, 1) }, ""},
		{"cuMemsetD32Async", "filling 16 words", func(s *state) error { return s.stream.Fill32(s.memory, 16, 1) }, ""},
		{"cuMemcpyHtoDAsync_v2", "copying 64 bytes to the device", func(s *state) error { return s.stream.CopyIn(s.memory, s.host) }, ""},
		{"cuMemcpyDtoHAsync_v2", "copying 64 bytes from the device", func(s *state) error { return s.stream.CopyOut(s.host, s.memory) }, ""},
		{"cuMemcpyDtoDAsync_v2", "copying 32 bytes within the device", func(s *state) error { return s.stream.Copy(s.memory, s.memory+32, 32) }, ""},
		{"cuMemHostAlloc", "allocating 64 bytes of pinned host memory", func(s *state) error { return two(s.context.AllocHost(64)) }, ""},
		{"cuMemHostRegister_v2", "pinning 64 bytes of host memory", func(s *state) error { return s.context.RegisterHost(s.host, false) }, ""},
		{"cuTensorMapEncodeTiled", "mapping a matrix of 3 rows of 8 at 0x100", func(s *state) error { return two(s.driver.MapTiles(0x100, 3, 8, 64)) }, ""},
		{"cuMemHostUnregister", "unpinning 64 bytes of host memory", func(s *state) error { return s.context.UnregisterHost(s.host) }, ""},
		{"cuMemGetAllocationGranularity", "reading the page size of device 0", func(s *state) error { return two(s.context.Granularity()) }, ""},
		{"cuMemAddressReserve", "reserving 2097152 bytes of addresses", func(s *state) error { return two(s.context.Reserve(granule)) }, ""},
		{"cuMemCreate", "creating 2097152 bytes of pages on device 0", func(s *state) error { return two(s.context.CreatePages(granule)) }, ""},
		{"cuMemMap", "mapping pages", func(s *state) error { return s.context.Map(s.span, granule, s.pages) }, ""},
		{"cuMemSetAccess", "allowing access to 2097152 bytes at 0x", func(s *state) error { return s.context.Allow(s.span, granule) }, ""},
		{"cuMemUnmap", "unmapping 2097152 bytes at 0x", func(s *state) error { return s.context.Unmap(s.span, granule) }, ""},
		// What gives something up comes last, and in this order.
		{"cuMemRelease", "releasing pages", func(s *state) error { return s.context.ReleasePages(s.pages) }, ""},
		{"cuMemAddressFree", "giving back 2097152 bytes of addresses at 0x", func(s *state) error { return s.context.Unreserve(s.span, granule) }, ""},
		{"cuMemFree_v2", "freeing device memory at 0x", func(s *state) error { return s.context.Free(s.memory) }, ""},
		{"cuMemFreeHost", "freeing 64 bytes of pinned host memory", func(s *state) error { return s.context.FreeHost(s.host) }, ""},
		{"cuGraphExecDestroy", `closing graph "g"`, func(s *state) error { return s.exec.Close() }, "executable graphs"},
		{"cuGraphDestroy", "closing a graph", func(s *state) error { return s.graph.Close() }, "graphs"},
		{"cuEventDestroy_v2", "closing an event", func(s *state) error { return s.event.Close() }, "events"},
		{"cuModuleUnload", `closing module "kernels"`, func(s *state) error { return s.module.Close() }, "modules"},
		{"cuStreamDestroy_v2", `closing stream "main"`, func(s *state) error { return s.stream.Close() }, "streams"},
		{"cuDevicePrimaryCtxRelease_v2", "closing the context of device 0", func(s *state) error { return s.other.Close() }, "contexts"},
	}
	// TestOpenRefuses has these; the names and texts are in every error, and a context that closes asks for the current
	// one, and takes a failure for another's.
	covered := map[string]bool{
		"cuDriverGetVersion": true, "cuInit": true, "cuGetErrorName": true, "cuGetErrorString": true, "cuCtxGetCurrent": true,
	}
	for _, c := range cases {
		covered[c.call] = true
		t.Run(c.call, func(t *testing.T) {
			s := &state{rig: newRig(t)}
			s.function = s.rig.function("none")
			var err error
			s.event, err = s.context.OpenEvent(EventOptions{Timing: true})
			require.NoError(t, err)
			require.NoError(t, s.stream.Record(s.event))
			s.memory, err = s.context.Alloc(64)
			require.NoError(t, err)
			s.host, err = s.context.AllocHost(64)
			require.NoError(t, err)
			s.span, err = s.context.Reserve(granule)
			require.NoError(t, err)
			s.pages, err = s.context.CreatePages(granule)
			require.NoError(t, err)
			require.NoError(t, s.stream.BeginCapture())
			s.graph, err = s.stream.EndCapture()
			require.NoError(t, err)
			s.exec, err = s.graph.Instantiate("g")
			require.NoError(t, err)
			s.other, err = s.driver.OpenContext(0)
			require.NoError(t, err)

			before := s.live
			s.failing(c.call, code, 0)
			err = c.do(s)
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, code, e.Code)
			require.Contains(t, e.Error(), c.want)
			require.ErrorContains(t, err, "CUDA_ERROR_NOT_SUPPORTED: operation not supported")
			require.ErrorIs(t, err, errors.ErrUnsupported)
			require.Equal(t, before, s.live, "a call that failed has changed nothing")

			s.failing("", 0, 0)
			if c.loses != "" {
				s.live[slices.Index(kinds[:], c.loses)]--
			}
			require.NoError(t, errors.Join(
				s.context.Use(), s.exec.Close(), s.graph.Close(), s.event.Close(), s.context.Free(s.memory), s.context.FreeHost(s.host),
				s.context.ReleasePages(s.pages), s.context.Unreserve(s.span, granule), s.other.Close(), s.context.Use(),
			))
		})
	}
	for _, call := range driverCalls(t) {
		require.True(t, covered[call], "no case for %s", call)
	}
}

// driverCalls are the symbols that the package looks up.
func driverCalls(t *testing.T) []string {
	text, err := os.ReadFile("driver.h")
	require.NoError(t, err)
	var calls []string
	for _, m := range regexp.MustCompile(`(?m)^  X\(\w+, (\w+),`).FindAllStringSubmatch(string(text), -1) {
		calls = append(calls, m[1])
	}
	require.Greater(t, len(calls), 50)
	return calls
}
