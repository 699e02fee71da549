package kernels

import "unsafe"

// Buffer is a run of bytes in a device's memory. Only package kernels can look inside; the zero Buffer means "none". On
// the CPU it may alias host memory that is mapped (weights); whoever made it keeps that memory alive.
type Buffer struct {
	addr unsafe.Pointer
	size int
}

// Bytes is the buffer's size.
func (b Buffer) Bytes() int { return b.size }

// IsZero reports whether the buffer is absent.
func (b Buffer) IsZero() bool { return b.addr == nil }

// Slice is the part [off, off+n) of the buffer, in bytes. It panics if the part does not lie within, which is a broken
// invariant of the caller.
func (b Buffer) Slice(off, n int) Buffer {
	if off < 0 || n < 0 || off > b.size-n {
		panic("kernels: slice outside its buffer")
	}
	return Buffer{addr: unsafe.Add(b.addr, off), size: n}
}

// bufferAt is the buffer at an address of a device's memory, which is not the garbage collector's.
func bufferAt(at uintptr, bytes int) Buffer {
	return Buffer{addr: *(*unsafe.Pointer)(unsafe.Pointer(&at)), size: bytes}
}
