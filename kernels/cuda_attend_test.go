//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/ref"
)

// gpuGeometries has every head size that is a multiple of 8 up to 256, many group sizes and each type of cache. The first
// ones are those of -short.
func gpuGeometries() []geometry {
	all := []geometry{
		{kvHeads: 8, group: 2, headDim: 128, blockTokens: 16},
		{kvHeads: 2, group: 4, headDim: 64, blockTokens: 16, kv: KVFP8},
		{kvHeads: 1, group: 3, headDim: 40, blockTokens: 32, kv: KVF32},
		{kvHeads: 2, group: 1, headDim: 200, blockTokens: 16},
		{kvHeads: 1, group: 12, headDim: 8, blockTokens: 64},
		{kvHeads: 3, group: 5, headDim: 128, blockTokens: 16, kv: KVFP8},
	}
	if testing.Short() {
		return all
	}
	for i := 1; i <= 32; i++ {
		for turn, kv := range []KVType{KVBF16, KVF32, KVFP8} {
			all = append(all, geometry{
				kvHeads:     1 + i%3,
				group:       1 + (i+turn*3)%8,
				headDim:     8 * i,
				blockTokens: 16 << ((i + turn) % 3),
				kv:          kv,
			})
		}
	}
	return append(all,
		geometry{kvHeads: 1, group: 70, headDim: 64, blockTokens: 16}, // more than a tile's queries
		geometry{kvHeads: 4, group: 8, headDim: 128, blockTokens: 16, kv: KVFP8},
		geometry{kvHeads: 4, group: 16, headDim: 128, blockTokens: 16},
	)
}

// float8 is the number of a float8 (e4m3) without a sign: 1.mmm · 2^(e-7), or 0.mmm · 2^-6.
func float8(b byte) float32 {
	exponent, mantissa := int(b>>3&15), float64(b&7)
	value := math.Ldexp(1+mantissa/8, exponent-7)
	if exponent == 0 {
		value = math.Ldexp(mantissa/8, -6)
	}
	if b&128 != 0 {
		value = -value
	}
	return float32(value)
}

// toFloat8 is the nearest float8 to a number of up to 448.
func toFloat8(x float32) byte {
	size := math.Abs(float64(x))
	exponent := max(math.Ilogb(size), -6)
	eighths := int(math.RoundToEven(math.Ldexp(size, 3-exponent)))
	code := eighths // below 2^-6 the exponent's bits are 0
	if eighths >= 8 {
		code = (exponent+7)<<3 + eighths - 8 // 16 eighths carry into the exponent
	}
	code = min(code, 0x7e)
	if math.Signbit(float64(x)) {
		code |= 128
	}
	return byte(code)
}

// encode is a head's numbers as a cache holds them, and writes the numbers back that it holds.
func encode(kv KVType, numbers []float32) []byte {
	b := make([]byte, kv.RowBytes(len(numbers)))
	switch kv {
	case KVBF16:
		for i, x := range numbers {
			ref.PutBF16(b, i, x)
			numbers[i] = ref.BF16(b, i)
		}
	case KVF32:
		for i, x := range numbers {
			ref.PutF32(b, i, x)
		}
	case KVFP8:
		largest := float32(0)
		for _, x := range numbers {
			largest = max(largest, x, -x)
		}
		scale := largest / 448
		ref.PutF32(b[len(numbers):], 0, scale)
		for i, x := range numbers {
			b[i] = toFloat8(x / scale)
			numbers[i] = float8(b[i]) * scale
		}
	}
	return b
}

// decode reads a head's numbers, and the scale where there is one.
func decode(kv KVType, headDim int, b []byte) (numbers []float32, scale float32) {
	numbers, scale = make([]float32, headDim), 1
	if kv == KVFP8 {
		scale = ref.F32(b[headDim:], 0)
	}
	for i := range numbers {
		switch kv {
		case KVBF16:
			numbers[i] = ref.BF16(b, i)
		case KVF32:
			numbers[i] = ref.F32(b, i)
		case KVFP8:
			numbers[i] = float8(b[i]) * scale
		}
	}
	return numbers, scale
}

// gpuLayout is a layout with gaps, as a GPU wants it: values lie apart, tokens and blocks are padded.
func gpuLayout(g geometry) KVLayout {
	pad := 16
	if g.kv == KVFP8 && g.kvHeads%2 == 1 {
		pad = 4
	}
	token := g.kvHeads * g.kv.HeadBytes(g.headDim)
	l := KVLayout{BlockTokens: g.blockTokens, Type: g.kv, VOffset: token + pad, TokenStride: 2*token + 3*pad}
	l.BlockStride = l.TokenStride*g.blockTokens + pad
	if scales := g.kvHeads * g.blockTokens * g.kv.ScaleBytes(); scales > 0 {
		l.ScaleOffset, l.VScaleOffset = l.BlockStride, scales+pad
		l.BlockStride += 2*scales + 2*pad
	}
	return l
}

// putHead writes what encode gives, or copies it within a layout's bytes, and getHead reads it for decode: a head's elements
// and its scale.
func putHead(l *KVLayout, g geometry, to, row []byte, slot, head int, value bool) {
	n := g.kv.HeadBytes(g.headDim)
	copy(to[headAt(l, g, slot, head, value):], row[:n])
	if len(row) > n {
		copy(to[scaleAt(l, slot, head, value):], row[n:])
	}
}

func getHead(l *KVLayout, g geometry, from []byte, slot, head int, value bool) []byte {
	row := slices.Clone(from[headAt(l, g, slot, head, value):][:g.kv.HeadBytes(g.headDim)])
	if size := g.kv.ScaleBytes(); size > 0 {
		row = append(row, from[scaleAt(l, slot, head, value):][:size]...)
	}
	return row
}

// scaleAt is where a key's scale lies, or its value's.
func scaleAt(l *KVLayout, slot, head int, value bool) int {
	at := slot/l.BlockTokens*l.BlockStride + l.ScaleOffset + 4*(head*l.BlockTokens+slot%l.BlockTokens)
	if value {
		at += l.VScaleOffset
	}
	return at
}

// headAt is where a head's key begins in a layout, or its value.
func headAt(l *KVLayout, g geometry, slot, head int, value bool) int {
	at := slot/l.BlockTokens*l.BlockStride + slot%l.BlockTokens*l.TokenStride + head*l.Type.HeadBytes(g.headDim)
	if value {
		at += l.VOffset
	}
	return at
}

// caches are the same random numbers in a cache of the CPU, which holds them as float32, and in one of the GPU, whose
// bytes are returned too.
func (w *twin) caches(g geometry, blocks int) (cpu, gpu KVLayout, bytes []byte) {
	exact := g
	exact.kv = KVF32
	cpu, gpu = gpuLayout(exact), gpuLayout(g)
	host := make([]byte, blocks*cpu.BlockStride)
	bytes = make([]byte, blocks*gpu.BlockStride)
	for slot := range blocks * g.blockTokens {
		for head := range g.kvHeads {
			for _, value := range []bool{false, true} {
				numbers := make([]float32, g.headDim)
				for i := range numbers {
					numbers[i] = float32(w.rng.NormFloat64())
				}
				putHead(&gpu, g, bytes, encode(g.kv, numbers), slot, head, value)
				copy(host[headAt(&cpu, g, slot, head, value):], AsBytes(numbers))
			}
		}
	}
	cpu.Base, gpu.Base = write(w.rig, host), w.put(bytes)
	return cpu, gpu, bytes
}

// TestFloat8: every number is its own nearest.
func TestFloat8(t *testing.T) {
	for code := range 256 {
		if code&127 == 127 || code == 128 {
			continue // NaN; minus zero
		}
		require.EqualValues(t, code, toFloat8(float8(byte(code))), "%v", float8(byte(code)))
	}
	require.EqualValues(t, 448, float8(0x7e))
	require.Equal(t, float32(0.001953125), float8(1))
	require.EqualValues(t, 0x38, toFloat8(1.06))
	require.EqualValues(t, 0x39, toFloat8(1.07))
}

func TestCUDAQKNormRopeWrite(t *testing.T) {
	all := realTwin(t)
	for i, g := range gpuGeometries() {
		rows := []int{19, 1, 70, 33}[i%4]
		t.Run(fmt.Sprintf("%v/rows=%d", g, rows), func(t *testing.T) {
			w := all.in(t)
			const positions = 100
			blocks := ceilDiv(rows, g.blockTokens) + 1
			heads := g.kvHeads * g.group
			width := (heads + 2*g.kvHeads) * g.headDim
			p := &QKNormRopeWriteParams{
				Eps: 1e-6, Rope: w.ropeTable(positions, g.headDim, 1.1), Heads: heads, KVHeads: g.kvHeads, HeadDim: g.headDim, Rows: rows,
			}
			c := *p
			var before []byte
			p.QKV, c.QKV = w.acts(rows * width)
			p.KV, c.KV, before = w.caches(g, blocks)
			if i%3 != 0 {
				p.QNorm, p.KNorm = w.bf16s(g.headDim), w.bf16s(g.headDim)
			}
			var places, slots []int32
			for _, slot := range w.rng.Perm(blocks * g.blockTokens)[:rows] {
				places, slots = append(places, int32(w.rng.IntN(positions))), append(slots, int32(slot))
			}
			p.Positions, p.Slots = w.ints(places...), w.ints(slots...)
			c.QNorm, c.KNorm, c.Rope, c.Positions, c.Slots = w.same(p.QNorm), w.same(p.KNorm), w.same(p.Rope), w.same(p.Positions), w.same(p.Slots)
			w.do(func(o Ops) error { return o.QKNormRopeWrite(p) })
			w.on(func(o Ops) error { return o.QKNormRopeWrite(&c) })

			queries, after := bf16Numbers(w.get(c.QKV)), w.get(c.KV.Base)
			for r, slot := range slots {
				requireNear(t, "rotate", queries[r*width:][:heads*g.headDim], p.QKV.float32s()[r*width:][:heads*g.headDim])
				for head := range g.kvHeads {
					for _, value := range []bool{false, true} {
						want, _ := decode(KVF32, g.headDim, p.KV.Base.bytes()[headAt(&p.KV, g, int(slot), head, value):])
						row := getHead(&c.KV, g, after, int(slot), head, value)
						got, scale := decode(g.kv, g.headDim, row)
						if g.kv == KVFP8 {
							requireFloat8(t, got, want, scale)
						} else {
							requireNear(t, "rotate", got, want)
						}
						putHead(&c.KV, g, before, row, int(slot), head, value)
					}
				}
			}
			require.Equal(t, before, after, "bytes that belong to no row")
		})
	}
}

// requireFloat8 demands that got is want, rounded to float8 with the head's scale.
func requireFloat8(t *testing.T, got, want []float32, scale float32) {
	t.Helper()
	largest := float32(0)
	for _, x := range want {
		largest = max(largest, x, -x)
	}
	require.InEpsilon(t, largest/448, scale, gpuTolerance["rotate"], "scale")
	for i, x := range want {
		bound := gpuTolerance["float8"]*math.Abs(float64(x)) + (gpuTolerance["subfloat"]+gpuTolerance["rotate"])*float64(largest)
		require.InDelta(t, x, got[i], bound, "element %d", i)
	}
}

// walk is a work item for attention: rows at the end of a walk over segments of so many tokens.
type walk struct {
	rows     int
	segments []int
	turned   bool // every second segment was stored for another position
	again    bool // the item goes on where the last one ends, over the same segments
}

// walks are steps: what attention has to do at once.
func (w *twin) walks() map[string][]walk {
	short := func(most int) []int {
		var segments []int
		for range 1 + w.rng.IntN(3) {
			segments = append(segments, w.rng.IntN(most))
		}
		return segments
	}
	var decodes, mixed []walk
	for range 9 {
		decodes = append(decodes, walk{rows: 1, segments: short(600)})
	}
	for _, rows := range []int{1, 1, 3, 0, 13, 70, 2, 1} {
		mixed = append(mixed, walk{rows: rows, segments: short(90), turned: true})
	}
	return map[string][]walk{
		"one row":    {{rows: 1, segments: []int{3000}}},
		"decoding":   decodes,
		"a prompt":   {{rows: 70, segments: []int{70}}},
		"mixed":      mixed,
		"a span cut": {{rows: 1, segments: []int{5}}, {rows: 20, segments: []int{130, 40}}, {rows: 50, again: true}, {rows: 1, again: true}},
		"few rows after much": {
			{rows: 30, segments: []int{700, 1, 500, 60}, turned: true}, {rows: 1, segments: []int{1}},
		},
	}
}

// attentions are the same step on both devices.
func (w *twin) attentions(g geometry, step []walk) (cpu, gpu *AttendParams) {
	const positions = 3100
	heads := g.kvHeads * g.group
	p := &AttendParams{
		Rope: w.ropeTable(positions, g.headDim, 1.25), Scale: float32(1 / math.Sqrt(float64(g.headDim))),
		Heads: heads, KVHeads: g.kvHeads, HeadDim: g.headDim, QStride: (heads+2*g.kvHeads)*g.headDim + w.rng.IntN(2)*3,
	}
	var items []WorkItem
	var segments []WorkSegment
	var ids, places []int32
	blocks := 1 + 400/g.blockTokens
	pos, last := 0, 0
	for i, k := range step {
		item := WorkItem{Row: int32(p.Rows), Rows: int32(k.rows), Segment: int32(len(segments)), Segments: int32(len(k.segments))}
		if k.again {
			item.Segment, item.Segments = items[i-1].Segment, items[i-1].Segments
			last += k.rows
		} else {
			more := 0 // rows that come later in the same span
			for _, next := range step[i+1:] {
				if !next.again {
					break
				}
				more += next.rows
			}
			pos = 0
			for j, n := range k.segments {
				if j == len(k.segments)-1 {
					n += k.rows + more // at least the rows' own tokens
				}
				s := WorkSegment{Block: int32(len(ids)), Off: int32(w.rng.IntN(g.blockTokens)), Len: int32(n), Pos: int32(pos), Stored: int32(pos)}
				if k.turned && j%2 == 1 {
					s.Stored = int32(w.rng.IntN(200))
				}
				pos += n
				for range ceilDiv(int(s.Off+s.Len), g.blockTokens) {
					ids = append(ids, int32(w.rng.IntN(blocks)))
				}
				segments = append(segments, s)
			}
			last = pos - more
		}
		for r := range k.rows {
			places = append(places, int32(last-k.rows+r))
		}
		items = append(items, item)
		p.Rows += k.rows
	}
	c := *p
	p.Q, c.Q = w.acts(p.Rows * p.QStride)
	p.Out, c.Out = w.acts(p.Rows * heads * g.headDim)
	p.KV, c.KV, _ = w.caches(g, blocks)
	p.Positions = w.ints(places...)
	p.Work = Work{
		Items: write(w.rig, items), Segments: write(w.rig, segments), Blocks: w.ints(ids...),
		ItemCount: len(items), SegmentCount: len(segments), BlockCount: len(ids),
	}
	c.Positions, c.Rope, c.Work = w.same(p.Positions), w.same(p.Rope), p.Work
	c.Work.Items, c.Work.Segments, c.Work.Blocks = w.same(p.Work.Items), w.same(p.Work.Segments), w.same(p.Work.Blocks)
	return p, &c
}

func TestCUDAAttend(t *testing.T) {
	all := realTwin(t)
	g := all.gpu.backend.(*gpu)
	for i, shape := range gpuGeometries() {
		turn := 0
		for name, step := range all.walks() {
			// The plain kernels in Go are slow: of each geometry every third step, and all steps of the first few.
			if turn++; i > 3 && (i+turn)%3 != 0 {
				continue
			}
			t.Run(fmt.Sprintf("%v/%s", shape, name), func(t *testing.T) {
				w := all.in(t)
				p, c := w.attentions(shape, step)
				before := w.get(c.Out)
				w.do(func(o Ops) error { return o.Attend(p) })
				what := "attend"
				for _, k := range step {
					if k.turned {
						what = "turned"
					}
				}
				for _, simple := range []bool{true, false} {
					w.on(func(o Ops) error { g.simpleAttention = simple; return o.Write(c.Out, before) })
					w.on(func(o Ops) error { return o.Attend(c) })
					requireNear(t, what, bf16Numbers(w.get(c.Out)), p.Out.float32s())
				}
				if name != "one row" && name != "decoding" {
					return
				}
				c.Work.Single = true // the decode kernel may add up the parts of rows
				for range 3 {
					w.on(func(o Ops) error { return o.Write(c.Out, before) })
					for range 2 { // by one plan
						w.on(func(o Ops) error { return o.Attend(c) })
					}
					requireNear(t, what, bf16Numbers(w.get(c.Out)), p.Out.float32s())
				}
			})
		}
	}
}

// TestCUDAAttendAlone: a row's result has the same bits alone and beside others, unless its walk is so long that it is cut: then it
// is near.
func TestCUDAAttendAlone(t *testing.T) {
	all := realTwin(t)
	for _, shape := range gpuGeometries()[:4] {
		t.Run(shape.String(), func(t *testing.T) {
			w := all.in(t)
			_, c := w.attentions(shape, []walk{{rows: 1, segments: []int{700, 20}}, {rows: 30, segments: []int{90}}, {rows: 1, segments: []int{50}}})
			w.on(func(o Ops) error { return o.Attend(c) })
			together := w.get(c.Out)
			items := make([]WorkItem, 3)
			copy(AsBytes(items), w.get(c.Work.Items))
			width := c.Out.size / c.Rows
			for _, item := range items {
				one := *c
				one.Out, one.Work.Items, one.Work.ItemCount = w.put(make([]byte, c.Out.size)), w.put(AsBytes([]WorkItem{item})), 1
				w.on(func(o Ops) error { return o.Attend(&one) })
				at, n := int(item.Row)*width, int(item.Rows)*width
				if item.Row > 0 {
					require.Equal(t, together[at:][:n], w.get(one.Out)[at:][:n], "item at row %d", item.Row)
				}
				requireNear(t, "attend", bf16Numbers(w.get(one.Out)[at:][:n]), bf16Numbers(together[at:][:n]))
			}
		})
	}
}
