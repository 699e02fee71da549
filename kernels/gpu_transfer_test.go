//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGPUTransfer: a copy is one call, on a stream of its direction; it waits for what was queued before it, and nothing waits for
// it but who asks.
func TestGPUTransfer(t *testing.T) {
	s, d := openStub(t)
	const size = 3 << 20
	b, err := d.Alloc(size)
	require.NoError(t, err)
	host, err := d.AllocHost(size)
	require.NoError(t, err)
	for i := range host {
		host[i] = byte(i * 7)
	}
	want := bytes.Clone(host)
	f := newRig(t, "go", 1).gpuFixture(3)
	var pending Pending
	transfer := func(fn func(o Transferer) (Pending, error)) []string {
		t.Helper()
		s.lines()
		require.NoError(t, d.Do(context.Background(), func(o Ops) (err error) {
			if err := o.Embed(&f.Embed); err != nil {
				return err
			}
			pending, err = fn(o.(Transferer))
			return errors.Join(err, o.Embed(&f.Embed))
		}))
		require.NoError(t, pending.Wait())
		var lines []string
		for _, line := range s.lines() {
			if strings.HasPrefix(line, "launch ") {
				line = "a step"
			}
			lines = append(lines, line)
		}
		return lines
	}
	in := func(o Transferer) (Pending, error) { return o.TransferIn(b, host) }
	out := func(o Transferer) (Pending, error) { return o.TransferOut(host, b) }

	require.Equal(t, []string{
		"stream 3 flags=1 priority=0", "stream 4 flags=1 priority=0", "event 9 flags=2", "event 10 flags=3", // for the first time
		"a step", "event 9 on stream 1",
		"stream 4 waits for event 9", "copy in bytes=3145728 on stream 4", "event 10 on stream 4",
		"a step", "sync event 10",
	}, transfer(in))
	require.Equal(t, want, b.bytes())
	clear(host)
	require.Equal(t, []string{
		"a step", "event 9 on stream 1",
		"stream 3 waits for event 9", "copy out bytes=3145728 on stream 3", "event 10 on stream 3",
		"a step", "sync event 10",
	}, transfer(out))
	require.Equal(t, want, host)

	require.NoError(t, d.Do(context.Background(), func(o Ops) error {
		_, err := o.(Transferer).TransferOut(host[1:], b)
		require.ErrorContains(t, err, "TransferOut: dst has 3145727 bytes, src 3145728")
		_, err = o.(Transferer).TransferIn(b, host[1:])
		require.ErrorContains(t, err, "TransferIn: dst has 3145728 bytes, src 3145727")
		return nil
	}))
	d.FreeHost(host)
	d.FreeHost(nil)
	d.FreeHost(make([]byte, 3)) // not the device's
	_, err = d.AllocHost(0)
	require.ErrorIs(t, err, ErrNoMemory)
	s.failing("cuMemHostAlloc", 2, 0)
	_, err = d.AllocHost(size)
	require.ErrorIs(t, err, ErrNoMemory)
	require.ErrorContains(t, err, "page-locking 3145728 bytes")
	s.failing("", 0, 0)
	_, err = d.AllocHost(size) // left to Close
	require.NoError(t, err)
}

// TestGPUTransferFails: a copy that could not be queued is waited for, and the next one works; a lost device says so.
func TestGPUTransferFails(t *testing.T) {
	s, d := openStub(t)
	b, err := d.Alloc(64)
	require.NoError(t, err)
	host, err := d.AllocHost(64)
	require.NoError(t, err)
	transfer := func() (p Pending, err error) {
		err = d.Do(context.Background(), func(o Ops) (err error) {
			p, err = o.(Transferer).TransferIn(b, host)
			return err
		})
		return p, err
	}
	for _, c := range []struct {
		call string
		skip int32
		sync bool
	}{
		{"cuStreamCreateWithPriority", 1, false}, {"cuEventCreate", 0, false}, {"cuEventCreate", 1, false}, {"cuEventRecord", 0, false},
		{"cuStreamWaitEvent", 0, false}, {"cuMemcpyHtoDAsync_v2", 0, true}, {"cuEventRecord", 1, true},
	} {
		s.lines()
		s.failing(c.call, 1, c.skip)
		_, err := transfer()
		require.Error(t, err, "%+v", c)
		require.Equal(t, c.sync, slices.ContainsFunc(s.lines(), func(line string) bool { return strings.HasPrefix(line, "sync stream") }), "%+v", c)
		s.failing("", 0, 0)
	}
	p, err := transfer()
	require.NoError(t, err)
	require.NoError(t, p.Wait())
	p, err = transfer()
	require.NoError(t, err)
	s.failing("cuEventSynchronize", 700, 0)
	require.ErrorIs(t, p.Wait(), ErrDevice)
	s.failing("", 0, 0)
}

// TestCPUHostMemory is the Go heap's.
func TestCPUHostMemory(t *testing.T) {
	d, err := Open(Options{Device: "cpu", Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	host, err := d.AllocHost(10)
	require.NoError(t, err)
	require.Len(t, host, 10)
	d.FreeHost(host)
}
