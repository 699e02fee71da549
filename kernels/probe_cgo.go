//go:build cgo && !windows && (amd64 || arm64 || loong64 || riscv64)

package kernels

// #include "probe.h"
import "C"

import "unsafe"

// bestProbeSet is the loops for this processor.
func bestProbeSet() probeSet {
	name := kernelSets()[0].name
	set := vectorProbe(name)
	if set == nil {
		set = &C.quire_probe_portable
	}
	return probeSet{
		name: name, read: probeLoop(set.read), read4: probeLoop(set.read4), fma: probeLoop(set.fma), dot: probeLoop(set.dot),
		fmaOps: int64(set.fma_operations), dotOps: int64(set.dot_operations),
	}
}

// probeLoop is a C loop; the zero kernel for none.
func probeLoop(k *C.kernel) kernel {
	if k == nil {
		return kernel{}
	}
	return kernel{func(args unsafe.Pointer) { C.quire_run(k, args) }, unsafe.Pointer(k)}
}

// Go and C agree on the arguments, or this does not compile.
var (
	_ = same[unsafe.Sizeof(probeArgs{})-C.sizeof_struct_probe_args]
	_ = same[unsafe.Offsetof(probeArgs{}.ahead)-unsafe.Offsetof(C.struct_probe_args{}.ahead)]
)
