package model

import "golang.org/x/sys/unix"

// adviseLarge asks for large pages: a core reads weights half as fast again from them. Where there are none, nothing is lost.
func adviseLarge(b []byte) {
	const largePage = 2 << 20
	if len(b) >= largePage {
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	}
}
