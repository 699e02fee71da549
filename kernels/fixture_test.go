package kernels

import "math"

// fixture is valid parameters of every operation, over shapes of a small model.
type fixture struct {
	Embed           EmbedParams
	NormQKV         NormQKVParams
	QKNormRopeWrite QKNormRopeWriteParams
	Attend          AttendParams
	ProjAdd         ProjAddParams
	NormGateUp      NormGateUpParams
	SiluDownAdd     SiluDownAddParams
	MLP             MLPParams
	MoE             MoEParams
	Head            HeadParams
	Sample          SampleParams
}

// fixture has so many rows of one sequence that begins at position 0.
func (r *rig) fixture(rows int) *fixture {
	const hidden, inner, vocab, positions = 64, 96, 300, 128
	g := geometry{kvHeads: 2, group: 2, headDim: 16, blockTokens: 16}
	heads := g.kvHeads * g.group
	blocks := ceilDiv(rows, g.blockTokens)
	var places, ids []int32
	for i := range rows {
		places = append(places, int32(i))
	}
	for i := range blocks {
		ids = append(ids, int32(i))
	}
	x, qkv := r.floats(rows*hidden), r.floats(rows*(heads+2*g.kvHeads)*g.headDim)
	attended, gateUp, logits := r.floats(rows*heads*g.headDim), r.floats(rows*2*inner), r.floats(rows*vocab)
	table, norm, rope := r.weight(hidden, false, vocab), r.bf16s(hidden), r.ropeTable(positions, g.headDim, 1)
	at, kv := r.ints(places...), r.cache(g, blocks+1)
	params := make([]SampleRow, rows)
	for i := range params {
		params[i] = SampleRow{Temperature: 1, Want: -1}
	}
	f := &fixture{
		Embed:   EmbedParams{Tokens: at, Table: table, Out: x, Rows: rows},
		NormQKV: NormQKVParams{X: x, Norm: norm, Eps: 1e-6, W: r.weight(hidden, true, heads*g.headDim, g.kvHeads*g.headDim, g.kvHeads*g.headDim), Out: qkv, Rows: rows},
		QKNormRopeWrite: QKNormRopeWriteParams{
			QKV: qkv, QNorm: r.bf16s(g.headDim), KNorm: r.bf16s(g.headDim), Eps: 1e-6, Rope: rope, Positions: at, Slots: at, KV: kv,
			Heads: heads, KVHeads: g.kvHeads, HeadDim: g.headDim, Rows: rows,
		},
		Attend: AttendParams{
			Q: qkv, QStride: (heads + 2*g.kvHeads) * g.headDim, Out: attended, Positions: at, Rope: rope, KV: kv,
			Scale: float32(1 / math.Sqrt(float64(g.headDim))), Heads: heads, KVHeads: g.kvHeads, HeadDim: g.headDim, Rows: rows,
			Work: Work{
				Items: write(r, []WorkItem{{Rows: int32(rows), Segments: 1}}), ItemCount: 1,
				Segments: write(r, []WorkSegment{{Len: int32(rows)}}), SegmentCount: 1, Blocks: r.ints(ids...), BlockCount: blocks,
			},
		},
		ProjAdd:     ProjAddParams{X: attended, W: r.weight(heads*g.headDim, false, hidden), Out: x, Rows: rows},
		NormGateUp:  NormGateUpParams{X: x, Norm: norm, Eps: 1e-6, W: r.weight(hidden, false, inner, inner), Out: gateUp, Rows: rows},
		SiluDownAdd: SiluDownAddParams{GateUp: gateUp, W: r.weight(inner, false, hidden), Out: x, Rows: rows},
		MoE:         *r.moe(BF16, hidden, 32, 4, 2, rows),
		Head:        HeadParams{X: x, Index: at, Norm: norm, Eps: 1e-6, W: table, Logits: logits, Rows: rows},
		Sample: SampleParams{
			Logits: logits, Params: write(r, params), Out: r.alloc(rows * sizeOf[SampleOut]()), Vocab: vocab, Rows: rows,
			TopN: 3, TopTokens: r.alloc(4 * rows * 3), TopLogits: r.alloc(4 * rows * 3),
		},
	}
	f.MLP = MLPParams{X: x, Norm: norm, Eps: 1e-6, GateUp: f.NormGateUp.W, Down: f.SiluDownAdd.W, Out: x, Rows: rows}
	return f
}

// operations runs each operation of the fixture.
func (f *fixture) operations() map[string]func(Ops) error {
	return map[string]func(Ops) error{
		"Embed":           func(o Ops) error { return o.Embed(&f.Embed) },
		"NormQKV":         func(o Ops) error { return o.NormQKV(&f.NormQKV) },
		"QKNormRopeWrite": func(o Ops) error { return o.QKNormRopeWrite(&f.QKNormRopeWrite) },
		"Attend":          func(o Ops) error { return o.Attend(&f.Attend) },
		"ProjAdd":         func(o Ops) error { return o.ProjAdd(&f.ProjAdd) },
		"NormGateUp":      func(o Ops) error { return o.NormGateUp(&f.NormGateUp) },
		"SiluDownAdd":     func(o Ops) error { return o.SiluDownAdd(&f.SiluDownAdd) },
		"MoE":             func(o Ops) error { return o.MoE(&f.MoE) },
		"Head":            func(o Ops) error { return o.Head(&f.Head) },
		"Sample":          func(o Ops) error { return o.Sample(&f.Sample) },
	}
}
