//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/cuda"
)

// TestForeignContext: a device runs in a context that somebody else has made, and leaves it as it is.
func TestForeignContext(t *testing.T) {
	s, g := newStub(t)
	s.devices = 2
	driver, err := cuda.Open(cuda.Options{Library: g.library})
	require.NoError(t, err)
	theirs, err := driver.OpenContext(1)
	require.NoError(t, err)
	alone := s.live

	for _, device := range []string{"", "cuda"} {
		d, err := open(Options{Device: device, CUDAContext: theirs.Handle()}, g)
		require.NoError(t, err)
		require.Equal(t, "Stub 1", d.Info().Name, "the context's GPU, not the first one")
		require.Equal(t, alone[0], s.live[0], "no further share in a context")
		w := newTwin(t, d)
		f := w.fixture(3)
		w.on(func(o Ops) error { return o.NormQKV(&f.NormQKV) })
		require.NoError(t, d.Close())
		require.Equal(t, alone, s.live, "all that was theirs, and nothing else")
	}
	require.NoError(t, theirs.Use())
	require.NoError(t, theirs.Close())
	require.NoError(t, driver.Close())

	for _, c := range []struct {
		name    string
		options Options
		want    string
	}{
		{"no context", Options{CUDAContext: 0x10}, `kernels: opening device "cuda": cuda: adopting context 0x10: CUDA_ERROR_INVALID_CONTEXT`},
		{"on a CPU", Options{Device: "cpu", CUDAContext: 0x10}, `kernels: opening device "cpu": a CUDA context is for "cuda"`},
		{"a CPU's kernels", Options{KernelSet: "go", CUDAContext: 0x10}, `kernels: opening device "cuda": kernel set "go" is the CPU's`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "no context" {
				s.failing("cuCtxGetDevice_v2", 201, 0)
				defer s.failing("", 0, 0)
			}
			_, err := open(c.options, g)
			require.ErrorContains(t, err, c.want)
			require.Equal(t, [12]int32{}, s.live)
		})
	}
}

// TestForeignMemory: addresses go both ways, and whoever allocated memory frees it.
func TestForeignMemory(t *testing.T) {
	s, d := openStub(t)
	theirs, err := d.Alloc(1000) // for a device, memory of its own that is wrapped is as good as another's
	require.NoError(t, err)
	at, err := d.Address(theirs)
	require.NoError(t, err)
	wrapped, err := d.Wrap(at+256, 700)
	require.NoError(t, err)
	require.Equal(t, theirs.Slice(256, 700), wrapped)

	ours, err := d.Alloc(700)
	require.NoError(t, err)
	sent, back := make([]byte, 700), make([]byte, 700)
	for i := range sent {
		sent[i] = byte(i)
	}
	require.NoError(t, d.Do(context.Background(), func(o Ops) error {
		return errors.Join(o.Write(wrapped, sent), o.Copy(ours, wrapped), o.Read(back, ours))
	}))
	require.Equal(t, sent, back)

	allocations := s.live
	d.Free(wrapped)
	require.Equal(t, allocations, s.live, "what was wrapped is not the device's to free")
	d.Free(ours)
	d.Free(theirs)

	for _, c := range []struct {
		at    uintptr
		bytes int
	}{{0, 10}, {at, -1}, {at, maxBytes + 1}} {
		_, err := d.Wrap(c.at, c.bytes)
		require.ErrorContains(t, err, "kernels: wrapping memory: got")
	}
	cpu, err := Open(Options{Device: "cpu"})
	require.NoError(t, err)
	defer cpu.Close()
	_, err = cpu.Wrap(at, 10)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = cpu.Address(ours)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
