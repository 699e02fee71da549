package operations

import (
	"math"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

// opNames are the operations that can be measured, in the order of a forward pass.
func opNames() []string {
	return []string{"qkv", "rope", "decode", "prefill", "proj", "gateup", "down", "mlp", "head", "sample"}
}

// The head and the sampler have rows for sequences only.
const mostHeads = 512

// job is an operation at one shape.
type job struct {
	op                 string
	rows               int
	sequences, context int    // of attention
	kv                 string // element type of the cache
	bytes, operations  float64
	copies             int // that calls meet in turn
	call               func(ops kernels.Ops, i int) error
}

// product counts what a product of so many rows must read, write and compute.
func (r *rig) product(op string, rows, cols, outs int, in, out float64) *job {
	return &job{
		op: op, rows: rows,
		bytes:      2*float64(cols)*float64(outs) + float64(rows)*(in+out),
		operations: 2 * float64(rows) * float64(cols) * float64(outs),
		copies:     r.copiesOf(2 * cols * outs),
	}
}

// products are the jobs of so many rows that are no attention.
func (r *rig) products(op string, rows int) *job {
	c, a := r.config, float64(r.activation)
	hidden, inner, heads := c.Hidden, c.Intermediate, c.Heads*c.HeadDim
	wide := heads + 2*c.KVHeads*c.HeadDim
	switch op {
	case "qkv":
		j := r.product(op, rows, hidden, wide, a*float64(hidden), a*float64(wide))
		j.call = func(ops kernels.Ops, i int) error {
			return ops.NormQKV(&kernels.NormQKVParams{X: r.x, Norm: r.norm, Eps: c.NormEps, Out: r.wide, Rows: rows,
				W: r.weight(i%j.copies, hidden, heads, c.KVHeads*c.HeadDim, c.KVHeads*c.HeadDim)})
		}
		return j
	case "proj": // its result is added to what is there
		j := r.product(op, rows, heads, hidden, a*float64(heads), 2*a*float64(hidden))
		j.call = func(ops kernels.Ops, i int) error {
			return ops.ProjAdd(&kernels.ProjAddParams{X: r.narrow, W: r.weight(i%j.copies, heads, hidden), Out: r.x, Rows: rows})
		}
		return j
	case "gateup":
		j := r.product(op, rows, hidden, 2*inner, a*float64(hidden), 2*a*float64(inner))
		j.call = func(ops kernels.Ops, i int) error {
			return ops.NormGateUp(&kernels.NormGateUpParams{X: r.x, Norm: r.norm, Eps: c.NormEps, Out: r.wide, Rows: rows, W: r.weight(i%j.copies, hidden, inner, inner)})
		}
		return j
	case "down":
		j := r.product(op, rows, inner, hidden, 2*a*float64(inner), 2*a*float64(hidden))
		j.call = func(ops kernels.Ops, i int) error {
			return ops.SiluDownAdd(&kernels.SiluDownAddParams{GateUp: r.wide, W: r.weight(i%j.copies, inner, hidden), Out: r.x, Rows: rows})
		}
		return j
	case "mlp": // gateup and down in one, as a model calls them where a device has that
		j := r.product(op, rows, hidden, 3*inner, a*float64(hidden), 2*a*float64(hidden))
		j.call = func(ops kernels.Ops, i int) error {
			i %= j.copies
			p := kernels.MLPParams{X: r.x, Norm: r.norm, Eps: c.NormEps, Out: r.x, Rows: rows,
				GateUp: r.weight(i, hidden, inner, inner), Down: r.weight(2*j.copies+i, inner, hidden)} // behind all of the first
			if ops, whole := ops.(kernels.MLPOps); whole {
				return ops.MLP(&p)
			}
			if err := ops.NormGateUp(&kernels.NormGateUpParams{X: p.X, Norm: p.Norm, Eps: p.Eps, W: p.GateUp, Out: r.wide, Rows: rows}); err != nil {
				return err
			}
			return ops.SiluDownAdd(&kernels.SiluDownAddParams{GateUp: r.wide, W: p.Down, Out: p.Out, Rows: rows})
		}
		return j
	case "head":
		j := r.product(op, rows, hidden, c.Vocab, a*float64(hidden), 4*float64(c.Vocab))
		j.call = func(ops kernels.Ops, i int) error {
			return ops.Head(&kernels.HeadParams{X: r.x, Index: r.index, Norm: r.norm, Eps: c.NormEps, W: r.weight(i%j.copies, hidden, c.Vocab), Logits: r.logits, Rows: rows})
		}
		return j
	case "sample": // several rows' logits stay in the cache between calls, as they do after the head
		return &job{op: op, rows: rows, copies: 1, bytes: 4 * float64(rows) * float64(c.Vocab), call: func(ops kernels.Ops, _ int) error {
			return ops.Sample(&kernels.SampleParams{Logits: r.logits, Params: r.asked, Out: r.answers, Vocab: c.Vocab, Rows: rows})
		}}
	}
	return nil
}

// rotation is the job that normalizes and rotates queries and keys, and writes keys and values into the cache.
func (r *rig) rotation(rows int, k *cache) *job {
	c := r.config
	width := float64((c.Heads + 2*c.KVHeads) * c.HeadDim)
	j := &job{op: "rope", rows: rows, kv: k.kv.String(), copies: len(k.layers)}
	j.bytes = float64(rows) * (float64(r.activation)*(width+float64(c.Heads*c.HeadDim)) + float64(k.tokenBytes))
	j.call = func(ops kernels.Ops, i int) error {
		return ops.QKNormRopeWrite(&kernels.QKNormRopeWriteParams{
			QKV: r.wide, QNorm: r.norm.Slice(0, 2*c.HeadDim), KNorm: r.norm.Slice(0, 2*c.HeadDim), Eps: c.NormEps, Rope: k.rope,
			Positions: k.lists.Positions, Slots: k.lists.Slots, KV: k.layers[i%len(k.layers)],
			Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim, Rows: rows,
		})
	}
	return j
}

// attend is the job of sequences of which each has so many rows, the last ones of its tokens.
func (r *rig) attend(op string, sequences, tokens, rows int, k *cache) *job {
	c := r.config
	all := sequences * rows
	pairs := float64(sequences) * (float64(rows)*float64(tokens) - float64(rows)*float64(rows-1)/2)
	width := float64(c.Heads * c.HeadDim)
	j := &job{op: op, rows: all, sequences: sequences, context: tokens, kv: k.kv.String(), copies: len(k.layers)}
	j.bytes = float64(sequences)*float64(tokens)*float64(k.tokenBytes) + 2*float64(r.activation)*float64(all)*width
	j.operations = 4 * pairs * width
	j.call = func(ops kernels.Ops, i int) error {
		return ops.Attend(&kernels.AttendParams{
			Q: r.wide, QStride: c.Heads * c.HeadDim, Out: r.narrow, Positions: k.lists.Positions, Rope: k.rope, KV: k.layers[i%len(k.layers)], Work: k.work,
			Scale: float32(1 / math.Sqrt(float64(c.HeadDim))), Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim, Rows: all,
		})
	}
	return j
}

// planOf is the attention of sequences with a run of blocks each, in an order that has nothing to do with theirs.
func planOf(sequences, tokens, rows, blockTokens int) (*attention.Plan, error) {
	plan := &attention.Plan{}
	plan.Reset(blockTokens)
	blocks := (tokens + blockTokens - 1) / blockTokens
	order := scattered(sequences * blocks)
	for i := range sequences {
		view := kvcache.Segment{Blocks: order[i*blocks : (i+1)*blocks], Len: tokens}
		if err := plan.Add([]kvcache.Segment{view}, rows); err != nil {
			return nil, err
		}
	}
	return plan, nil
}
