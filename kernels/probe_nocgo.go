//go:build !cgo || windows || !(amd64 || arm64 || loong64 || riscv64)

package kernels

// bestProbeSet is the loops for this processor.
func bestProbeSet() probeSet { return goProbe }
