package kernels

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// adviseLarge asks for large pages; a system that has none to give goes on with small ones.
func adviseLarge(addr unsafe.Pointer, bytes int) {
	_ = unix.Madvise(unsafe.Slice((*byte)(addr), bytes), unix.MADV_HUGEPAGE)
}
