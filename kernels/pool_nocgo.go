//go:build !cgo || windows || !(amd64 || arm64 || loong64 || riscv64)

package kernels

// stay is never called: no kernel is compiled.
func (*pool) stay(uint64) (last uint64, joined bool) { panic("kernels: a compiled kernel without C") }
