//go:build linux && cgo && (amd64 || arm64)

package cuda

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTrail(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*trail)
		want []string
	}{
		{"nothing", func(*trail) {}, nil},
		{"some", func(tr *trail) { tr.add("a"); tr.add("b") }, []string{"a", "b"}},
		{"runs", func(tr *trail) {
			for _, name := range []string{"a", "b", "b", "b", "a", "a"} {
				tr.add(name)
			}
		}, []string{"a", "b ×3", "a ×2"}},
		{"all done", func(tr *trail) { tr.reached(tr.add("a")) }, nil},
		{"some done", func(tr *trail) {
			mark := tr.add("a")
			tr.add("b")
			tr.reached(mark)
		}, []string{"b"}},
		{"an earlier mark changes nothing", func(tr *trail) {
			early := tr.add("a")
			tr.reached(tr.add("b"))
			tr.reached(early)
			tr.add("c")
		}, []string{"c"}},
		{"as many as it keeps", func(tr *trail) {
			for range trailNames {
				tr.add("a")
			}
		}, []string{"a ×64"}},
		{"more than it keeps", func(tr *trail) {
			tr.reached(tr.add("done"))
			for i := range 100 {
				tr.add(fmt.Sprint(i / 50))
			}
		}, []string{"36 earlier", "0 ×14", "1 ×50"}},
		{"functions", func(tr *trail) {
			a, b := &Function{name: "a"}, &Function{name: "b"}
			tr.addFunctions([]*Function{a, a, b})
		}, []string{"a ×2", "b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tr trail
			c.do(&tr)
			require.Equal(t, c.want, tr.list())
		})
	}
}

// TestErrorNamesWhatWasQueued follows a kernel that touches memory that is not there to the call that says so.
func TestErrorNamesWhatWasQueued(t *testing.T) {
	const text = "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"
	for _, c := range []struct {
		name string
		wait func(*Stream, *Event, Ptr) error
		want string
	}{
		{"stream", func(s *Stream, _ *Event, _ Ptr) error { return s.Sync() },
			`cuda: waiting for stream "main": ` + text + ` (queued since the last wait: none ×2, add, none)`},
		{"event", func(_ *Stream, e *Event, _ Ptr) error { return e.Sync() },
			`cuda: waiting for an event on stream "main": ` + text + ` (queued since the last wait: none ×2, add, none)`},
		{"query", func(_ *Stream, e *Event, _ Ptr) error { _, err := e.Done(); return err },
			`cuda: waiting for an event on stream "main": ` + text + ` (queued since the last wait: none ×2, add, none)`},
		{"copy", func(s *Stream, _ *Event, p Ptr) error { return s.CopyOut(make([]byte, 8), p) },
			`cuda: copying 8 bytes from the device: ` + text + ` (queued since the last wait: none ×2, add, none, copy out)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			p, event, waited, none, add := r.alloc(64), r.event(EventOptions{}), r.event(EventOptions{}), r.function("none"), r.function("add")
			require.NoError(t, r.stream.Fill(p, 64, 0))
			require.NoError(t, r.stream.Sync())
			require.NoError(t, r.stream.Launch(add, one, make([]byte, 8)))
			require.NoError(t, r.stream.Record(waited))
			require.NoError(t, r.stream.Launch(none, one, nil))
			require.NoError(t, r.stream.Launch(none, one, nil))
			require.NoError(t, waited.Sync(), "what was recorded is done; what came after it may not be")

			r.faulting("add", codeIllegalAddress)
			require.NoError(t, r.stream.Launch(add, one, make([]byte, 8)))
			require.NoError(t, r.stream.Launch(none, one, nil))
			require.NoError(t, r.stream.Record(event), "nobody knows yet")
			err := c.wait(r.stream, event, p)
			require.EqualError(t, err, c.want)
			require.ErrorIs(t, err, ErrLost)
			require.NotErrorIs(t, err, ErrOutOfMemory)

			_, err = r.context.Alloc(64)
			require.ErrorIs(t, err, ErrLost, "and so is everything after it")
			require.ErrorIs(t, r.stream.Launch(none, one, nil), nil)
			require.ErrorContains(t, r.stream.Flush(), `launching "none": CUDA_ERROR_ILLEGAL_ADDRESS`)
		})
	}
}
