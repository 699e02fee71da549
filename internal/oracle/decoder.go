// Package oracle computes a Qwen3 decoder a second time, with the graph operations of gomlx in float32.
//
// It shares nothing with this project's kernels, rotary tables or caches: only the checkpoint is read by the same code.
// What transformers says is recorded in files; this can be asked anything, such as a layer of random weights. It is a
// module of its own so that nobody who imports the project carries gomlx.
package oracle

import (
	"fmt"
	"math"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/quire-llm/quire/model"
)

// Logits are the logits after each token of a sequence, [len(tokens)][Vocab]. Dense Qwen3 with default RoPE only.
func Logits(ck *model.Checkpoint, tokens []int32) ([][]float32, error) {
	c := ck.Config
	if c.Architecture != model.Qwen3 || c.Rope.Type != model.RopeDefault || !c.QKNorm || c.QKVBias {
		return nil, fmt.Errorf("oracle: computing %q: got architecture %s with rope %q, want a dense Qwen3 with default rope", ck.Name, c.Architecture, c.Rope.Type)
	}
	weights, err := readWeights(ck)
	if err != nil {
		return nil, fmt.Errorf("oracle: reading %q: %w", ck.Name, err)
	}
	backend, err := gobackend.New("")
	if err != nil {
		return nil, fmt.Errorf("oracle: opening gomlx: %w", err)
	}
	defer backend.Finalize()
	out, err := graph.ExecOnce(backend, func(ids *graph.Node) *graph.Node {
		d := decoder{config: c, weights: weights, graph: ids.Graph(), rows: len(tokens)}
		return d.logits(ids)
	}, tensors.FromFlatDataAndDimensions(tokens, len(tokens), 1))
	if err != nil {
		return nil, fmt.Errorf("oracle: computing %q: %w", ck.Name, err)
	}
	flat, err := tensors.CopyFlatData[float32](out)
	if err != nil {
		return nil, fmt.Errorf("oracle: computing %q: %w", ck.Name, err)
	}
	logits := make([][]float32, len(tokens))
	for i := range logits {
		logits[i] = flat[i*c.Vocab:][:c.Vocab]
	}
	return logits, nil
}

// readWeights are a checkpoint's tensors in float32.
func readWeights(ck *model.Checkpoint) (map[string]*tensors.Tensor, error) {
	weights := map[string]*tensors.Tensor{}
	for name, shape := range ck.Config.Weights() {
		t, err := ck.Weight(name, shape...)
		if err != nil {
			return nil, err
		}
		values := make([]float32, len(t.Data)/2)
		for i := range values {
			values[i] = math.Float32frombits(uint32(t.Data[2*i])<<16 | uint32(t.Data[2*i+1])<<24)
		}
		weights[name] = tensors.FromFlatDataAndDimensions(values, shape...)
	}
	return weights, nil
}

// decoder builds the graph of one sequence.
type decoder struct {
	config  model.Config
	weights map[string]*tensors.Tensor
	graph   *graph.Graph
	rows    int
}

func (d *decoder) weight(name string) *graph.Node {
	return graph.ConstCachedTensor(d.graph, d.weights[name+".weight"])
}

// logits: ids is [rows, 1].
func (d *decoder) logits(ids *graph.Node) *graph.Node {
	h := graph.Gather(d.weight("model.embed_tokens"), ids) // [rows, Hidden]
	for l := range d.config.Layers {
		layer := fmt.Sprintf("model.layers.%d.", l)
		h = graph.Add(h, d.attention(layer+"self_attn.", d.norm(h, layer+"input_layernorm")))
		h = graph.Add(h, d.mlp(layer+"mlp.", d.norm(h, layer+"post_attention_layernorm")))
	}
	head := "lm_head"
	if d.config.TiedHead {
		head = "model.embed_tokens"
	}
	return d.linear(d.norm(h, "model.norm"), head)
}

// attention: x is [rows, Hidden].
func (d *decoder) attention(prefix string, x *graph.Node) *graph.Node {
	c := d.config
	group := c.Heads / c.KVHeads
	// Heads come first: [KVHeads, group, rows, HeadDim] for queries, [KVHeads, rows, HeadDim] for keys and values.
	q := graph.Reshape(d.linear(x, prefix+"q_proj"), d.rows, c.KVHeads, group, c.HeadDim)
	q = d.rotate(graph.TransposeAllAxes(d.norm(q, prefix+"q_norm"), 1, 2, 0, 3))
	k := graph.Reshape(d.linear(x, prefix+"k_proj"), d.rows, c.KVHeads, c.HeadDim)
	k = d.rotate(graph.TransposeAllAxes(d.norm(k, prefix+"k_norm"), 1, 0, 2))
	v := graph.Reshape(d.linear(x, prefix+"v_proj"), d.rows, c.KVHeads, c.HeadDim)

	scores := graph.Einsum("hgrd,htd->hgrt", q, k)
	scores = graph.MulScalar(scores, 1/math.Sqrt(float64(c.HeadDim)))
	indices := shapes.Make(dtypes.Int32, scores.Shape().Dimensions...)
	row, token := graph.Iota(d.graph, indices, 2), graph.Iota(d.graph, indices, 3)
	scores = graph.Where(graph.LessOrEqual(token, row), scores, graph.Const(d.graph, float32(-1e30)))
	mixed := graph.Einsum("hgrt,thd->rhgd", graph.Softmax(scores, -1), v)
	return d.linear(graph.Reshape(mixed, d.rows, c.Heads*c.HeadDim), prefix+"o_proj")
}

// rotate turns the pairs (i, i+HeadDim/2) of the last axis of x by the position, which is the axis before it.
func (d *decoder) rotate(x *graph.Node) *graph.Node {
	half := d.config.HeadDim / 2
	shape := shapes.Make(dtypes.Float32, d.rows, half)
	position := graph.Iota(d.graph, shape, 0)
	pair := graph.Iota(d.graph, shape, 1)
	frequency := graph.Exp(graph.MulScalar(pair, -2*math.Log(d.config.Rope.Theta)/float64(d.config.HeadDim)))
	angle := graph.Mul(position, frequency)
	cos, sin := graph.ExpandLeftToRank(graph.Cos(angle), x.Rank()), graph.ExpandLeftToRank(graph.Sin(angle), x.Rank())
	last := x.Rank() - 1
	a := graph.SliceAxis(x, last, graph.AxisRange(0, half))
	b := graph.SliceAxis(x, last, graph.AxisRange(half))
	return graph.Concatenate([]*graph.Node{
		graph.Sub(graph.Mul(a, cos), graph.Mul(b, sin)),
		graph.Add(graph.Mul(b, cos), graph.Mul(a, sin)),
	}, last)
}

// mlp: x is [rows, Hidden].
func (d *decoder) mlp(prefix string, x *graph.Node) *graph.Node {
	gate, up := d.linear(x, prefix+"gate_proj"), d.linear(x, prefix+"up_proj")
	return d.linear(graph.Mul(graph.Mul(gate, graph.Sigmoid(gate)), up), prefix+"down_proj")
}

// linear: x is [rows, columns], the weight [outputs, columns].
func (d *decoder) linear(x *graph.Node, name string) *graph.Node {
	return graph.Einsum("rc,oc->ro", x, d.weight(name))
}

// norm is RMSNorm over the last axis.
func (d *decoder) norm(x *graph.Node, name string) *graph.Node {
	square := graph.ReduceAndKeep(graph.Square(x), graph.ReduceMean, -1)
	x = graph.Mul(x, graph.Rsqrt(graph.AddScalar(square, float64(d.config.NormEps))))
	return graph.Mul(x, graph.ExpandLeftToRank(d.weight(name), x.Rank()))
}
