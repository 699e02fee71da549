package kernels

import (
	"fmt"
	"testing"
)

// layer is the weights of one layer of Qwen3-0.6B.
type layer struct {
	qkv, out, gateUp, down    Weight
	norm, qNorm, kNorm, norm2 Buffer
	kv                        KVLayout
}

// BenchmarkForward is the operations of Qwen3-0.6B in the order of a forward pass, with weights of its shapes: decoding so
// many sequences after 128 tokens, and a prompt.
func BenchmarkForward(b *testing.B) {
	for _, set := range kernelSets() {
		if set.name == "go" {
			continue
		}
		for _, sequences := range []int{1, 8} {
			b.Run(fmt.Sprintf("set=%s/decode=%d", set.name, sequences), func(b *testing.B) { benchmarkForward(b, set.name, sequences, 1) })
		}
		b.Run(fmt.Sprintf("set=%s/prompt=512", set.name), func(b *testing.B) { benchmarkForward(b, set.name, 1, 512) })
	}
}

func benchmarkForward(b *testing.B, set string, sequences, rows int) {
	r := newRig(b, set, 0)
	const hidden, layers, vocab, context = 1024, 28, 151936, 128
	tokens := context + rows
	blocks := ceilDiv(tokens, 16)
	var model []layer
	for range layers {
		model = append(model, layer{
			qkv: r.plainWeight(hidden, 2048, 1024, 1024), out: r.plainWeight(2048, hidden),
			gateUp: r.plainWeight(hidden, 3072, 3072), down: r.plainWeight(3072, hidden),
			norm: r.bf16s(hidden), qNorm: r.bf16s(128), kNorm: r.bf16s(128), norm2: r.bf16s(hidden),
			kv: KVLayout{Base: r.alloc(sequences * blocks * 16 * 4096), BlockTokens: 16, VOffset: 2048, TokenStride: 4096, BlockStride: 16 * 4096},
		})
	}
	head := r.plainWeight(hidden, vocab)
	n := sequences * rows
	x, wide, narrow := r.floats(n*hidden), r.floats(n*6144), r.floats(n*2048)
	rope := r.ropeTable(tokens, 128, 1)
	var items []WorkItem
	var segments []WorkSegment
	var ids, positions, slots, last []int32
	var params []SampleRow
	for s := range sequences {
		items = append(items, WorkItem{Row: int32(s * rows), Rows: int32(rows), Segment: int32(s), Segments: 1})
		segments = append(segments, WorkSegment{Block: int32(s * blocks), Len: int32(tokens)})
		for i := range blocks {
			ids = append(ids, int32(s*blocks+i))
		}
		for i := range rows {
			positions = append(positions, int32(context+i))
			slots = append(slots, int32(s*blocks*16+context+i))
		}
		last = append(last, int32(s*rows+rows-1))
		params = append(params, SampleRow{Want: -1})
	}
	embed := EmbedParams{Tokens: r.ints(make([]int32, n)...), Table: head, Out: x, Rows: n}
	qkv := NormQKVParams{X: x, Eps: 1e-6, Out: wide, Rows: n}
	rotate := QKNormRopeWriteParams{QKV: wide, Eps: 1e-6, Rope: rope, Positions: r.ints(positions...), Slots: r.ints(slots...),
		Heads: 16, KVHeads: 8, HeadDim: 128, Rows: n}
	attend := AttendParams{Q: wide, QStride: 4096, Out: narrow, Positions: rotate.Positions, Rope: rope, Scale: 0.088, Heads: 16, KVHeads: 8, HeadDim: 128, Rows: n,
		Work: Work{Items: write(r, items), ItemCount: len(items), Segments: write(r, segments), SegmentCount: len(segments), Blocks: r.ints(ids...), BlockCount: len(ids)}}
	proj := ProjAddParams{X: narrow, Out: x, Rows: n}
	gateUp := NormGateUpParams{X: x, Eps: 1e-6, Out: wide, Rows: n}
	down := SiluDownAddParams{GateUp: wide, Out: x, Rows: n}
	logits := HeadParams{X: x, Index: r.ints(last...), Norm: r.bf16s(hidden), Eps: 1e-6, W: head, Logits: r.floats(sequences * vocab), Rows: sequences}
	sample := SampleParams{Logits: logits.Logits, Params: write(r, params), Out: r.alloc(24 * sequences), Vocab: vocab, Rows: sequences}
	forward := func(o Ops) error {
		err := o.Embed(&embed)
		for i := range model {
			l := &model[i]
			qkv.Norm, qkv.W = l.norm, l.qkv
			rotate.QNorm, rotate.KNorm, rotate.KV = l.qNorm, l.kNorm, l.kv
			attend.KV, proj.W = l.kv, l.out
			gateUp.Norm, gateUp.W, down.W = l.norm2, l.gateUp, l.down
			for _, e := range [...]error{err, o.NormQKV(&qkv), o.QKNormRopeWrite(&rotate), o.Attend(&attend), o.ProjAdd(&proj), o.NormGateUp(&gateUp), o.SiluDownAdd(&down)} {
				if e != nil {
					return e
				}
			}
		}
		if err := o.Head(&logits); err != nil {
			return err
		}
		return o.Sample(&sample)
	}
	for b.Loop() {
		r.do(forward)
	}
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "tok/s")
}

// plainWeight is a matrix whose numbers are all small and alike: a benchmark does not look at them.
func (r *rig) plainWeight(cols int, rows ...int) Weight {
	w := Weight{Format: BF16, Cols: cols}
	for _, n := range rows {
		data := r.alloc(2 * n * cols)
		for i := range data.int32s() {
			data.int32s()[i] = 0x3c003c00
		}
		w.Parts = append(w.Parts, Part{Rows: n, Data: data})
		w.Rows += n
	}
	return w
}
