package model

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// dropPages takes the pages of a part of a mapped file out of this process. They come back when they are read again.
func dropPages(b []byte) {
	page := unix.Getpagesize()
	start := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	skip := -int(start) & (page - 1) // the first page may hold another's bytes
	if n := (len(b) - skip) &^ (page - 1); n > 0 {
		_ = unix.Madvise(b[skip:skip+n], unix.MADV_DONTNEED)
	}
}

// adviseLarge asks for large pages: a core reads weights half as fast again from them. Where there are none, nothing is lost.
func adviseLarge(b []byte) {
	const largePage = 2 << 20
	if len(b) >= largePage {
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	}
}
