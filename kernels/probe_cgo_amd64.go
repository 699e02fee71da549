//go:build cgo && !windows

package kernels

// #include "probe.h"
import "C"

// vectorProbe is the loops that go with a kernel set; nil: the portable ones.
func vectorProbe(name string) *C.struct_probe_set {
	switch name {
	case "avx512bf16", "avx512":
		return &C.quire_probe_avx512bf16
	case "avx2":
		return &C.quire_probe_avx2
	}
	return nil
}
