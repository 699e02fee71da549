package kernels

import (
	"math"
	"unsafe"

	"github.com/quire-llm/quire/kernels/ref"
)

// chunk is the row of unit u, and where the unit's logits begin and end.
func (a *filterArgs) chunk(u int) (row *filterRow, first, end int64) {
	first = int64(u) % a.chunks * a.chunkLen
	return a.row(u / int(a.chunks)), first, min(first+a.chunkLen, a.vocab)
}

// row is row i of those that are filtered together.
func (a *filterArgs) row(i int) *filterRow {
	return (*filterRow)(unsafe.Add(a.rows, i*int(a.rowBytes)))
}

func goPeaks(args unsafe.Pointer) {
	a := (*filterArgs)(args)
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		for u := lo; u < hi; u++ {
			row, first, end := a.chunk(u)
			if row.peaks == nil {
				continue
			}
			for at := first; at < end; at += filterBlock {
				peak := float32(math.Inf(-1))
				for _, l := range floats(row.logits, at, min(filterBlock, end-at)) {
					if l > peak {
						peak = l
					}
				}
				floats(row.peaks, at/filterBlock, 1)[0] = peak
			}
		}
	}
}

func goWeigh(args unsafe.Pointer) {
	a := (*filterArgs)(args)
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		for u := lo; u < hi; u++ {
			row, first, end := a.chunk(u)
			if row.sums == nil {
				continue
			}
			moment := 0.0
			for at := first; at < end; at += filterBlock {
				sum := uint64(0)
				for _, l := range floats(row.logits, at, min(filterBlock, end-at)) {
					if l < row.mark {
						continue
					}
					x := row.exponent(l)
					w := ref.Weight(x)
					sum += w
					moment += float64(w) * x
				}
				*(*uint64)(unsafe.Add(row.sums, at/filterBlock*8)) = sum
			}
			if row.moments != nil {
				*(*float64)(unsafe.Add(row.moments, int64(u)%a.chunks*8)) = moment
			}
		}
	}
}

func goGather(args unsafe.Pointer) {
	a := (*filterArgs)(args)
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		for u := lo; u < hi; u++ {
			row, first, end := a.chunk(u)
			if row.room == nil {
				continue
			}
			room, n := unsafe.Slice((*candidate)(row.room), a.vocab)[first:end], 0
			for i, l := range floats(row.logits, first, end-first) {
				if l >= row.mark {
					room[n] = candidate{float64(l), ref.Weight(row.exponent(l)), int32(first) + int32(i)}
					n++
				}
			}
			*(*int64)(unsafe.Add(row.counts, int64(u)%a.chunks*8)) = int64(n)
		}
	}
}
