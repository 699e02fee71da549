// Package gorgonia lets Quire and gorgonia.org/cu share a GPU: a device, and the engines on it, run in a context that gorgonia
// has made, and memory of one is read and written by the other.
//
// A program that imports gorgonia.org/cu needs CUDA 12's headers to compile and a GPU to start: that is why this is a module of
// its own. Quire without it needs neither.
package gorgonia

import (
	"fmt"
	"strconv"

	"gorgonia.org/cu"

	"github.com/quire-llm/quire/kernels"
)

// Open opens a device in a context of gorgonia's, which stays the caller's: destroy it after the device's Close. The options'
// Device and CUDAContext are set. The calling thread uses the context afterwards, as after cu.SetCurrentContext.
func Open(ctx cu.CUContext, o kernels.Options) (*kernels.Device, error) {
	// What String promises to write is all of a CUContext that other packages can see.
	handle, err := strconv.ParseUint(ctx.String(), 0, 64)
	if err != nil || handle == 0 {
		return nil, fmt.Errorf("gorgonia: opening a device in context %v: there is no such context", ctx)
	}
	o.Device, o.CUDAContext = "cuda", uintptr(handle)
	return kernels.Open(o)
}

// Pointer is where a buffer of the device lies. It stays the device's, and is good until its Free or Close. Wait for what
// the device has queued, with cu.Synchronize, before gorgonia reads or writes there.
func Pointer(d *kernels.Device, b kernels.Buffer) (cu.DevicePtr, error) {
	at, err := d.Address(b)
	return cu.DevicePtr(at), err
}

// Wrap makes a buffer of gorgonia's memory, of bytes bytes. It stays gorgonia's: cu.MemFree frees it, after the device's last use.
// Gorgonia's copies are done when they return; wait for anything asynchronous before the device reads it.
func Wrap(d *kernels.Device, p cu.DevicePtr, bytes int) (kernels.Buffer, error) {
	return d.Wrap(p.Uintptr(), bytes)
}
