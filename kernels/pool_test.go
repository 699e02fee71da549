package kernels

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// TestPool runs many rounds and counts how often each unit is computed. Pauses send the workers to sleep now and then.
func TestPool(t *testing.T) {
	for threads := 1; threads <= 5; threads++ {
		p := newPool(threads)
		var counts [200]atomic.Int32
		k := func(args unsafe.Pointer) {
			q := (*queue)(args)
			for lo, hi := q.claim(); lo < hi; lo, hi = q.claim() {
				for u := lo; u < hi; u++ {
					counts[u].Add(1)
				}
			}
		}
		q := new(queue)
		for round := range 500 {
			units, grain := rand.IntN(len(counts)+1), 1+rand.IntN(20)
			p.run(kernel{compute: k}, q, units, grain)
			for u := range counts {
				want := int32(0)
				if u < units {
					want = 1
				}
				if got := counts[u].Swap(0); got != want {
					t.Fatalf("unit %d of %d, grain %d, %d threads: got computed %d times, want %d", u, units, grain, threads, got, want)
				}
			}
			if round%100 == 0 {
				time.Sleep(2 * spinTime)
			}
		}
		p.close()
	}
}

// TestPoolPanics has every thread panic in turn: it comes out of run, and the pool goes on.
func TestPoolPanics(t *testing.T) {
	p := newPool(3)
	defer p.close()
	q := new(queue)
	for unit := range 60 {
		k := func(args unsafe.Pointer) {
			q := (*queue)(args)
			for lo, hi := q.claim(); lo < hi; lo, hi = q.claim() {
				if lo <= unit && unit < hi {
					panic(unit)
				}
			}
		}
		require.PanicsWithValue(t, unit, func() { p.run(kernel{compute: k}, q, 60, 1) })
	}
	var done atomic.Int32
	p.run(kernel{compute: func(args unsafe.Pointer) {
		q := (*queue)(args)
		for lo, hi := q.claim(); lo < hi; lo, hi = q.claim() {
			done.Add(int32(hi - lo))
		}
	}}, q, 60, 7)
	require.EqualValues(t, 60, done.Load())
}

// TestPoolMixes runs compiled kernels and others in turn, with pauses: workers go into C, come back for what is not
// compiled, and sleep, and every unit is computed all the same.
func TestPoolMixes(t *testing.T) {
	const units, cols = 64, 64
	for _, set := range kernelSets() {
		if set.panelBytes != 4 {
			continue // the panel's rows are apart in the others
		}
		for threads := 2; threads <= 4; threads++ {
			d, err := Open(Options{Device: "cpu", Threads: threads, KernelSet: set.name})
			require.NoError(t, err)
			require.NoError(t, d.Do(t.Context(), func(Ops) error {
				c := d.backend.(*cpu)
				a := &c.args.norm
				x, out := alloc(t, d, 4*units*cols), alloc(t, d, 4*units*cols)
				*a = normArgs{x: x.addr, out: out.addr, cols: cols, outStride: cols}
				var counts [units]atomic.Int32
				count := kernel{compute: func(args unsafe.Pointer) {
					q := (*queue)(args)
					for lo, hi := q.claim(); lo < hi; lo, hi = q.claim() {
						for u := lo; u < hi; u++ {
							counts[u].Add(1)
						}
					}
				}}
				for round := range 400 {
					for i := range x.float32s() {
						x.float32s()[i] = float32(round*units + i/cols)
					}
					c.pool.run(set.norm, &a.queue, units, 1)
					require.Equal(t, x.float32s(), out.float32s(), "set %s, %d threads, round %d", set.name, threads, round)
					if round%3 == 0 {
						c.pool.run(count, &a.queue, units, 1)
					}
					if round%100 == 0 {
						time.Sleep(2 * spinTime)
					}
				}
				for u := range counts {
					require.EqualValues(t, 134, counts[u].Load(), "set %s, %d threads, unit %d", set.name, threads, u)
				}
				return nil
			}))
			require.NoError(t, d.Close())
		}
	}
}

// alloc is memory of a device that the test closes.
func alloc(t *testing.T, d *Device, bytes int) Buffer {
	b, err := d.Alloc(bytes)
	require.NoError(t, err)
	return b
}
