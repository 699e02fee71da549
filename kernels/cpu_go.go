package kernels

import (
	"math"
	"unsafe"

	"github.com/quire-llm/quire/kernels/ref"
)

// goSet runs package ref. A panel's elements are in plain order.
var goSet = kernelSet{
	name:       "go",
	panelBytes: 4,

	norm:   kernel{compute: goNorm},
	gate:   kernel{compute: goGate},
	matmul: kernel{compute: goMatmul},
	rotate: kernel{compute: goRotate},
	attend: kernel{compute: goAttend},
	maxima: kernel{compute: goMaxima},
	sums:   kernel{compute: goSums},
	peaks:  kernel{compute: goPeaks},
	weigh:  kernel{compute: goWeigh},
	gather: kernel{compute: goGather},

	int8Norm:   kernel{compute: goInt8Norm},
	int8Gate:   kernel{compute: goInt8Gate},
	int8Matmul: kernel{compute: goInt8Matmul},
}

// floats is n float32 from element at on.
func floats(p unsafe.Pointer, at, n int64) []float32 {
	return unsafe.Slice((*float32)(unsafe.Add(p, 4*at)), n)
}

// bf16s is the bytes of n bfloat16 from element at on; nil for nil.
func bf16s(p unsafe.Pointer, at, n int64) []byte {
	if p == nil {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Add(p, 2*at)), 2*n)
}

// int32At is element at of a run of int32.
func int32At(p unsafe.Pointer, at int) int64 {
	return int64(*(*int32)(unsafe.Add(p, 4*at)))
}

func goNorm(args unsafe.Pointer) {
	a := (*normArgs)(args)
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		for u := lo; u < hi; u++ {
			row := int64(u)
			if a.index != nil {
				row = int32At(a.index, u)
			}
			x, out := floats(a.x, row*a.cols, a.cols), floats(a.out, int64(u)*a.outStride, a.cols)
			if a.norm == nil {
				copy(out, x)
			} else {
				ref.RMSNorm(out, x, bf16s(a.norm, 0, a.cols), a.eps)
			}
		}
	}
}

func goGate(args unsafe.Pointer) {
	a := (*gateArgs)(args)
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		for u := int64(lo); u < int64(hi); u++ {
			gate, up := floats(a.in, 2*u*a.cols, a.cols), floats(a.in, (2*u+1)*a.cols, a.cols)
			ref.SiluMul(floats(a.out, u*a.outStride, a.cols), gate, up)
		}
	}
}

func goMatmul(args unsafe.Pointer) {
	a := (*matmulArgs)(args)
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		for u := int64(lo); u < int64(hi); u++ {
			chunk, first := u/a.blocks*a.chunkRows, u%a.blocks*a.blockRows
			for r := chunk; r < min(chunk+a.chunkRows, a.rows); r++ {
				goBlock(a, r, first, min(first+a.blockRows, a.yCols))
			}
		}
	}
}

// goBlock computes the columns [first, end) of row r of y.
func goBlock(a *matmulArgs, r, first, end int64) {
	x := floats(a.x, r*a.xStride, a.cols)
	start := int64(0) // column of y where the part begins
	for _, part := range unsafe.Slice((*matmulPart)(a.parts), a.partCount) {
		lo, hi := max(first-start, 0), min(end-start, part.rows)
		if lo < hi {
			y := floats(a.y, r*a.yCols+start+lo, hi-lo)
			ref.MatVec(y, bf16s(part.data, lo*a.cols, (hi-lo)*a.cols), x, bf16s(part.bias, lo, hi-lo), a.add != 0)
		}
		start += part.rows
	}
}

// cache is the layout as package ref knows it.
func (kv *kvArgs) cache() ref.Cache {
	return ref.Cache{
		Base:        unsafe.Slice((*byte)(kv.base), kv.bytes),
		BlockStride: int(kv.blockStride),
		VOffset:     int(kv.vOffset),
		TokenStride: int(kv.tokenStride),
		HeadStride:  int(kv.headStride),
		BlockTokens: int(kv.blockTokens),
		Type:        ref.CacheType(kv.kind),
	}
}

func goRotate(args unsafe.Pointer) {
	a := (*rotateArgs)(args)
	cache := a.kv.cache()
	d := a.headDim
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		for u := lo; u < hi; u++ {
			row := floats(a.qkv, int64(u)*(a.heads+2*a.kvHeads)*d, (a.heads+2*a.kvHeads)*d)
			rope := floats(a.rope, int32At(a.positions, u)*d, d)
			for h := range a.heads {
				ref.Head(row[h*d:][:d], bf16s(a.qNorm, 0, d), a.eps, rope)
			}
			keys, values := row[a.heads*d:], row[(a.heads+a.kvHeads)*d:]
			for h := range a.kvHeads {
				key := keys[h*d:][:d]
				ref.Head(key, bf16s(a.kNorm, 0, d), a.eps, rope)
				cache.Store(key, values[h*d:][:d], int(int32At(a.slots, u)), int(h))
			}
		}
	}
}

func goAttend(args unsafe.Pointer) {
	a := (*attendArgs)(args)
	cache := a.kv.cache()
	group := a.heads / a.kvHeads
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		for u := int64(lo); u < int64(hi); u++ {
			tile := (*attendTile)(unsafe.Add(a.tiles, int(u/a.kvHeads)*sizeOf[attendTile]()))
			first := u % a.kvHeads * group
			for r := int64(tile.row); r < int64(tile.row+tile.rows); r++ {
				for h := first; h < first+group; h++ {
					goAttendHead(a, &cache, tile, r, h)
				}
			}
		}
	}
}

// goAttendHead computes query head h of row r.
func goAttendHead(a *attendArgs, cache *ref.Cache, tile *attendTile, r, h int64) {
	q := floats(a.q, r*a.qStride+h*a.headDim, a.headDim)
	out := floats(a.out, (r*a.heads+h)*a.headDim, a.headDim)
	segments := unsafe.Slice((*ref.Segment)(a.segments), tile.segment+tile.segments)[tile.segment:]
	kvHead := int(h * a.kvHeads / a.heads)
	ref.Attend(out, q, cache, kvHead, int(int32At(a.positions, int(r))), segments,
		unsafe.Slice((*int32)(a.blocks), a.blockCount), floats(a.rope, 0, a.ropeLen), a.scale)
}

// chunk is the logits of unit u.
func (a *sampleArgs) chunk(u int) []float32 {
	row, first := int64(u)/a.chunks, int64(u)%a.chunks*a.chunkLen
	return floats(a.logits, row*a.vocab+first, min(a.chunkLen, a.vocab-first))
}

func goMaxima(args unsafe.Pointer) {
	a := (*sampleArgs)(args)
	maxima := unsafe.Slice((*chunkMax)(a.maxima), a.units)
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		for u := lo; u < hi; u++ {
			logits := a.chunk(u)
			m := chunkMax{value: logits[0], finite: 1}
			for _, l := range logits {
				if l-l != 0 { // NaN or infinite
					m.finite = 0
				}
				m.value = max(m.value, l)
			}
			maxima[u] = m
		}
	}
}

func goSums(args unsafe.Pointer) {
	a := (*sampleArgs)(args)
	rows := a.units / a.chunks
	params, rowMax := unsafe.Slice((*SampleRow)(a.params), rows), floats(a.rowMax, 0, rows)
	sums := unsafe.Slice((*chunkSum)(a.sums), a.units)
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		for u := lo; u < hi; u++ {
			row := int64(u) / a.chunks
			top, temperature := float64(rowMax[row]), float64(params[row].Temperature)
			var s chunkSum
			for _, l := range a.chunk(u) {
				s.plain += math.Exp(float64(l) - top)
				if temperature > 0 {
					s.tempered += math.Exp((float64(l) - top) / temperature)
				}
			}
			sums[u] = s
		}
	}
}
