package model

import (
	"fmt"
	"iter"
	"slices"
)

// Weights yields the name and shape of every tensor that the configuration implies, in the order of the forward pass and
// under the names of transformers' checkpoints. The yielded shape may be kept.
func (c Config) Weights() iter.Seq2[string, []int] {
	return func(yield func(string, []int) bool) {
		w := weightList{yield: yield}
		w.add("model.embed_tokens.weight", c.Vocab, c.Hidden)
		for l := 0; l < c.Layers && !w.stopped; l++ {
			c.layerWeights(&w, l)
		}
		w.add("model.norm.weight", c.Hidden)
		if !c.TiedHead {
			w.add("lm_head.weight", c.Vocab, c.Hidden)
		}
	}
}

func (c Config) layerWeights(w *weightList, l int) {
	layer := fmt.Sprintf("model.layers.%d.", l)
	attn := layer + "self_attn."
	qRows, kvRows := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	w.add(layer+"input_layernorm.weight", c.Hidden)
	w.add(attn+"q_proj.weight", qRows, c.Hidden)
	w.add(attn+"k_proj.weight", kvRows, c.Hidden)
	w.add(attn+"v_proj.weight", kvRows, c.Hidden)
	if c.QKVBias {
		w.add(attn+"q_proj.bias", qRows)
		w.add(attn+"k_proj.bias", kvRows)
		w.add(attn+"v_proj.bias", kvRows)
	}
	if c.QKNorm {
		w.add(attn+"q_norm.weight", c.HeadDim)
		w.add(attn+"k_norm.weight", c.HeadDim)
	}
	w.add(attn+"o_proj.weight", c.Hidden, qRows)
	w.add(layer+"post_attention_layernorm.weight", c.Hidden)
	if c.MoE.Experts == 0 || slices.Contains(c.MoE.DenseLayers, l) {
		c.mlpWeights(w, layer+"mlp.", c.Intermediate)
		return
	}
	w.add(layer+"mlp.gate.weight", c.MoE.Experts, c.Hidden)
	for e := 0; e < c.MoE.Experts && !w.stopped; e++ {
		c.mlpWeights(w, fmt.Sprintf("%smlp.experts.%d.", layer, e), c.MoE.Intermediate)
	}
}

func (c Config) mlpWeights(w *weightList, prefix string, intermediate int) {
	w.add(prefix+"gate_proj.weight", intermediate, c.Hidden)
	w.add(prefix+"up_proj.weight", intermediate, c.Hidden)
	w.add(prefix+"down_proj.weight", c.Hidden, intermediate)
}

// weightList passes names on until the receiver has had enough.
type weightList struct {
	yield   func(string, []int) bool
	stopped bool
}

func (w *weightList) add(name string, shape ...int) {
	w.stopped = w.stopped || !w.yield(name, shape)
}

// elements is the product of shape, which has been checked against overflow.
func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
