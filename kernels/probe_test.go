package kernels

import (
	"context"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// Whatever the machine, a loop that reads does not take a thousandth of what slow memory gives, nor a thousand times what
// fast memory gives. That it is the limit is for a benchmark to show.
func TestProbeIsPlausible(t *testing.T) {
	for _, set := range []probeSet{bestProbeSet(), goProbe} {
		t.Run(set.name, func(t *testing.T) {
			d, err := Open(Options{Device: "cpu", Threads: 2})
			require.NoError(t, err)
			defer d.Close()
			p, err := NewProbe(d, ProbeOptions{ReadBytes: 8<<20 + 5, LoopTime: time.Millisecond})
			require.NoError(t, err)
			defer p.Close()
			p.set = set
			r, err := p.Measure(t.Context())
			require.NoError(t, err)
			require.Equal(t, set.name, r.Set)
			require.Len(t, r.Read, 4)
			require.Len(t, r.FMA, 1)
			require.Equal(t, set.dot.compute != nil, len(r.BF16) == 1)
			for _, l := range append(append(r.Read, r.FMA...), r.BF16...) {
				require.NotEmpty(t, l.Loop)
				require.Greater(t, l.PerSecond, 1e6, l.Loop)
				require.Less(t, l.PerSecond, 1e15, l.Loop)
			}
			require.Equal(t, max(r.Read[0].PerSecond, r.Read[1].PerSecond, r.Read[2].PerSecond, r.Read[3].PerSecond), r.ReadBytesPerSec())
			require.Positive(t, r.FMAPerSec())
		})
	}
}

// Every loop takes all of its units once: what the readers make of them says so.
func TestProbeReadsEverything(t *testing.T) {
	const units, unitBytes = 6, 2048
	d, err := Open(Options{Device: "cpu", Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	data, err := d.Alloc(units * unitBytes)
	require.NoError(t, err)
	memory, err := d.Alloc(sizeOf[probeArgs]())
	require.NoError(t, err)
	words := unsafe.Slice((*uint64)(data.addr), data.size/8)
	for i := range words {
		words[i] = hashOf(uint64(i))
	}
	for _, set := range []probeSet{bestProbeSet(), goProbe} {
		for name, loop := range map[string]kernel{"read": set.read, "read4": set.read4} {
			a := (*probeArgs)(memory.addr)
			*a = probeArgs{queue: queue{units: units, grain: 1}, data: data.addr, unitBytes: unitBytes}
			loop.compute(unsafe.Pointer(a))
			require.Equal(t, xor(words), uint64(a.sink), "%s of %s", name, set.name)
		}
	}
}

// hashOf makes words of which no run has the same sum as another.
func hashOf(i uint64) uint64 {
	i = (i + 1) * 0x9e3779b97f4a7c15
	return (i ^ i>>29) * 0xbf58476d1ce4e5b9
}

func TestProbeRefuses(t *testing.T) {
	d, err := Open(Options{Device: "cpu", Threads: 1})
	require.NoError(t, err)
	_, err = NewProbe(d, ProbeOptions{ReadBytes: 1})
	require.ErrorContains(t, err, "at least 262144 bytes are read")
	p, err := NewProbe(d, ProbeOptions{ReadBytes: 1 << 20, LoopTime: 1})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = p.Measure(ctx)
	require.ErrorIs(t, err, context.Canceled)
	p.Close()
	require.NoError(t, d.Close())
}
