package gorgonia_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"github.com/quire-llm/quire/interop/gorgonia"
	"github.com/quire-llm/quire/kernels"
)

// TestBothWays: each side writes memory of its own and of the other's, and reads back what the other wrote. Closing the device
// leaves gorgonia's context and memory as they are.
func TestBothWays(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	gpu, err := cu.GetDevice(0)
	require.NoError(t, err)
	ctx, err := gpu.MakeContext(cu.SchedAuto)
	require.NoError(t, err)
	defer func() { require.NoError(t, ctx.Destroy()) }()
	device, err := gorgonia.Open(ctx, kernels.Options{})
	require.NoError(t, err)
	defer device.Close()
	name, err := gpu.Name()
	require.NoError(t, err)
	require.Equal(t, name, device.Info().Name)

	const size = 3<<20 + 5 // more than a copy's piece
	theirs, err := cu.MemAlloc(size)
	require.NoError(t, err)
	wrapped, err := gorgonia.Wrap(device, theirs, size)
	require.NoError(t, err)
	require.Equal(t, size, wrapped.Bytes())
	ours, err := device.Alloc(size)
	require.NoError(t, err)
	pointer, err := gorgonia.Pointer(device, ours)
	require.NoError(t, err)

	sent, got := make([]byte, size), make([]byte, size)
	for i := range sent {
		sent[i] = byte(i*7 + i>>11)
	}
	same := func(what string) {
		t.Helper()
		require.True(t, bytes.Equal(sent, got), what)
		clear(got)
	}
	do := func(fn func(o kernels.Ops) error) {
		t.Helper()
		require.NoError(t, device.Do(context.Background(), fn))
	}

	require.NoError(t, cu.MemcpyHtoD(theirs, unsafe.Pointer(&sent[0]), size))
	do(func(o kernels.Ops) error { return o.Read(got, wrapped) })
	same("gorgonia's memory, read by the device")
	do(func(o kernels.Ops) error { return o.Copy(ours, wrapped) })
	require.NoError(t, cu.Synchronize())
	require.NoError(t, cu.MemcpyDtoH(unsafe.Pointer(&got[0]), pointer, size))
	same("the device's memory, read by gorgonia")

	for i := range sent {
		sent[i] ^= 0x55
	}
	require.NoError(t, cu.MemcpyHtoD(pointer, unsafe.Pointer(&sent[0]), size))
	do(func(o kernels.Ops) error { return errors.Join(o.Read(got, ours), o.Copy(wrapped, ours)) })
	same("the device's memory, written by gorgonia")
	device.Free(wrapped)
	require.NoError(t, device.Close())
	require.NoError(t, cu.MemcpyDtoH(unsafe.Pointer(&got[0]), theirs, size))
	same("gorgonia's memory, written by the device, which is closed")
	require.NoError(t, cu.MemFree(theirs))
}

func TestRefused(t *testing.T) {
	_, err := gorgonia.Open(cu.CUContext{}, kernels.Options{})
	require.EqualError(t, err, "gorgonia: opening a device in context 0x0: there is no such context")
}
