package kernels

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// An invariant is an operation on rows whose bits must not depend on the batch that they are computed in.
type invariant struct {
	name string
	// run computes the rows [lo, hi) on a device and returns what it says of each.
	run func(r *rig, lo, hi int) [][]byte
}

const invariantRows = 33

// TestRowsDoNotDependOnTheBatch compares batches of every size up to 33, on one to four threads, with the whole on one
// thread.
func TestRowsDoNotDependOnTheBatch(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		var rigs []*rig
		for threads := 1; threads <= 4; threads++ {
			rigs = append(rigs, newRig(t, set, threads))
		}
		for _, c := range invariants(rigs[0]) {
			t.Run(c.name, func(t *testing.T) {
				want := c.run(rigs[0], 0, invariantRows)
				for n := 1; n <= invariantRows; n++ {
					lo, threads := rigs[0].rng.IntN(invariantRows-n+1), 1+n%4
					got := c.run(rigs[threads-1], lo, lo+n)
					for i := range got {
						require.Equal(t, want[lo+i], got[i], "row %d of rows %d to %d on %d threads", lo+i, lo, lo+n, threads)
					}
				}
				for threads := 2; threads <= 4; threads++ {
					require.Equal(t, want, c.run(rigs[threads-1], 0, invariantRows), "%d threads", threads)
				}
			})
		}
	})
}

// rowsOf cuts a buffer into rows and copies them.
func rowsOf(b Buffer, rows int) [][]byte {
	var out [][]byte
	for row := range slices.Chunk(slices.Clone(b.bytes()), b.Bytes()/rows) {
		out = append(out, row)
	}
	return out
}

// part is the rows [lo, hi) of a buffer with invariantRows.
func part(b Buffer, lo, hi int) Buffer {
	size := b.Bytes() / invariantRows
	return b.Slice(lo*size, (hi-lo)*size)
}

// invariants are all operations, on inputs that they share.
func invariants(r *rig) []invariant {
	return append(r.productInvariants(BF16), append(r.productInvariants(Int8), r.otherInvariants()...)...)
}

// productInvariants are the operations with weights of the given format.
func (r *rig) productInvariants(format Format) []invariant {
	const cols, n = 130, invariantRows
	w := r.weightIn(format, cols, true, 50, 30, 21)
	x, norm := r.floats(n*cols), r.bf16s(cols)
	gateUp, start := r.floats(n*2*cols), r.floats(n*w.Rows)
	all := []invariant{
		{name: "NormQKV/" + format.String(), run: func(r *rig, lo, hi int) [][]byte {
			out := r.alloc(4 * (hi - lo) * w.Rows)
			r.do(func(o Ops) error {
				return o.NormQKV(&NormQKVParams{X: part(x, lo, hi), Norm: norm, Eps: 1e-6, W: w, Out: out, Rows: hi - lo})
			})
			return rowsOf(out, hi-lo)
		}},
		{name: "NormGateUp/" + format.String(), run: func(r *rig, lo, hi int) [][]byte {
			out := r.alloc(4 * (hi - lo) * w.Rows)
			r.do(func(o Ops) error {
				return o.NormGateUp(&NormGateUpParams{X: part(x, lo, hi), Norm: norm, Eps: 1e-6, W: w, Out: out, Rows: hi - lo})
			})
			return rowsOf(out, hi-lo)
		}},
		{name: "ProjAdd/" + format.String(), run: func(r *rig, lo, hi int) [][]byte {
			out := write(r, part(start, lo, hi).bytes())
			r.do(func(o Ops) error {
				return o.ProjAdd(&ProjAddParams{X: part(x, lo, hi), W: w, Out: out, Rows: hi - lo})
			})
			return rowsOf(out, hi-lo)
		}},
		{name: "SiluDownAdd/" + format.String(), run: func(r *rig, lo, hi int) [][]byte {
			out := write(r, part(start, lo, hi).bytes())
			r.do(func(o Ops) error {
				return o.SiluDownAdd(&SiluDownAddParams{GateUp: part(gateUp, lo, hi), W: w, Out: out, Rows: hi - lo})
			})
			return rowsOf(out, hi-lo)
		}},
		{name: "Head/" + format.String(), run: func(r *rig, lo, hi int) [][]byte {
			var index []int32
			for i := lo; i < hi; i++ {
				index = append(index, int32(i))
			}
			out := r.alloc(4 * (hi - lo) * w.Rows)
			r.do(func(o Ops) error {
				return o.Head(&HeadParams{X: x, Index: r.ints(index...), Norm: norm, Eps: 1e-6, W: w, Logits: out, Rows: hi - lo})
			})
			return rowsOf(out, hi-lo)
		}},
	}
	moe := r.moe(format, 40, 24, 6, 2, n)
	moe.NormTopK = true
	layer := moe.X
	all = append(all, invariant{name: "MoE/" + format.String(), run: func(r *rig, lo, hi int) [][]byte {
		p := *moe
		p.X, p.Rows = write(r, part(layer, lo, hi).bytes()), hi-lo
		p.Out = p.X
		r.do(func(o Ops) error { return o.MoE(&p) })
		return rowsOf(p.Out, hi-lo)
	}})
	return all
}

// otherInvariants are the operations without weights.
func (r *rig) otherInvariants() (all []invariant) {
	const vocab, n = 10000, invariantRows
	logits := r.floats(n * vocab)
	var params []SampleRow
	for i := range n {
		params = append(params, SampleRow{Temperature: float32(i%4) / 2, Want: -1, Seed: 7, Counter: uint64(i)})
	}
	all = append(all, invariant{name: "Sample", run: func(r *rig, lo, hi int) [][]byte {
		out := r.alloc((hi - lo) * sizeOf[SampleOut]())
		r.do(func(o Ops) error {
			return o.Sample(&SampleParams{Logits: part(logits, lo, hi), Params: write(r, params[lo:hi]), Out: out, Vocab: vocab, Rows: hi - lo})
		})
		return rowsOf(out, hi-lo)
	}})
	for _, g := range []geometry{
		{kvHeads: 2, group: 2, headDim: 64, blockTokens: 16},
		{kvHeads: 3, group: 5, headDim: 40, blockTokens: 32, kv: KVF32},
		{kvHeads: 1, group: 1, headDim: 128, blockTokens: 16, apart: true},
		{kvHeads: 2, group: 4, headDim: 32, blockTokens: 16, kv: KVF32},
		{kvHeads: 2, group: 2, headDim: 64, blockTokens: 16, kv: KVI8, apart: true},
	} {
		all = append(all, r.attendInvariant(g))
	}
	return all
}

// attendInvariant is a prompt of which the rows [lo, hi) are computed in one step: what they see has been written by steps
// before, and ends with their own tokens. In front of it lie two shared segments, one stored for another position.
func (r *rig) attendInvariant(g geometry) invariant {
	const blocks, first, second = 20, 21, 40
	heads := g.kvHeads * g.group
	width := (heads + 2*g.kvHeads) * g.headDim
	kv, rope := r.cache(g, blocks), r.ropeTable(400, g.headDim, 1)
	qkv, norm := r.floats(invariantRows*width), r.bf16s(g.headDim)
	ids := make([]int32, blocks)
	for i, id := range r.rng.Perm(blocks) {
		ids[i] = int32(id)
	}
	const own = 10 // block where the prompt begins
	rotate := func(r *rig, lo, hi int) Buffer {
		b := write(r, qkv.float32s()[lo*width:hi*width])
		var positions, slots []int32
		for i := lo; i < hi; i++ {
			positions = append(positions, int32(first+second+i))
			slots = append(slots, ids[own+i/g.blockTokens]*int32(g.blockTokens)+int32(i%g.blockTokens))
		}
		r.do(func(o Ops) error {
			return o.QKNormRopeWrite(&QKNormRopeWriteParams{QKV: b, QNorm: norm, KNorm: norm, Eps: 1e-6, Rope: rope, KV: kv,
				Positions: r.ints(positions...), Slots: r.ints(slots...), Heads: heads, KVHeads: g.kvHeads, HeadDim: g.headDim, Rows: hi - lo})
		})
		return b
	}
	rotate(r, 0, invariantRows) // so that a late step finds what earlier ones have written
	return invariant{name: "Attend/" + g.String(), run: func(r *rig, lo, hi int) [][]byte {
		q := rotate(r, lo, hi)
		out := r.alloc(4 * (hi - lo) * heads * g.headDim)
		var positions []int32
		for i := lo; i < hi; i++ {
			positions = append(positions, int32(first+second+i))
		}
		segments := []WorkSegment{
			{Block: 0, Off: 3, Len: first, Pos: 0, Stored: 0},
			{Block: 5, Off: 1, Len: second, Pos: first, Stored: 200},
			{Block: own, Len: int32(hi), Pos: first + second, Stored: first + second},
		}
		r.do(func(o Ops) error {
			return o.Attend(&AttendParams{Q: q, QStride: width, Out: out, Positions: r.ints(positions...), Rope: rope, KV: kv,
				Scale: float32(1 / math.Sqrt(float64(g.headDim))), Heads: heads, KVHeads: g.kvHeads, HeadDim: g.headDim, Rows: hi - lo,
				Work: Work{
					Items: write(r, []WorkItem{{Rows: int32(hi - lo), Segments: 3}}), ItemCount: 1,
					Segments: write(r, segments), SegmentCount: 3, Blocks: r.ints(ids...), BlockCount: blocks,
				}})
		})
		return rowsOf(out, hi-lo)
	}}
}

// TestStretches walks a long past on one thread and, cut into stretches, on several: for one row and for three, alone and
// together.
func TestStretches(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		var rigs []*rig
		for threads := 1; threads <= 4; threads++ {
			rigs = append(rigs, newRig(t, set, threads))
		}
		r := rigs[0]
		for _, g := range []geometry{
			{kvHeads: 1, group: 2, headDim: 64, blockTokens: 16, apart: true},
			{kvHeads: 2, group: 5, headDim: 40, blockTokens: 32, kv: KVF32},
		} {
			for _, segments := range [][]WorkSegment{
				{{Len: 1600}},
				{{Len: 530}, {Block: 100, Off: 3, Len: 1000, Pos: 530, Stored: 510}, {Block: 200, Len: 70, Pos: 1530, Stored: 1530}},
				{{Len: 100}, {Block: 100, Len: 500, Pos: 1100, Stored: 1100}}, // a stretch of no tokens
			} {
				t.Run(fmt.Sprintf("%v/segments=%d", g, len(segments)), func(t *testing.T) {
					const rows, tokens = 3, 1600
					heads := g.kvHeads * g.group
					ids := make([]int32, 300)
					for i := range ids {
						ids[i] = int32(r.rng.IntN(40))
					}
					q, kv, rope := r.floats(rows*heads*g.headDim), r.cache(g, 40), r.ropeTable(tokens, g.headDim, 1)
					run := func(r *rig, lo, hi int) (*AttendParams, [][]byte) {
						n := hi - lo
						var places []int32
						for i := lo; i < hi; i++ {
							places = append(places, int32(tokens-rows+i))
						}
						p := &AttendParams{
							Q: q.Slice(4*lo*heads*g.headDim, 4*n*heads*g.headDim), QStride: heads * g.headDim, Out: r.alloc(4 * n * heads * g.headDim),
							Positions: r.ints(places...), Rope: rope, KV: kv, Scale: 0.1, Heads: heads, KVHeads: g.kvHeads, HeadDim: g.headDim, Rows: n,
							Work: Work{
								Items: write(r, []WorkItem{{Rows: int32(n), Segments: int32(len(segments))}}), ItemCount: 1,
								Segments: write(r, segments), SegmentCount: len(segments), Blocks: r.ints(ids...), BlockCount: len(ids),
							},
						}
						r.do(func(o Ops) error { return o.Attend(p) })
						return p, rowsOf(p.Out, n)
					}
					p, want := run(r, 0, rows)
					requireClose(t, r.tolerance("attend"), p.Out.float32s(), wantAttend(p))
					for _, r := range rigs {
						_, got := run(r, 0, rows)
						require.Equal(t, want, got, "%d threads", r.dev.Info().Threads)
						for i := range rows {
							_, got := run(r, i, i+1)
							require.Equal(t, want[i:i+1], got, "row %d alone, %d threads", i, r.dev.Info().Threads)
						}
					}
				})
			}
		}
	})
}

// TestStandardAndSharedPrefixAgree reads the same tokens as one segment and as a shared prefix of whole blocks with a
// private rest: tiles begin at the same positions, so the bits are the same.
func TestStandardAndSharedPrefixAgree(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		for _, prefix := range []int32{16, 48, 64, 80} {
			t.Run(fmt.Sprintf("prefix=%d", prefix), func(t *testing.T) {
				r := newRig(t, set, 2)
				g := geometry{kvHeads: 2, group: 3, headDim: 72, blockTokens: 16}
				const tokens, rows = 90, 5
				p := &AttendParams{
					Q: r.floats(rows * 6 * 72), QStride: 6 * 72, Rope: r.ropeTable(tokens, 72, 1), KV: r.cache(g, 8), Scale: 0.1,
					Positions: r.ints(85, 86, 87, 88, 89), Heads: 6, KVHeads: 2, HeadDim: 72, Rows: rows,
				}
				run := func(segments ...WorkSegment) []uint32 {
					p.Out = r.alloc(4 * rows * 6 * 72)
					p.Work = Work{
						Items: write(r, []WorkItem{{Rows: rows, Segments: int32(len(segments))}}), ItemCount: 1,
						Segments: write(r, segments), SegmentCount: len(segments), Blocks: r.ints(0, 5, 1, 2, 7, 3), BlockCount: 6,
					}
					r.do(func(o Ops) error { return o.Attend(p) })
					return bits(p.Out)
				}
				want := run(WorkSegment{Len: tokens})
				got := run(WorkSegment{Len: prefix}, WorkSegment{Block: prefix / 16, Len: tokens - prefix, Pos: prefix, Stored: prefix})
				require.Equal(t, want, got)
			})
		}
	})
}
