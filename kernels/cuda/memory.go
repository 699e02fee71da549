//go:build linux && cgo && (amd64 || arm64)

package cuda

// #include "driver.h"
import "C"

import "unsafe"

// Alloc returns bytes of device memory, aligned to 256 bytes at least, with anything in them. It may wait for the device.
// The caller frees it. An error that matches ErrOutOfMemory says how much is free.
func (c *Context) Alloc(bytes int) (Ptr, error) {
	var address C.CUdeviceptr
	if r := C.quire_cuMemAlloc(c.table, &address, C.size_t(bytes)); r != 0 {
		if free, _, err := c.Memory(); err == nil && Result(r) == codeOutOfMemory {
			return 0, c.driver.fail(r, "allocating %d bytes on device %d, which has %d free", bytes, c.device, free)
		}
		return 0, c.driver.fail(r, "allocating %d bytes on device %d", bytes, c.device)
	}
	return Ptr(address), nil
}

// Free gives memory of Alloc back, whole, after it has waited for all work of the device. 0 is ignored.
func (c *Context) Free(p Ptr) error {
	if p == 0 {
		return nil
	}
	if r := C.quire_cuMemFree(c.table, C.CUdeviceptr(p)); r != 0 {
		return c.driver.fail(r, "freeing device memory at %#x", uint64(p))
	}
	return nil
}

// Flags of pinned memory.
const (
	hostPortable = 1 // pinned for every context of the process
	hostReadOnly = 8
)

// AllocHost returns bytes of pinned host memory, outside the Go heap and with anything in them: copies from and to it are
// asynchronous and run at full speed. On the device it has the same address, so that a kernel may read it directly. The
// caller frees it with [Context.FreeHost] and must not append to it.
func (c *Context) AllocHost(bytes int) ([]byte, error) {
	var address unsafe.Pointer
	if r := C.quire_cuMemHostAlloc(c.table, &address, C.size_t(bytes), hostPortable); r != 0 {
		return nil, c.driver.fail(r, "allocating %d bytes of pinned host memory", bytes)
	}
	return unsafe.Slice((*byte)(address), bytes), nil
}

// FreeHost gives memory of AllocHost back, whole. The caller knows that no copy uses it. Empty memory is ignored.
func (c *Context) FreeHost(host []byte) error {
	if len(host) == 0 {
		return nil
	}
	if r := C.quire_cuMemFreeHost(c.table, unsafe.Pointer(&host[0])); r != 0 {
		return c.driver.fail(r, "freeing %d bytes of pinned host memory", len(host))
	}
	return nil
}

// RegisterHost pins memory that somebody else made, such as a mapped file, until [Context.UnregisterHost]. It must lie
// outside the Go heap and stay where it is until then. readOnly is for memory that the process itself may not write; where
// the device cannot do that the error matches errors.ErrUnsupported.
func (c *Context) RegisterHost(host []byte, readOnly bool) error {
	flags := C.unsigned(hostPortable)
	if readOnly {
		flags |= hostReadOnly
	}
	if r := C.quire_cuMemHostRegister(c.table, unsafe.Pointer(unsafe.SliceData(host)), C.size_t(len(host)), flags); r != 0 {
		return c.driver.fail(r, "pinning %d bytes of host memory", len(host))
	}
	return nil
}

// UnregisterHost ends RegisterHost of the same memory. The caller knows that no copy uses it.
func (c *Context) UnregisterHost(host []byte) error {
	if r := C.quire_cuMemHostUnregister(c.table, unsafe.Pointer(unsafe.SliceData(host))); r != 0 {
		return c.driver.fail(r, "unpinning %d bytes of host memory", len(host))
	}
	return nil
}
