package sysinfo

import (
	"sync"
	"sync/atomic"
	"time"
)

// ReadBandwidth measures how many bytes a second so many goroutines read from memory that no cache holds: the best of
// several rounds over a buffer of the given size, in about a third of a second. It is a plain loop, so a lower bound.
func ReadBandwidth(bytes, goroutines int) float64 {
	words := make([]uint64, bytes/8)
	for i := range words {
		words[i] = uint64(i) // pages that were never written may be one page of zeros
	}
	best := 0.0
	var sink atomic.Uint64
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		start := time.Now()
		var readers sync.WaitGroup
		for g := range goroutines {
			part := words[g*len(words)/goroutines : (g+1)*len(words)/goroutines]
			readers.Go(func() { sink.Add(sum(part)) })
		}
		readers.Wait()
		best = max(best, float64(len(words)*8)/time.Since(start).Seconds())
	}
	return best
}

// sum adds words up in eight chains, so that the processor waits for memory and not for additions.
func sum(words []uint64) uint64 {
	var s [8]uint64
	for ; len(words) >= 8; words = words[8:] {
		w := words[:8:8]
		s[0] += w[0]
		s[1] += w[1]
		s[2] += w[2]
		s[3] += w[3]
		s[4] += w[4]
		s[5] += w[5]
		s[6] += w[6]
		s[7] += w[7]
	}
	for _, w := range words {
		s[0] += w
	}
	return s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7]
}
