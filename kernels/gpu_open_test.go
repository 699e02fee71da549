//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/quire-llm/quire/kernels/cuda"
)

// TestOpenGPU: what was found decides what is opened.
func TestOpenGPU(t *testing.T) {
	for _, c := range []struct {
		name    string
		options Options
		image   string // QUIRE_CUDA_IMAGE
		set     func(*stub)
		kind    string // "" for an error
		kernels string
		found   bool
		want    string // in the reason or the error
	}{
		{name: "a GPU", kind: "cuda", kernels: "cuda sm_90a", found: true},
		{name: "asked for", options: Options{Device: "cuda"}, kind: "cuda", kernels: "cuda sm_90a", found: true},
		{name: "another GPU", set: func(s *stub) { s.major, s.minor = 8, 6 }, kind: "cuda", kernels: "cuda ptx", found: true},
		{name: "a newer GPU", set: func(s *stub) { s.major, s.minor = 10, 0 }, kind: "cuda", kernels: "cuda ptx", found: true},
		{name: "PTX by the environment", image: "ptx", kind: "cuda", kernels: "cuda ptx", found: true},
		{name: "PTX by the options", options: Options{KernelSet: "cuda ptx"}, kind: "cuda", kernels: "cuda ptx", found: true},
		{name: "machine code by the options", options: Options{KernelSet: "cuda sm_90a"}, image: "ptx", kind: "cuda", kernels: "cuda sm_90a", found: true},
		{name: "machine code for another GPU", options: Options{KernelSet: "cuda sm_90a"}, set: func(s *stub) { s.major = 8 },
			want: `kernels: opening device "cuda": kernel set "cuda sm_90a" is for compute capability 9.0, "Stub 0" has 8.0`},
		{name: "no such kernels", options: Options{KernelSet: "cuda sm_20"},
			want: `kernels: opening device "cuda": no kernel set "cuda sm_20": there are "cuda sm_90a" and "cuda ptx"`},
		{name: "the CPU", options: Options{Device: "cpu"}, kind: "cpu"},
		{name: "the CPU by its kernels", options: Options{KernelSet: "go"}, kind: "cpu", kernels: "go"},
		{name: "the CPU by its numbers", options: Options{Float32: true}, kind: "cpu"},
		{name: "old driver", set: func(s *stub) { s.version = 12040 }, kind: "cpu", found: true,
			want: "want driver 580 (CUDA 13.0) or newer"},
		{name: "old driver, demanded", options: Options{Device: "cuda"}, set: func(s *stub) { s.version = 12040 },
			want: `kernels: opening device "cuda": cuda: opening the driver "`},
		{name: "no device", set: func(s *stub) { s.devices = 0 }, kind: "cpu", found: true, want: "CUDA_ERROR_NO_DEVICE"},
		{name: "old GPU", set: func(s *stub) { s.major, s.minor = 7, 5 }, kind: "cpu", found: true,
			want: `"Stub 0", has compute capability 7.5, want 8.0 or more`},
		{name: "old GPU, demanded", options: Options{Device: "cuda"}, set: func(s *stub) { s.major, s.minor = 7, 5 },
			want: `kernels: opening device "cuda": cuda: device 0, "Stub 0", has compute capability 7.5, want 8.0 or more`},
		{name: "no memory left", set: func(s *stub) { s.failing("cuMemHostAlloc", 2, 0) }, kind: "cpu", found: true, want: "CUDA_ERROR_OUT_OF_MEMORY"},
		{name: "broken images", set: func(s *stub) { s.failing("cuModuleLoadDataEx", 801, 3) }, kind: "cpu", found: true, want: `loading module "`},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			s, g := newStub(t)
			t.Setenv(imageVariable, c.image)
			if c.set != nil {
				c.set(s)
			}
			d, err := open(c.options, g)
			if c.kind == "" {
				require.ErrorIs(t, err, errors.ErrUnsupported)
				require.ErrorContains(t, err, c.want)
				require.Equal(t, [12]int32{}, s.live)
				return
			}
			require.NoError(t, err)
			defer d.Close()
			info := d.Info()
			require.Equal(t, c.kind, info.Kind)
			require.Equal(t, c.found, info.DriverFound)
			if c.kernels != "" {
				require.Equal(t, c.kernels, info.KernelSet)
			}
			require.Equal(t, c.want != "", info.DeviceReason != "", "reason %q", info.DeviceReason)
			require.Contains(t, info.DeviceReason, c.want)
			if c.kind == "cuda" {
				require.Equal(t, "Stub 0", info.Name)
				require.Contains(t, info.Driver, "CUDA 13.0")
				require.Equal(t, "bf16", info.Products)
				require.EqualValues(t, 1<<30, info.MemoryBytes)
				require.Equal(t, fmt.Sprintf("%d.%d", s.major, s.minor), info.Capability)
				require.Equal(t, 2, d.ActivationBytes())
				require.True(t, info.TakesKV(KVFP8))
			}
			s.failing("", 0, 0)
			require.NoError(t, d.Close())
			require.Equal(t, [12]int32{}, s.live, "what is left")
		})
	}
	t.Run("no driver", func(t *testing.T) {
		none := gpuOptions{library: "libcuda-that-is-not-there.so.1"}
		d, err := open(Options{}, none)
		require.NoError(t, err)
		info := d.Info()
		require.Equal(t, "cpu", info.Kind)
		require.False(t, info.DriverFound)
		require.Contains(t, info.DeviceReason, "cannot open shared object file")
		require.False(t, info.TakesKV(KVFP8))
		require.NoError(t, d.Close())
		_, err = open(Options{Device: "cuda"}, none)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorContains(t, err, `kernels: opening device "cuda": cuda: opening the driver "libcuda-that-is-not-there.so.1": `)
	})
}

// TestGPUMemory: memory is zeroed and aligned, and every byte is given back.
func TestGPUMemory(t *testing.T) {
	s, d := openStub(t)
	before := d.Info().AvailableBytes
	for _, size := range []int{0, 1, 63, 4096, 100000} {
		b, err := d.Alloc(size)
		require.NoError(t, err)
		require.Equal(t, size, b.Bytes())
		require.Zero(t, address(b)%256)
		for i, v := range b.bytes() {
			require.Zero(t, v, "byte %d of %d", i, size)
		}
		d.Free(b)
	}
	_, err := d.Alloc(2 << 30)
	require.ErrorIs(t, err, ErrNoMemory)
	require.ErrorContains(t, err, "allocating 2147483648 bytes on device 0, which has")
	for _, size := range []int{-1, maxBytes + 1} {
		_, err := d.Alloc(size)
		require.ErrorIs(t, err, ErrNoMemory)
	}
	s.failing("cuMemsetD8Async", 1, 0)
	_, err = d.Alloc(100)
	require.ErrorContains(t, err, "kernels: allocating 100 bytes: cuda: filling 100 bytes")
	s.failing("", 0, 0)
	d.Free(Buffer{})
	require.Equal(t, before, d.Info().AvailableBytes)
}

// TestGPUUpload: uploads of all sizes arrive whole, wherever they lie, and share allocations.
func TestGPUUpload(t *testing.T) {
	s, d := openStub(t)
	s.quiet = 1
	before := d.Info().AvailableBytes
	rng := newRand(t)
	sizes := []int{0, 1, 2, 255, 256, 257, pieceBytes - 1, pieceBytes, 3*pieceBytes + 5, slabBytes/8 + 1, 40 << 20}
	for range 50 {
		sizes = append(sizes, rng.IntN(100<<10))
	}
	var hosts [][]byte
	var buffers []Buffer
	for _, n := range sizes {
		host := make([]byte, n)
		for i := range host {
			host[i] = byte(i*7 + n)
		}
		b, err := d.Upload(host)
		require.NoError(t, err)
		require.Equal(t, n, b.Bytes())
		require.Zero(t, address(b)%256)
		hosts, buffers = append(hosts, host), append(buffers, b)
	}
	require.Less(t, s.live[6], int32(10), "allocations for %d uploads", len(sizes))
	require.NoError(t, d.Do(context.Background(), func(Ops) error { return nil }))
	for i, b := range buffers {
		require.Equal(t, hosts[i], append([]byte{}, b.bytes()...), "upload %d of %d bytes", i, len(hosts[i]))
	}
	for _, i := range rng.Perm(len(buffers)) {
		d.Free(buffers[i])
	}
	require.Equal(t, before, d.Info().AvailableBytes)

	s.failing("cuMemcpyHtoDAsync_v2", 1, 2)
	for range 20 {
		b, err := d.Upload(hosts[8])
		require.NoError(t, err)
		defer d.Free(b)
	}
	err := d.Do(context.Background(), func(Ops) error { return nil })
	require.ErrorContains(t, err, "kernels: cuda: copying")
	s.failing("", 0, 0)
	require.NoError(t, d.Do(context.Background(), func(Ops) error { return nil }))
}

// TestGPUCopies: what is written comes back, in pieces larger than the pinned memory.
func TestGPUCopies(t *testing.T) {
	_, d := openStub(t)
	rng := newRand(t)
	for _, n := range []int{0, 1, 63, 64, 65, ringChunkBytes - 1, ringChunkBytes, ringChunkBytes + 1, ringChunks*ringChunkBytes + 1000, readBytes + 1} {
		host := make([]byte, n)
		for i := range host {
			host[i] = byte(rng.Uint32())
		}
		a, err := d.Alloc(n)
		require.NoError(t, err)
		b, err := d.Alloc(n)
		require.NoError(t, err)
		back := make([]byte, n)
		require.NoError(t, d.Do(context.Background(), func(o Ops) error {
			return errors.Join(o.Write(a, host), o.Copy(b, a), o.Read(back, b))
		}))
		require.Equal(t, host, back)
		d.Free(a)
		d.Free(b)
	}
	b, err := d.Alloc(8)
	require.NoError(t, err)
	require.NoError(t, d.Do(context.Background(), func(o Ops) error {
		require.EqualError(t, o.Write(b, make([]byte, 7)), "kernels: Write: dst has 8 bytes, src 7")
		require.EqualError(t, o.Read(make([]byte, 7), b), "kernels: Read: dst has 7 bytes, src 8")
		require.EqualError(t, o.Copy(b, b.Slice(0, 3)), "kernels: Copy: dst has 8 bytes, src 3")
		return nil
	}))
}

// TestGPULost: a kernel that ends the context ends the device. The process goes on, and may open another one.
func TestGPULost(t *testing.T) {
	s, d := openStub(t)
	w := newTwin(t, d)
	f := w.fixture(3)
	w.on(func(o Ops) error { return o.NormQKV(&f.NormQKV) }) // what it needs grows once, and waits
	w.on(func(o Ops) error { return o.Read(make([]byte, 4), f.NormQKV.Out.Slice(0, 4)) })
	copy(s.fault[:], cuda.Gemv8x16NormedBF16.String())
	s.faultCode = 700
	err := d.Do(context.Background(), func(o Ops) error {
		if err := errors.Join(o.Embed(&f.Embed), o.NormQKV(&f.NormQKV)); err != nil {
			return err
		}
		_ = o.Read(make([]byte, f.NormQKV.Out.size), f.NormQKV.Out) // who ignores the error does not hide it
		return nil
	})
	require.ErrorIs(t, err, ErrDevice)
	require.ErrorIs(t, err, cuda.ErrLost)
	require.ErrorContains(t, err, "CUDA_ERROR_ILLEGAL_ADDRESS")
	require.ErrorContains(t, err, "embed_bf16, gemv_8x16_normed_bf16")
	require.Equal(t, err, d.Do(context.Background(), func(Ops) error { panic("not reached") }))
	_, err = d.Alloc(100)
	require.ErrorIs(t, err, ErrDevice)
	_, err = d.Upload(make([]byte, 100))
	require.ErrorIs(t, err, ErrDevice)
	d.Free(f.Embed.Out)
	require.NotPanics(t, func() { d.Info() })
}
