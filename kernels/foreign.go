package kernels

import (
	"errors"
	"fmt"
)

// Address is where a buffer lies in the memory of a GPU, a CUdeviceptr, for other libraries that use the device's CUDA context.
// The buffer stays the device's: it is good until Free, or Close. What [Device.Do] has queued may still be running when Do
// returns: before others touch the memory they wait for it, by Ops.Read or by synchronizing the context. A CPU's buffers have no
// such address: the error matches errors.ErrUnsupported.
func (d *Device) Address(b Buffer) (uintptr, error) {
	if d.info.Kind != "cuda" {
		return 0, fmt.Errorf("kernels: the address of a buffer on device %q: only \"cuda\" has one: %w", d.info.Kind, errors.ErrUnsupported)
	}
	return uintptr(b.addr), nil
}

// Wrap makes a buffer of memory that another library has allocated in the device's CUDA context, or that the context's GPU can
// reach, given its CUdeviceptr and size. It stays the other's: Free ignores the buffer, and whoever allocated the memory frees it
// after the last operation on it is done. They have waited for what they wrote before an operation reads it. For anything but
// Write, Read and Copy it is aligned like memory of Alloc; it is not for the lists of [Work], whose contents the device
// remembers. A CPU takes none: the error matches errors.ErrUnsupported.
func (d *Device) Wrap(address uintptr, bytes int) (Buffer, error) {
	switch {
	case d.info.Kind != "cuda":
		return Buffer{}, fmt.Errorf("kernels: wrapping memory for device %q: only \"cuda\" takes foreign memory: %w", d.info.Kind, errors.ErrUnsupported)
	case address == 0 || bytes < 0 || bytes > maxBytes:
		return Buffer{}, fmt.Errorf("kernels: wrapping memory: got %d bytes at %#x, want an address, and 0 to %d bytes", bytes, address, maxBytes)
	}
	return bufferAt(address, bytes), nil
}
