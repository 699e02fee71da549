package kernels

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestOpen(t *testing.T) {
	for _, c := range []struct {
		options     Options
		unsupported bool
		want        string
	}{
		{options: Options{Device: "cuda", Float32: true}, unsupported: true, want: `kernels: opening device "cuda": its products round their inputs to bfloat16`},
		{options: Options{Device: "cuda", KernelSet: "avx2"}, unsupported: true, want: `kernels: opening device "cuda": kernel set "avx2" is the CPU's`},
		{options: Options{Device: "cpu", KernelSet: "cuda ptx"}, unsupported: true, want: `no kernel set "cuda ptx" here; there are `},
		{options: Options{Device: "tpu"}, unsupported: true, want: `kernels: opening device "tpu": there are "cpu" and "cuda"`},
		{options: Options{KernelSet: "sse"}, unsupported: true, want: `no kernel set "sse" here; there are `},
		{options: Options{Threads: -1}, want: `kernels: opening device "cpu": -1 threads`},
	} {
		_, err := Open(c.options)
		require.ErrorContains(t, err, c.want)
		require.Equal(t, c.unsupported, errors.Is(err, errors.ErrUnsupported))
	}
}

func TestInfo(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		info := newRig(t, set, 3).dev.Info()
		require.Equal(t, "cpu", info.Kind)
		require.NotEmpty(t, info.Name)
		require.Equal(t, set, info.KernelSet)
		require.Equal(t, set == "go", info.KernelReason != "", "reason %q", info.KernelReason)
		require.Equal(t, 3, info.Threads)
		if runtime.GOOS == "linux" {
			require.Positive(t, info.MemoryBytes)
			require.Positive(t, info.AvailableBytes)
			require.LessOrEqual(t, info.AvailableBytes, info.MemoryBytes)
		}
	})
	best := newRig(t, "", 0).dev
	require.Equal(t, kernelSets()[0].name, best.Info().KernelSet)
	require.Equal(t, runtime.GOMAXPROCS(0), best.Info().Threads)
	require.Equal(t, 4, best.ActivationBytes())
}

func TestMemory(t *testing.T) {
	r := newRig(t, "go", 1)
	for _, size := range []int{0, 1, 63, 4096, 100000, 20 << 20} {
		b, err := r.dev.Alloc(size)
		require.NoError(t, err)
		require.Equal(t, size, b.Bytes())
		require.False(t, b.IsZero())
		require.Zero(t, uintptr(b.addr)%64)
		for i, v := range b.bytes() {
			if v != 0 {
				t.Fatalf("byte %d of %d: got %d, want 0", i, size, v)
			}
		}
		r.dev.Free(b)
	}
	for _, size := range []int{-1, maxBytes, maxBytes + 1} {
		_, err := r.dev.Alloc(size)
		require.ErrorIs(t, err, ErrNoMemory)
	}
	host := []byte{1, 2, 3}
	b, err := r.dev.Upload(host)
	require.NoError(t, err)
	require.Equal(t, unsafe.Pointer(&host[0]), b.addr)
	r.dev.Free(b) // not the device's: nothing happens
	r.dev.Free(Buffer{})
	require.Equal(t, []byte{2, 3}, b.Slice(1, 2).bytes())
	require.Panics(t, func() { b.Slice(2, 2) })
	require.Panics(t, func() { b.Slice(-1, 1) })
}

func TestDo(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 2)
		wrong := errors.New("wrong")
		require.Equal(t, wrong, r.dev.Do(context.Background(), func(Ops) error { return wrong }))
		require.PanicsWithValue(t, "help", func() {
			_ = r.dev.Do(context.Background(), func(Ops) error { panic("help") })
		})
		ended := make(chan bool, 2)
		go func() { // a failed requirement within Do ends the caller, as it would outside
			defer func() { ended <- recover() == nil }()
			_ = r.dev.Do(context.Background(), func(Ops) error { runtime.Goexit(); return nil })
			ended <- false
		}()
		require.True(t, <-ended)
		r.do(func(Ops) error { return nil }) // the device has survived all that
	})
}

func TestDoQueued(t *testing.T) {
	r := newRig(t, "go", 1)
	cancelled, cancel := context.WithCancelCause(context.Background())
	why := errors.New("why")
	entered, leave, done := make(chan bool), make(chan bool), make(chan error)
	go func() { // running calls do not look at their context
		done <- r.dev.Do(cancelled, func(Ops) error {
			close(entered)
			<-leave
			return nil
		})
	}()
	<-entered
	go func() { done <- r.dev.Do(cancelled, func(Ops) error { panic("not reached") }) }()
	cancel(why)
	require.Equal(t, why, <-done, "the queued call")
	close(leave)
	require.NoError(t, <-done, "the running call")
	require.Equal(t, why, r.dev.Do(cancelled, func(Ops) error { panic("not reached") }))
}

func TestDoAfterFailure(t *testing.T) {
	r := newRig(t, "go", 1)
	first := fmt.Errorf("stream lost: %w", ErrDevice)
	require.Equal(t, first, r.dev.Do(context.Background(), func(Ops) error { return first }))
	for range 2 {
		require.Equal(t, first, r.dev.Do(context.Background(), func(Ops) error { panic("not reached") }))
	}
}

func TestClose(t *testing.T) {
	defer goleak.VerifyNone(t)
	d, err := Open(Options{Device: "cpu", Threads: 4})
	require.NoError(t, err)
	_, err = d.Alloc(100)
	require.NoError(t, err)
	require.NoError(t, d.Close())
	require.NoError(t, d.Close())
	require.ErrorIs(t, d.Do(context.Background(), func(Ops) error { panic("not reached") }), ErrClosed)
}

// TestDoHammer has many goroutines use a device while it is closed. It is made for the race detector.
func TestDoHammer(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		defer goleak.VerifyNone(t)
		d, err := Open(Options{Device: "cpu", KernelSet: set, Threads: 4})
		require.NoError(t, err)
		r := &rig{tb: t, dev: d, rng: newRand(t)}
		const cols = 64
		w := r.weight(cols, true, 300)
		x, out := r.floats(30*cols), r.alloc(4*30*300)
		var inside, calls atomic.Int32
		var users sync.WaitGroup
		for range 8 {
			users.Go(func() {
				for i := range 50 {
					ctx, cancel := context.WithCancel(context.Background())
					if i%3 == 0 {
						go cancel()
					}
					err := d.Do(ctx, func(o Ops) error {
						if inside.Add(1) != 1 {
							panic("two at a time")
						}
						defer inside.Add(-1)
						if calls.Add(1) == 300 {
							go d.Close()
						}
						return o.ProjAdd(&ProjAddParams{X: x, W: w, Out: out, Rows: 30})
					})
					cancel()
					if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
				}
			})
		}
		users.Wait()
		require.NoError(t, d.Close())
		require.Positive(t, calls.Load())
	})
}
