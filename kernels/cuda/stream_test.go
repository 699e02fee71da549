//go:build linux && cgo && (amd64 || arm64)

package cuda

import (
	"bytes"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCopies(t *testing.T) {
	r := newRig(t)
	p := r.alloc(64)
	host, err := r.context.AllocHost(64)
	require.NoError(t, err)
	for i := range host {
		host[i] = byte(i)
	}
	require.NoError(t, r.stream.CopyIn(p, host))
	require.NoError(t, r.stream.Copy(p+32, p, 16))
	require.NoError(t, r.stream.Fill(p, 2, 0xee))
	require.NoError(t, r.stream.Fill32(p+4, 2, 0x01020304))
	want := bytes.Clone(host)
	copy(want[32:48], want)
	copy(want, []byte{0xee, 0xee, 2, 3, 4, 3, 2, 1, 4, 3, 2, 1})
	require.Equal(t, want, r.read(p, 64))
	require.Equal(t, []string{
		"copy in bytes=64 on stream 1", "copy bytes=16 on stream 1", "fill bytes=2 value=238", "fill words=2 value=16909060",
		"copy out bytes=64 on stream 1", "sync stream 1",
	}, r.lines())

	// Nothing is nothing, and need not have an address.
	require.NoError(t, errors.Join(r.stream.CopyIn(0, nil), r.stream.CopyOut(nil, 0), r.stream.Copy(0, 0, 0),
		r.stream.Fill(0, 0, 1), r.stream.Fill32(0, 0, 1), r.context.Free(0), r.context.FreeHost(nil)))
	require.Empty(t, r.lines())
	require.NoError(t, r.context.FreeHost(host))
}

func TestAllocSaysWhatIsFree(t *testing.T) {
	r := newRig(t)
	r.alloc(1 << 29)
	free, total, err := r.context.Memory()
	require.NoError(t, err)
	require.Equal(t, []int64{1 << 29, 1 << 30}, []int64{free, total})
	_, err = r.context.Alloc(1<<29 + 1)
	require.ErrorIs(t, err, ErrOutOfMemory)
	require.NotErrorIs(t, err, ErrLost)
	require.NotErrorIs(t, err, errors.ErrUnsupported)
	require.EqualError(t, err, "cuda: allocating 536870913 bytes on device 0, which has 536870912 free: CUDA_ERROR_OUT_OF_MEMORY: out of memory")
	_, err = r.context.CreatePages(1 << 30)
	require.ErrorIs(t, err, ErrOutOfMemory)
}

func TestRegisterHost(t *testing.T) {
	r := newRig(t)
	file, err := r.context.AllocHost(8192) // stands for a mapped file
	require.NoError(t, err)
	require.NoError(t, r.context.RegisterHost(file, true))
	require.NoError(t, r.context.UnregisterHost(file))
	require.NoError(t, r.context.RegisterHost(file[:4096], false))
	require.NoError(t, r.context.UnregisterHost(file[:4096]))
	require.Equal(t, []string{"register bytes=8192 flags=9", "register bytes=4096 flags=1"}, r.lines())
	require.ErrorContains(t, r.context.RegisterHost(nil, false), "pinning 0 bytes of host memory: CUDA_ERROR_INVALID_VALUE")
	require.NoError(t, r.context.FreeHost(file))
}

func TestEvents(t *testing.T) {
	r := newRig(t)
	start, end := r.event(EventOptions{Timing: true}), r.event(EventOptions{Timing: true, Blocking: true})
	plain := r.event(EventOptions{})
	other, err := r.context.OpenStream(StreamOptions{Name: "copy", Priority: -3})
	require.NoError(t, err)
	require.NoError(t, r.stream.Launch(r.function("none"), one, nil))
	require.NoError(t, r.stream.Record(start))
	require.NoError(t, other.Wait(start))
	require.NoError(t, other.Record(end))
	require.NoError(t, end.Sync())
	require.Equal(t, []string{
		"event 1 flags=0", "event 2 flags=1", "event 3 flags=2", "stream 2 flags=1 priority=-3",
		"launch none grid=1,1,1 block=32,1,1 shared=0 params=", "event 1 on stream 1", "stream 2 waits for event 1", "event 2 on stream 2",
		"sync event 2",
	}, r.lines())
	took, err := end.Since(start)
	require.NoError(t, err)
	require.Equal(t, 2*time.Millisecond, took)
	_, err = plain.Since(start)
	require.ErrorContains(t, err, "measuring the time between events: CUDA_ERROR_INVALID_HANDLE")

	r.busy = 1
	done, err := end.Done()
	require.NoError(t, err)
	require.False(t, done)
	done, err = end.Done()
	require.NoError(t, err)
	require.True(t, done)

	for range 2 {
		require.NoError(t, plain.Close(), "closing twice is fine")
		require.NoError(t, other.Close(), "closing twice is fine")
	}
	require.ErrorIs(t, r.stream.Wait(plain), ErrClosed)
	require.ErrorIs(t, r.stream.Record(plain), ErrClosed)
	require.ErrorIs(t, plain.Sync(), ErrClosed)
	_, err = plain.Done()
	require.ErrorIs(t, err, ErrClosed)
	require.EqualError(t, other.Sync(), `cuda: stream "copy": cuda: already closed`)
	require.ErrorIs(t, other.Launch(r.function("none"), one, nil), ErrClosed)
	_, err = other.EndCapture()
	require.ErrorIs(t, err, ErrClosed)
}

// TestEventsHammer has one goroutine queue work while another waits for it, as those do that free memory or copy it away.
func TestEventsHammer(t *testing.T) {
	r := newRig(t)
	none := r.function("none")
	r.quiet = 1
	spare, recorded, waited := make(chan *Event, 3), make(chan *Event, 3), make(chan error, 1)
	for range cap(spare) {
		spare <- r.event(EventOptions{})
	}
	go func() {
		runtime.LockOSThread()
		err := r.context.Use()
		for e := range recorded {
			_, queried := e.Done()
			err = errors.Join(err, queried, e.Sync())
			spare <- e
		}
		waited <- err
	}()
	for i := range 2000 {
		e := <-spare
		require.NoError(t, r.stream.Launch(none, one, nil))
		require.NoError(t, r.stream.Record(e))
		recorded <- e
		if i%64 == 0 {
			require.LessOrEqual(t, len(r.stream.Queued()), 1, "all have the same name")
		}
	}
	close(recorded)
	require.NoError(t, <-waited)
	require.Empty(t, r.stream.Queued(), "every launch was waited for")
	r.quiet = 0
}

func TestPages(t *testing.T) {
	r := newRig(t)
	c := r.context
	granule, err := c.Granularity()
	require.NoError(t, err)
	require.Equal(t, 2<<20, granule)
	span, err := c.Reserve(4 * granule)
	require.NoError(t, err)
	first, err := c.CreatePages(granule)
	require.NoError(t, err)
	second, err := c.CreatePages(granule)
	require.NoError(t, err)
	require.NoError(t, c.Map(span, granule, first))
	require.NoError(t, c.Map(span+Ptr(granule), granule, second))
	require.NoError(t, c.Allow(span, 2*granule), "both at once")
	require.NoError(t, r.stream.Fill(span+Ptr(granule)-4, 8, 7))
	require.Equal(t, []byte{7, 7, 7, 7, 7, 7, 7, 7}, r.read(span+Ptr(granule)-4, 8))
	require.Error(t, c.Map(span, granule, second), "where something is mapped")
	require.Error(t, c.Unreserve(span, 4*granule), "while something is mapped")

	// Pages keep what is in them on the way to another address.
	require.NoError(t, c.Unmap(span+Ptr(granule), granule))
	require.NoError(t, c.Map(span+Ptr(3*granule), granule, second))
	require.NoError(t, c.Allow(span+Ptr(3*granule), granule))
	require.Equal(t, []byte{7, 7, 7, 7, 0}, r.read(span+Ptr(3*granule), 5))

	require.NoError(t, c.ReleasePages(first))
	require.Equal(t, []byte{7}, r.read(span+Ptr(granule)-1, 1), "what is mapped lives on")
	require.NoError(t, errors.Join(c.Unmap(span, granule), c.Unmap(span+Ptr(3*granule), granule), c.ReleasePages(second)))
	require.NoError(t, c.Unreserve(span, 4*granule))
	_, err = c.Reserve(granule + 1)
	require.ErrorContains(t, err, "cuda: reserving 2097153 bytes of addresses: CUDA_ERROR_INVALID_VALUE")
}
