package kernels

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/ref"
)

// geometry is a shape of attention.
type geometry struct {
	kvHeads, group, headDim, blockTokens int
	kv                                   KVType
	apart                                bool // each head's tokens lie together
}

func (g geometry) String() string {
	return fmt.Sprintf("kvheads=%d/group=%d/dim=%d/block=%d/kv=%v/apart=%v", g.kvHeads, g.group, g.headDim, g.blockTokens, g.kv, g.apart)
}

// geometries has every head size that is a multiple of 8 up to 256, and every group size up to 8.
func geometries() []geometry {
	var all []geometry
	for i := 1; i <= 32; i++ {
		all = append(all, geometry{
			kvHeads:     1 + i%3,
			group:       1 + i%8,
			headDim:     8 * i,
			blockTokens: 16 << (i % 3),
			kv:          KVType(i % 3),
			apart:       i%4 > 1,
		})
	}
	return append(all,
		geometry{kvHeads: 8, group: 2, headDim: 128, blockTokens: 16, apart: true},
		geometry{kvHeads: 2, group: 4, headDim: 96, blockTokens: 16},
		geometry{kvHeads: 2, group: 3, headDim: 64, blockTokens: 32, kv: KVF32},
		geometry{kvHeads: 2, group: 1, headDim: 128, blockTokens: 16},
		geometry{kvHeads: 8, group: 2, headDim: 128, blockTokens: 16, kv: KVI8, apart: true},
		geometry{kvHeads: 1, group: 4, headDim: 64, blockTokens: 16, kv: KVI8},
		geometry{kvHeads: 1, group: 1, headDim: 96, blockTokens: 16, kv: KVI8},
		geometry{kvHeads: 2, group: 8, headDim: 64, blockTokens: 16, kv: KVF32},
		geometry{kvHeads: 1, group: 12, headDim: 64, blockTokens: 32},
	)
}

// cache is random keys and values in a layout with gaps: values lie apart, tokens and blocks are padded.
func (r *rig) cache(g geometry, blocks int) KVLayout {
	size := g.kv.align()
	l := KVLayout{BlockTokens: g.blockTokens, Type: g.kv}
	if row := g.kv.RowBytes(g.headDim); g.apart {
		l.TokenStride = row + 4*size
		l.HeadStride = l.TokenStride*g.blockTokens + 8*size
		l.VOffset = l.HeadStride*g.kvHeads + 2*size
		l.BlockStride = 2*l.VOffset + 10*size
	} else {
		l.VOffset = row*g.kvHeads + 2*size
		l.TokenStride = l.VOffset + row*g.kvHeads + 6*size
		l.BlockStride = l.TokenStride*g.blockTokens + 10*size
	}
	bytes := blocks * l.BlockStride
	switch g.kv {
	case KVF32:
		l.Base = r.floats(bytes / 4)
	case KVI8:
		l.Base = r.alloc(bytes)
		for i := range l.Base.bytes() {
			l.Base.bytes()[i] = 0x5a // between the rows
		}
		c := refCache(&l, g.headDim)
		for i := range blocks * g.blockTokens * g.kvHeads {
			c.Store(r.floats(g.headDim).float32s(), r.floats(g.headDim).float32s(), i/g.kvHeads, i%g.kvHeads)
		}
	default:
		b := r.alloc(bytes + 2)
		l.Base = b.Slice(2, bytes) // not aligned to more than an element
		for i := range bytes / 2 {
			ref.PutBF16(l.Base.bytes(), i, float32(r.rng.NormFloat64()))
		}
	}
	return l
}

// ropeTable is a table for positions with YaRN's factor in it.
func (r *rig) ropeTable(positions, headDim int, factor float64) Buffer {
	b := r.alloc(4 * positions * headDim)
	for p := range positions {
		row := b.float32s()[p*headDim:]
		for i := range headDim / 2 {
			angle := float64(p) * math.Pow(10000, -float64(2*i)/float64(headDim))
			row[i], row[i+headDim/2] = float32(factor*math.Cos(angle)), float32(factor*math.Sin(angle))
		}
	}
	return b
}

// refCache is the layout for package ref.
func refCache(l *KVLayout, headDim int) *ref.Cache {
	a := argsOf(l, headDim)
	c := a.cache()
	return &c
}

func TestQKNormRopeWrite(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		for i, g := range geometries() {
			t.Run(g.String(), func(t *testing.T) {
				r := newRig(t, set, 2)
				const rows, blocks, positions = 19, 4, 100
				heads := g.kvHeads * g.group
				width := (heads + 2*g.kvHeads) * g.headDim
				p := &QKNormRopeWriteParams{
					QKV: r.floats(rows * width), Eps: 1e-6, Rope: r.ropeTable(positions, g.headDim, 1.1), KV: r.cache(g, blocks),
					Heads: heads, KVHeads: g.kvHeads, HeadDim: g.headDim, Rows: rows,
				}
				if i%2 == 0 {
					p.QNorm, p.KNorm = r.bf16s(g.headDim), r.bf16s(g.headDim)
				}
				var places, slots []int32
				for _, slot := range r.rng.Perm(blocks * g.blockTokens)[:rows] {
					places, slots = append(places, int32(r.rng.IntN(positions))), append(slots, int32(slot))
				}
				p.Positions, p.Slots = r.ints(places...), r.ints(slots...)

				wantQKV := slices.Clone(p.QKV.float32s())
				want := p.KV
				want.Base = write(r, p.KV.Base.bytes())
				for row := range rows {
					wantRotate(p, refCache(&want, g.headDim), wantQKV[row*width:][:width], int(places[row]), int(slots[row]))
				}
				r.do(func(o Ops) error { return o.QKNormRopeWrite(p) })
				for row := range rows { // keys in QKV are scratch
					at := row * width
					requireClose(t, "rotate", p.QKV.float32s()[at:][:heads*g.headDim], wantQKV[at:][:heads*g.headDim])
				}
				requireCache(t, &p.KV, &want, blocks, g)
			})
		}
	})
}

// wantRotate is one row by package ref.
func wantRotate(p *QKNormRopeWriteParams, c *ref.Cache, row []float32, position, slot int) {
	d := p.HeadDim
	rope := p.Rope.float32s()[position*d:]
	var qNorm, kNorm []byte
	if !p.QNorm.IsZero() {
		qNorm, kNorm = p.QNorm.bytes(), p.KNorm.bytes()
	}
	for h := range p.Heads {
		ref.Head(row[h*d:][:d], qNorm, p.Eps, rope)
	}
	for h := range p.KVHeads {
		key := row[(p.Heads+h)*d:][:d]
		ref.Head(key, kNorm, p.Eps, rope)
		c.Store(key, row[(p.Heads+p.KVHeads+h)*d:][:d], slot, h)
	}
}

// requireCache demands that two caches hold nearly the same, and exactly the same between the tokens.
func requireCache(t *testing.T, got, want *KVLayout, blocks int, g geometry) {
	t.Helper()
	row, heads := g.kv.RowBytes(g.headDim), got.headStride(g.headDim)
	a, b := slices.Clone(got.Base.bytes()), slices.Clone(want.Base.bytes())
	for block := range blocks {
		for tok := range g.blockTokens {
			for i := range 2 * g.kvHeads {
				at := block*got.BlockStride + tok*got.TokenStride + i/2*heads + i%2*got.VOffset
				x, y := numbers(g.kv, a[at:][:row]), numbers(g.kv, b[at:][:row])
				requireClose(t, storing[g.kv], x, y)
				clear(a[at:][:row])
				clear(b[at:][:row])
			}
		}
	}
	require.Equal(t, b, a, "bytes between the tokens")
}

// storing is the tolerance for what was stored.
var storing = map[KVType]string{KVBF16: "bfloat16", KVF32: "rotate", KVI8: "int8"}

// numbers reads a head's elements in a cache.
func numbers(kv KVType, b []byte) []float32 {
	n := (len(b) - kvTypes[kv].extra) / kvTypes[kv].bytes
	out := make([]float32, n)
	for i := range out {
		switch kv {
		case KVF32:
			out[i] = ref.F32(b, i)
		case KVI8:
			out[i] = float32(int8(b[i])) * ref.F32(b[n:], 0)
		default:
			out[i] = ref.BF16(b, i)
		}
	}
	return out
}

func TestStoredBF16(t *testing.T) {
	values := []float32{0, 1, -1, 1.00390625, 1.01171875, 1.0078125, -1.00390625, 3.4e38, 1e-40, -1e-45, 65280.5,
		float32(math.Inf(1)), float32(math.Inf(-1)), math.Float32frombits(0x7f800001), float32(math.NaN())}
	values = append(values, make([]float32, 16-len(values))...)
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 1)
		g := geometry{kvHeads: 1, group: 1, headDim: 16, blockTokens: 16}
		p := &QKNormRopeWriteParams{
			QKV: r.floats(48), Rope: r.ropeTable(1, 16, 1), KV: r.cache(g, 1), Positions: r.ints(0), Slots: r.ints(5),
			Heads: 1, KVHeads: 1, HeadDim: 16, Rows: 1,
		}
		copy(p.QKV.float32s()[32:], values)
		r.do(func(o Ops) error { return o.QKNormRopeWrite(p) })
		got := p.KV.Base.bytes()[5*p.KV.TokenStride+p.KV.VOffset:][:32]
		want := make([]byte, 32)
		for i, v := range values {
			ref.PutBF16(want, i, v)
		}
		require.Equal(t, want, got)
	})
}

// TestStoredInt8 stores rows of values in every set: the bits of ref.Quantize.
func TestStoredInt8(t *testing.T) {
	const dim = 40
	inf := float32(math.Inf(1))
	rows := [][]float32{
		{}, {1, -1, 0.5, 2.5}, {127, 0.5, 1.5, -2.5, 126.5}, {-3, 1e-30}, {1e-40, -1e-45}, {0x1p-100}, {0x1.02p-100, 0x1p-101},
		{3.4e38, -1e38, 2e36}, {1, inf}, {-inf, 2}, {1, 2, float32(math.NaN()), 3}, nil, nil, nil,
	}
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 1)
		g := geometry{kvHeads: 1, group: 1, headDim: dim, blockTokens: 16, kv: KVI8}
		for _, row := range rows {
			p := &QKNormRopeWriteParams{
				QKV: r.floats(3 * dim), Rope: r.ropeTable(1, dim, 1), KV: r.cache(g, 1), Positions: r.ints(0), Slots: r.ints(5),
				Heads: 1, KVHeads: 1, HeadDim: dim, Rows: 1,
			}
			value := p.QKV.float32s()[2*dim:]
			if row != nil {
				clear(value)
				copy(value, row)
			}
			want := make([]byte, dim+4)
			ref.PutF32(want[dim:], 0, ref.Quantize(want, value))
			r.do(func(o Ops) error { return o.QKNormRopeWrite(p) })
			got := p.KV.Base.bytes()[5*p.KV.TokenStride+p.KV.VOffset:][:dim+4]
			if math.IsNaN(float64(ref.F32(want[dim:], 0))) { // any NaN
				require.True(t, math.IsNaN(float64(ref.F32(got[dim:], 0))), "scale of %v", value)
				want, got = want[:dim], got[:dim]
			}
			require.Equal(t, want, got, "%v", value)
			for i := range value { // within half a step
				if scale := ref.F32(want[len(want)-4:], 0); len(want) > dim && scale > 0 {
					require.InDelta(t, value[i], float32(int8(got[i]))*scale, float64(scale)*0.5001)
				}
			}
		}
	})
}

// TestNullBlock writes padding rows, all to the same slots of the null block: every other block stays as it was.
func TestNullBlock(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 1)
		const rows, width = 40, (4 + 2*2) * 64
		g := geometry{kvHeads: 2, group: 2, headDim: 64, blockTokens: 16}
		p := &QKNormRopeWriteParams{
			QKV: r.floats(rows * width), Rope: r.ropeTable(1, 64, 1), KV: r.cache(g, 3), Positions: r.alloc(4 * rows), Slots: r.alloc(4 * rows),
			Heads: 4, KVHeads: 2, HeadDim: 64, Rows: rows,
		}
		before := slices.Clone(p.KV.Base.bytes())
		r.do(func(o Ops) error { return o.QKNormRopeWrite(p) })
		after := p.KV.Base.bytes()
		require.NotEqual(t, before[:p.KV.TokenStride], after[:p.KV.TokenStride], "slot 0")
		require.Equal(t, before[p.KV.TokenStride:], after[p.KV.TokenStride:], "all others")
	})
}

// attention is a random step: items with segments all over the cache, some at other positions than they were stored for.
func (r *rig) attention(g geometry) *AttendParams {
	const blocks, positions = 12, 400
	heads := g.kvHeads * g.group
	p := &AttendParams{
		Rope: r.ropeTable(positions, g.headDim, 1.25), KV: r.cache(g, blocks), Scale: float32(1 / math.Sqrt(float64(g.headDim))),
		Heads: heads, KVHeads: g.kvHeads, HeadDim: g.headDim, QStride: (heads+2*g.kvHeads)*g.headDim + 3,
	}
	var items []WorkItem
	var segments []WorkSegment
	var ids, places []int32
	for _, rows := range []int{1, 1, 3, 0, 13} {
		item := WorkItem{Row: int32(p.Rows), Rows: int32(rows), Segment: int32(len(segments)), Segments: int32(1 + r.rng.IntN(3))}
		pos := 0
		for i := range item.Segments {
			s := WorkSegment{Block: int32(len(ids)), Off: int32(r.rng.IntN(g.blockTokens)), Len: int32(r.rng.IntN(50)), Pos: int32(pos)}
			s.Stored = s.Pos
			if i%2 == 1 {
				s.Stored = int32(r.rng.IntN(200))
			}
			if i == item.Segments-1 {
				s.Len += int32(rows) // at least the rows' own tokens
			}
			pos += int(s.Len)
			for range ceilDiv(int(s.Off+s.Len), g.blockTokens) {
				ids = append(ids, int32(r.rng.IntN(blocks)))
			}
			segments = append(segments, s)
		}
		for i := range rows {
			places = append(places, int32(pos-rows+i))
		}
		items = append(items, item)
		p.Rows += rows
	}
	p.Q, p.Out = r.floats(p.Rows*p.QStride), r.floats(p.Rows*heads*g.headDim)
	p.Positions = r.ints(places...)
	p.Work = Work{
		Items: write(r, items), Segments: write(r, segments), Blocks: r.ints(ids...),
		ItemCount: len(items), SegmentCount: len(segments), BlockCount: len(ids),
	}
	return p
}

// wantAttend is a step by package ref.
func wantAttend(p *AttendParams) []float32 {
	want := slices.Clone(p.Out.float32s())
	d := p.HeadDim
	for _, item := range p.Work.items() {
		var segments []ref.Segment
		for _, s := range p.Work.segments()[item.Segment:][:item.Segments] {
			segments = append(segments, ref.Segment(s))
		}
		for r := int(item.Row); r < int(item.Row+item.Rows); r++ {
			for h := range p.Heads {
				ref.Attend(want[(r*p.Heads+h)*d:][:d], p.Q.float32s()[r*p.QStride+h*d:][:d], refCache(&p.KV, d), h*p.KVHeads/p.Heads,
					int(p.Positions.int32s()[r]), segments, p.Work.Blocks.int32s(), p.Rope.float32s(), p.Scale)
			}
		}
	}
	return want
}

func TestAttend(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		for _, g := range geometries() {
			t.Run(g.String(), func(t *testing.T) {
				r := newRig(t, set, 2)
				p := r.attention(g)
				want := wantAttend(p)
				r.do(func(o Ops) error { return o.Attend(p) })
				requireClose(t, r.tolerance("attend"), p.Out.float32s(), want)
			})
		}
	})
}

func TestAttendSeesNothing(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 1)
		g := geometry{kvHeads: 1, group: 2, headDim: 64, blockTokens: 16}
		p := r.attention(g)
		clear(p.Positions.int32s()) // the last rows' segments begin after position 0
		for i := range p.Work.segments() {
			p.Work.segments()[i].Pos++
		}
		r.do(func(o Ops) error { return o.Attend(p) })
		require.Equal(t, make([]float32, p.Rows*2*64), slices.Clone(p.Out.float32s()))
	})
}

// TestAttendUnseen makes one token of a prompt NaN: the rows before it do not notice, down to their bits.
func TestAttendUnseen(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		for _, g := range []geometry{
			{kvHeads: 2, group: 2, headDim: 64, blockTokens: 16},
			{kvHeads: 1, group: 3, headDim: 40, blockTokens: 16, kv: KVF32},
			{kvHeads: 1, group: 2, headDim: 32, blockTokens: 16, kv: KVI8},
		} {
			t.Run(g.String(), func(t *testing.T) {
				r := newRig(t, set, 2)
				const rows, tokens = 50, 120
				heads := g.kvHeads * g.group
				p := &AttendParams{
					Q: r.floats(rows * heads * g.headDim), QStride: heads * g.headDim, Out: r.alloc(4 * rows * heads * g.headDim),
					Rope: r.ropeTable(tokens, g.headDim, 1), KV: r.cache(g, 8), Scale: 0.1,
					Heads: heads, KVHeads: g.kvHeads, HeadDim: g.headDim, Rows: rows,
					Work: Work{
						Items: write(r, []WorkItem{{Rows: rows, Segments: 1}}), ItemCount: 1,
						Segments: write(r, []WorkSegment{{Len: tokens}}), SegmentCount: 1, Blocks: r.ints(3, 1, 4, 0, 5, 7, 2, 6), BlockCount: 8,
					},
				}
				var places []int32
				for i := range rows {
					places = append(places, int32(tokens-rows+i))
				}
				p.Positions = r.ints(places...)
				r.do(func(o Ops) error { return o.Attend(p) })
				want := bits(p.Out)
				for _, token := range []int32{places[20], places[33], places[rows-1]} {
					before := slices.Clone(p.KV.Base.bytes())
					nan := slices.Repeat([]float32{float32(math.NaN())}, g.headDim)
					for h := range g.kvHeads {
						slot := int(p.Work.Blocks.int32s()[token/16])*16 + int(token%16)
						refCache(&p.KV, g.headDim).Store(nan, nan, slot, h)
					}
					r.do(func(o Ops) error { return o.Attend(p) })
					seen := int(token) - (tokens - rows) // first row that sees it
					n := seen * heads * g.headDim
					require.Equal(t, want[:n], bits(p.Out)[:n], "rows before token %d", token)
					for i, x := range p.Out.float32s()[n:] {
						require.True(t, x != x, "row %d, which sees token %d: got %v, want NaN", seen+i/(heads*g.headDim), token, x)
					}
					copy(p.KV.Base.bytes(), before)
				}
			})
		}
	})
}

// TestAttendTurned stores the same keys for two positions and reads them at the first: once as stored, once turned.
func TestAttendTurned(t *testing.T) {
	const tokens, positions = 40, 300
	eachSet(t, func(t *testing.T, set string) {
		for _, c := range []struct{ pos, stored int32 }{{pos: 50, stored: 0}, {pos: 0, stored: 50}, {pos: 17, stored: 259}, {pos: 130, stored: 129}} {
			for _, factor := range []float64{1, 1.2079} {
				t.Run(fmt.Sprintf("pos=%d/stored=%d/factor=%v", c.pos, c.stored, factor), func(t *testing.T) {
					r := newRig(t, set, 2)
					g := geometry{kvHeads: 2, group: 3, headDim: 64, blockTokens: 16, kv: KVF32}
					w := &QKNormRopeWriteParams{
						Rope: r.ropeTable(positions, g.headDim, factor), KV: r.cache(g, 8), Heads: 6, KVHeads: 2, HeadDim: 64, Rows: tokens,
					}
					raw := r.floats(tokens * 10 * 64)
					var slots []int32
					for i := range tokens {
						slots = append(slots, int32(i))
					}
					put := func(pos int32, firstSlot int32) {
						var at, to []int32
						for i := range int32(tokens) {
							at, to = append(at, pos+i), append(to, firstSlot+slots[i])
						}
						w.QKV, w.Positions, w.Slots = write(r, raw.float32s()), r.ints(at...), r.ints(to...)
						r.do(func(o Ops) error { return o.QKNormRopeWrite(w) })
					}
					put(c.pos, 0)
					put(c.stored, 64)
					p := &AttendParams{
						Q: r.floats(6 * 64), QStride: 6 * 64, Positions: r.ints(c.pos + tokens), Rope: w.Rope, KV: w.KV, Scale: 0.125,
						Heads: 6, KVHeads: 2, HeadDim: 64, Rows: 1,
					}
					read := func(stored, block int32) []float32 {
						p.Out = r.alloc(4 * 6 * 64)
						p.Work = Work{
							Items: write(r, []WorkItem{{Rows: 1, Segments: 1}}), ItemCount: 1,
							Segments:     write(r, []WorkSegment{{Len: tokens, Pos: c.pos, Stored: stored}}),
							SegmentCount: 1, Blocks: r.ints(block, block+1, block+2), BlockCount: 3,
						}
						r.do(func(o Ops) error { return o.Attend(p) })
						return p.Out.float32s()
					}
					requireClose(t, r.tolerance("turned"), read(c.stored, 4), read(c.pos, 0))
				})
			}
		}
	})
}
