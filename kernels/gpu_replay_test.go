//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/cuda"
)

// graphLines are what the stub says of captures and graphs.
func (s *stub) graphLines() []string {
	return slices.DeleteFunc(s.lines(), func(line string) bool {
		return !strings.HasPrefix(line, "capture") && !strings.HasPrefix(line, "graph exec") && !strings.HasPrefix(line, "exec")
	})
}

// TestGPUReplays: operations run one by one, are captured in the same Do, and then run as a graph, until memory is freed.
func TestGPUReplays(t *testing.T) {
	s, d := openStub(t)
	f := newRig(t, "go", 1).gpuFixture(20)
	calls := 0
	record := func(o Ops) error {
		calls++
		return errors.Join(o.NormQKV(&f.NormQKV), o.Attend(&f.Attend), o.MoE(&f.MoE))
	}
	r := &Recording{Name: "step"}
	replay := func(o Ops) error { return o.(Replayer).Replay(r, record) }
	once := func(want ...string) {
		t.Helper()
		s.lines()
		require.NoError(t, d.Do(context.Background(), replay))
		require.Equal(t, want, s.graphLines())
		require.NoError(t, r.Err())
	}
	once("capture on stream 1 mode=1", "exec 1 of graph 1")
	require.Equal(t, 2, calls, "once to run, once to capture")
	require.NoError(t, d.Do(context.Background(), func(o Ops) error { return o.Attend(&f.Attend) }))
	require.Equal(t, cuda.AttendPlan.String(), s.launchesSince(t)[0].kernel, "what was captured has not run")
	launches := s.launches
	once("graph exec 1")
	once("graph exec 1")
	require.Equal(t, 2, calls)
	require.EqualValues(t, 2*(2+4+8), s.launches-launches)
	require.NoError(t, d.Do(context.Background(), func(o Ops) error { return o.Attend(&f.Attend) }))
	require.Equal(t, cuda.AttendPlan.String(), s.launchesSince(t)[0].kernel, "the graph's plan may be another one")

	extra, err := d.Alloc(10)
	require.NoError(t, err)
	d.Free(extra)
	once("capture on stream 1 mode=1", "exec 2 of graph 2")
	require.Equal(t, 4, calls)
	once("graph exec 2")
	live := s.live
	require.NoError(t, d.Do(context.Background(), func(o Ops) error { return nil }))
	require.Equal(t, live, s.live)

	// Twice in one Do, it is captured once.
	two := &Recording{Name: "two"}
	require.NoError(t, d.Do(context.Background(), func(o Ops) error {
		return errors.Join(o.(Replayer).Replay(two, record), o.(Replayer).Replay(two, record))
	}))
	require.Equal(t, []string{"capture on stream 1 mode=1", "exec 3 of graph 3"}, s.graphLines())
}

// TestGPUReplayFails: where no graph can be made, everything goes on one by one, and the recording says why.
func TestGPUReplayFails(t *testing.T) {
	for _, call := range []string{"cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags", "cuGraphUpload", "a write"} {
		t.Run(call, func(t *testing.T) {
			s, d := openStub(t)
			f := newRig(t, "go", 1).gpuFixture(3)
			calls := 0
			record := func(o Ops) error {
				calls++
				if call == "a write" {
					_ = o.Write(f.Embed.Out.Slice(0, 4), make([]byte, 4))
					if o.(*gpu).graphs.capturing {
						return o.Read(make([]byte, 4), f.Embed.Out.Slice(0, 4))
					}
				}
				return o.NormQKV(&f.NormQKV)
			}
			r := &Recording{}
			replay := func(o Ops) error { return o.(Replayer).Replay(r, record) }
			s.failing(call, 801, 0)
			for range mostTries + 2 {
				launches := s.launches
				require.NoError(t, d.Do(context.Background(), replay))
				require.EqualValues(t, 1, s.launches-launches)
				require.Error(t, r.Err())
				s.failSkip = 0
			}
			require.LessOrEqual(t, calls, 2*mostTries+2, "it is not tried for ever")
			s.failing("", 0, 0)
			require.NoError(t, d.Do(context.Background(), func(o Ops) error { return o.NormQKV(&f.NormQKV) }))
		})
	}
}

// TestGPUFetch: a copy to the host is waited for from elsewhere, and its memory is used again.
func TestGPUFetch(t *testing.T) {
	s, d := openStub(t)
	var all []Buffer
	for i := range 3 {
		b, err := d.Alloc(40)
		require.NoError(t, err)
		require.NoError(t, d.Do(context.Background(), func(o Ops) error { return o.Write(b, slices.Repeat([]byte{byte(i + 1)}, 40)) }))
		all = append(all, b)
	}
	for range 4 {
		var pending []Pending
		var got [3][40]byte
		require.NoError(t, d.Do(context.Background(), func(o Ops) error {
			require.ErrorContains(t, func() error { _, err := o.(Fetcher).Fetch(make([]byte, 3), all[0]); return err }(), "Fetch: dst has 3 bytes, src 40")
			for i, b := range all {
				p, err := o.(Fetcher).Fetch(got[i][:], b)
				require.NoError(t, err)
				pending = append(pending, p)
			}
			return nil
		}))
		for i, p := range pending {
			require.NoError(t, p.Wait())
			require.Equal(t, slices.Repeat([]byte{byte(i + 1)}, 40), got[i][:])
		}
	}
	pinned := s.live[7]
	require.EqualValues(t, 2+3, pinned, "the ring, what Read has, and one for each copy at a time")

	var p Pending
	require.NoError(t, d.Do(context.Background(), func(o Ops) (err error) {
		p, err = o.(Fetcher).Fetch(make([]byte, 40), all[0])
		return err
	}))
	s.failing("cuEventSynchronize", 700, 0)
	require.ErrorIs(t, p.Wait(), ErrDevice)
	s.failing("", 0, 0)
}

// TestGPULaunchVariable turns off what it names.
func TestGPULaunchVariable(t *testing.T) {
	for value, want := range map[string][2]bool{"": {true, true}, "eager": {false, true}, "serial": {true, false}, "eager,serial": {false, false}} {
		t.Run(value, func(t *testing.T) {
			t.Setenv(launchVariable, value)
			s, d := openStub(t)
			f := newRig(t, "go", 1).gpuFixture(3)
			r := &Recording{}
			require.NoError(t, d.Do(context.Background(), func(o Ops) error {
				return o.(Replayer).Replay(r, func(o Ops) error { return o.Embed(&f.Embed) })
			}))
			require.Equal(t, want, [2]bool{r.kept != nil, s.launchesSince(t)[0].early})
		})
	}
}
