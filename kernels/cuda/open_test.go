//go:build linux && cgo && (amd64 || arm64)

package cuda

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpenRefuses(t *testing.T) {
	library, err := stubLibrary()
	require.NoError(t, err)
	// A symbol is taken away by renaming it in the table of names.
	without := func(symbol string) []byte {
		renamed := []byte("\x00" + symbol + "\x00")
		renamed[len(renamed)-2] = '?'
		return bytes.ReplaceAll(library, []byte("\x00"+symbol+"\x00"), renamed)
	}
	for _, c := range []struct {
		name    string
		library []byte
		set     func(*control)
		want    []string
		other   bool // does not match errors.ErrUnsupported
	}{
		{name: "old driver", set: func(c *control) { c.version = 12040 },
			want: []string{"CUDA 12.4", "want driver 580 (CUDA 13.0) or newer"}},
		{name: "old driver without a new function", library: without("cuEventElapsedTime_v2"),
			set: func(c *control) { c.version = 12020 }, want: []string{"CUDA 12.2", "580"}},
		{name: "a missing function", library: without("cuGraphExecUpdate_v2"), want: []string{"CUDA 13.0", "without cuGraphExecUpdate_v2:"}},
		{name: "another library", library: without("cuDriverGetVersion"), want: []string{"no CUDA driver", "cuDriverGetVersion"}},
		{name: "not a library", library: []byte("text"), want: []string{"opening the driver", "file too short"}},
		{name: "no device", set: func(c *control) { c.devices = 0 }, want: []string{"starting driver", "CUDA_ERROR_NO_DEVICE"}},
		{name: "driver and library of different versions", set: func(c *control) { c.failing("cuInit", codeSystemDriverMismatch, 0) },
			want: []string{"starting driver", "code 803", "unknown to this driver"}},
		{name: "version", set: func(c *control) { c.failing("cuDriverGetVersion", codeInvalidValue, 0) },
			want: []string{"reading the version", "CUDA_ERROR_INVALID_VALUE: invalid argument"}, other: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.library == nil {
				c.library = library
			}
			control, o := newStubOf(t, c.library)
			if c.set != nil {
				c.set(control)
			}
			_, err := Open(o)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			require.Equal(t, !c.other, errors.Is(err, errors.ErrUnsupported), "unsupported: %v", err)
		})
	}
	t.Run("no library", func(t *testing.T) {
		_, err := Open(Options{Library: "libcuda-that-is-not-there.so.1"})
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.EqualError(t, err, `cuda: opening the driver "libcuda-that-is-not-there.so.1": `+
			`cannot open shared object file: No such file or directory: unsupported operation`)
	})
}

func TestModuleVersion(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"proprietary", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue Oct 1 2025\nGCC version: 12.2.0\n", "580.159.04"},
		{"open", "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  595.12  Release Build\n", "595.12"},
		{"nothing in it", "GCC version: none\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "version")
			require.NoError(t, os.WriteFile(file, []byte(c.text), 0o600))
			require.Equal(t, c.want, moduleVersion(file))
		})
	}
	require.Empty(t, moduleVersion(filepath.Join(t.TempDir(), "none")))
	require.Equal(t, "driver 580.159.04 (CUDA 13.0)", Version{API: 13000, Driver: "580.159.04"}.String())
	require.Equal(t, "driver for CUDA 13.2", Version{API: 13020}.String())
}

func TestDevices(t *testing.T) {
	c, o := newStub(t)
	c.devices = 2
	d, err := Open(o)
	require.NoError(t, err)
	require.Equal(t, 13000, d.Version().API)
	infos, err := d.Devices()
	require.NoError(t, err)
	require.Len(t, infos, 2)
	require.Equal(t, DeviceInfo{
		Index: 1, Name: "Stub 1", Major: 9, SMs: 132, MemoryBytes: 1 << 30, L2Bytes: 50 << 20, SharedBytes: 232448,
		PCI: "0000:01a:00.0", VirtualMemory: true,
	}, infos[1])
	require.Equal(t, "9.0", infos[1].Capability())

	_, err = d.OpenContext(2)
	require.EqualError(t, err, "cuda: finding device 2: CUDA_ERROR_INVALID_DEVICE: invalid device ordinal")

	c.major, c.minor = 7, 5
	_, err = d.OpenContext(1)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.EqualError(t, err, `cuda: device 1, "Stub 1", has compute capability 7.5, want 8.0 or more: unsupported operation`)
	require.Empty(t, c.alive())
	require.NoError(t, d.Close())
}

func TestCloseInOrder(t *testing.T) {
	c, o := newStub(t)
	d, err := Open(o)
	require.NoError(t, err)
	first, err := d.OpenContext(0)
	require.NoError(t, err)
	second, err := d.OpenContext(0)
	require.NoError(t, err)
	require.EqualError(t, d.Close(), "cuda: closing the driver: 2 of its contexts are open")
	for range 2 {
		require.NoError(t, first.Close(), "closing twice is fine")
	}
	require.Equal(t, []string{"1 contexts"}, c.alive())
	require.ErrorIs(t, first.Use(), ErrClosed)
	require.NoError(t, second.Close())
	for range 2 {
		require.NoError(t, d.Close(), "closing twice is fine")
	}
	_, err = d.OpenContext(0)
	require.ErrorIs(t, err, ErrClosed)
	require.Empty(t, c.alive())
}

// TestAdopt uses a context that is somebody else's: here the primary one, opened by another driver of this process.
func TestAdopt(t *testing.T) {
	r := newRig(t)
	adopted, err := r.driver.Adopt(r.context.Handle())
	require.NoError(t, err)
	require.Equal(t, r.context.Info(), adopted.Info())
	p, err := adopted.Alloc(64)
	require.NoError(t, err)
	require.NoError(t, adopted.Free(p))
	require.NoError(t, adopted.Close())
	require.NoError(t, r.stream.Sync(), "the owner's context is as it was")

	_, err = r.driver.Adopt(0)
	require.ErrorContains(t, err, "cuda: adopting context 0x0: CUDA_ERROR_INVALID_CONTEXT")
	r.major = 7
	_, err = r.driver.Adopt(r.context.Handle())
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// TestUse: a context is in use on the threads that said so, and on no others.
func TestUse(t *testing.T) {
	r := newRig(t)
	errs := make(chan error, 2)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread, which has a context now, ends with the goroutine
		_, err := r.context.Alloc(64)
		errs <- err
		p, err := Ptr(0), r.context.Use()
		if err == nil {
			p, err = r.context.Alloc(64)
		}
		errs <- errors.Join(err, r.context.Free(p))
	}()
	require.ErrorContains(t, <-errs, "CUDA_ERROR_INVALID_CONTEXT", "on a thread without a context")
	require.NoError(t, <-errs, "on a thread that uses the context")

	other, err := r.driver.OpenContext(0)
	require.NoError(t, err)
	require.NoError(t, other.Close(), "leaves this thread without a context, as both share one")
	require.NoError(t, r.context.Use())
}
