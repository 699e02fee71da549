//go:build cgo && !windows && (arm64 || loong64 || riscv64)

package kernels

// vectorSets are the sets beside "portable" that this CPU can run.
func vectorSets() []kernelSet { return nil }
