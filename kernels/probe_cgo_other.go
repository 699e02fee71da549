//go:build cgo && !windows && (arm64 || loong64 || riscv64)

package kernels

// #include "probe.h"
import "C"

// vectorProbe is the loops that go with a kernel set; nil: the portable ones.
func vectorProbe(string) *C.struct_probe_set { return nil }
