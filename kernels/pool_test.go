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
			p.run(k, q, units, grain)
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
		require.PanicsWithValue(t, unit, func() { p.run(k, q, 60, 1) })
	}
	var done atomic.Int32
	p.run(func(args unsafe.Pointer) {
		q := (*queue)(args)
		for lo, hi := q.claim(); lo < hi; lo, hi = q.claim() {
			done.Add(int32(hi - lo))
		}
	}, q, 60, 7)
	require.EqualValues(t, 60, done.Load())
}
