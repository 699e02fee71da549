//go:build !unix

package kernels

import "unsafe"

// mapMemory takes memory from the Go heap, aligned to 64 bytes. The pointer keeps it alive.
func mapMemory(bytes int) (unsafe.Pointer, error) {
	b := make([]byte, bytes+63)
	skip := -uintptr(unsafe.Pointer(&b[0])) & 63
	return unsafe.Pointer(&b[skip]), nil
}

// unmapMemory leaves the memory to the garbage collector.
func unmapMemory(unsafe.Pointer, int) {}
