//go:build unix

package kernels

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapMemory gets zeroed pages from the system, which are real only once they are touched.
func mapMemory(bytes int) (unsafe.Pointer, error) {
	return unix.MmapPtr(-1, 0, nil, uintptr(bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

// unmapMemory gives pages back. It fails only for addresses that mapMemory did not return.
func unmapMemory(addr unsafe.Pointer, bytes int) { _ = unix.MunmapPtr(addr, uintptr(bytes)) }
