//go:build linux && cgo && (amd64 || arm64)

package cuda

// #include "driver.h"
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

// Context is the use of one GPU by this process.
type Context struct {
	driver *Driver
	table  *C.struct_quire_driver
	device C.CUdevice
	handle C.CUcontext
	info   DeviceInfo

	adopted bool
}

// OpenContext takes a share in the device's primary context, the one that all well-behaved libraries of a process use
// together. The calling thread's context stays as it was: see [Context.Use]. A GPU that is too old gives the error of
// [DeviceInfo.Supported].
func (d *Driver) OpenContext(index int) (*Context, error) {
	device, info, err := d.device(index)
	if err != nil {
		return nil, err
	}
	if err := info.Supported(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, fmt.Errorf("cuda: opening a context on device %d: the driver: %w", index, ErrClosed)
	}
	c := &Context{driver: d, table: d.table, device: device, info: info}
	if r := C.quire_cuDevicePrimaryCtxRetain(d.table, &c.handle, device); r != 0 {
		return nil, d.fail(r, "opening a context on device %d", index)
	}
	d.contexts++
	return c, nil
}

// Adopt is a context that somebody else made, given its CUcontext. It stays theirs: they keep it alive until Close, which
// leaves it as it is.
func (d *Driver) Adopt(handle uintptr) (*Context, error) {
	c := &Context{driver: d, table: d.table, handle: C.quire_context_of(C.uintptr_t(handle)), adopted: true}
	if r := C.quire_cuCtxGetDevice(d.table, &c.device, c.handle); r != 0 {
		return nil, d.fail(r, "adopting context %#x", handle)
	}
	var err error
	if c.info, err = d.describe(c.device); err != nil {
		return nil, err
	}
	if err := c.info.Supported(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, fmt.Errorf("cuda: adopting context %#x: the driver: %w", handle, ErrClosed)
	}
	d.contexts++
	return c, nil
}

// Use makes the context the calling OS thread's. The goroutine must be locked to the thread (runtime.LockOSThread) for as
// long as it wants to be sure of that.
func (c *Context) Use() error {
	if c.handle == nil {
		return fmt.Errorf("cuda: using the context of device %d: %w", c.device, ErrClosed)
	}
	if r := C.quire_cuCtxSetCurrent(c.table, c.handle); r != 0 {
		return c.driver.fail(r, "using the context of device %d", c.device)
	}
	return nil
}

// Close gives the context back; the last one to do so in the process ends it, with all memory in it. If it is the calling
// thread's, that thread has none afterwards. Everything that was opened in it is closed before.
func (c *Context) Close() error {
	if c.handle == nil {
		return nil
	}
	var errs []error
	var current C.CUcontext
	if r := C.quire_cuCtxGetCurrent(c.table, &current); r == 0 && current == c.handle && !c.adopted {
		if r := C.quire_cuCtxSetCurrent(c.table, nil); r != 0 {
			errs = append(errs, c.driver.fail(r, "leaving the context of device %d", c.device))
		}
	}
	if !c.adopted {
		if r := C.quire_cuDevicePrimaryCtxRelease(c.table, c.device); r != 0 {
			errs = append(errs, c.driver.fail(r, "closing the context of device %d", c.device))
		}
	}
	c.handle = nil
	c.driver.mu.Lock()
	c.driver.contexts--
	c.driver.mu.Unlock()
	return errors.Join(errs...)
}

// Info describes the device.
func (c *Context) Info() DeviceInfo { return c.info }

// Handle is the CUcontext, for other libraries in this process; it is good until Close.
func (c *Context) Handle() uintptr { return uintptr(unsafe.Pointer(c.handle)) }

// Memory is the device's memory in bytes: what is free, of all processes, and what there is.
func (c *Context) Memory() (free, total int64, err error) {
	var f, t C.size_t
	if r := C.quire_cuMemGetInfo(c.table, &f, &t); r != 0 {
		return 0, 0, c.driver.fail(r, "reading the free memory of device %d", c.device)
	}
	return int64(f), int64(t), nil
}
