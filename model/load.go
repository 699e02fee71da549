package model

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/kernels"
)

// LoadOptions say how a model is brought to a device. Zero fields are defaults.
type LoadOptions struct {
	MaxRows      int // most rows of one Forward. Default 512
	MaxLogitRows int // most rows of one Logits. Default 64, or MaxRows if that is less
	MaxContext   int // positions that may occur. Default: the model's own limit, which is also the most
	Shard        Shard
	// Weights is the format of the matrices that products read: kernels.BF16 (default) or kernels.Int8, which is made of
	// them while the model is loaded. Int8 is for the CPU.
	Weights kernels.Format
	// WeightsCache is a directory where weights that were made are kept for the next time. "": they are not. It has no effect
	// on BF16.
	WeightsCache string
	// Log receives one line for what a user should know of the weights, if the checkpoint has no Log of its own.
	Log func(line string)
}

// Shard says which part of a model this process holds. The zero value is all of it, and nothing else is supported yet.
type Shard struct{ Rank, Ranks int }

func (o LoadOptions) withDefaults(c Config) LoadOptions {
	if o.MaxRows == 0 {
		o.MaxRows = 512
	}
	if o.MaxLogitRows == 0 {
		o.MaxLogitRows = min(64, o.MaxRows)
	}
	if o.MaxContext == 0 {
		o.MaxContext = c.MaxPositions
	}
	if o.Weights == 0 {
		o.Weights = kernels.BF16
	}
	if o.Shard.Ranks == 0 {
		o.Shard.Ranks = 1
	}
	return o
}

func (o LoadOptions) check(c Config) error {
	switch {
	case o.MaxRows < 1, o.MaxLogitRows < 1, o.MaxContext < 1:
		return fmt.Errorf("got %d rows, %d logit rows, a context of %d, want at least 1 of each", o.MaxRows, o.MaxLogitRows, o.MaxContext)
	case o.MaxContext > c.MaxPositions:
		return fmt.Errorf("got a context of %d, but the model was made for %d", o.MaxContext, c.MaxPositions)
	case o.Weights != kernels.BF16 && o.Weights != kernels.Int8:
		return fmt.Errorf("weights in %s: %w", o.Weights, errors.ErrUnsupported)
	case o.Shard != Shard{Rank: 0, Ranks: 1}:
		return fmt.Errorf("rank %d of %d: a model cannot be split yet: %w", o.Shard.Rank, o.Shard.Ranks, errors.ErrUnsupported)
	}
	return nil
}

// Load brings a checkpoint to a device. On the CPU weights that are stored as bfloat16 stay in the checkpoint's map and
// are read when they are first used, so the checkpoint must stay open as long as the model. On CUDA they are copied.
func Load(device *kernels.Device, ck *Checkpoint, o LoadOptions) (*Model, error) {
	m, err := load(device, ck, o)
	if err != nil {
		return nil, fmt.Errorf("model: loading %q: %w", ck.Name, err)
	}
	return m, nil
}

func load(device *kernels.Device, ck *Checkpoint, o LoadOptions) (*Model, error) {
	c := ck.Config
	o = o.withDefaults(c)
	if err := o.check(c); err != nil {
		return nil, err
	}
	if kind := device.Info().Kind; o.Weights == kernels.Int8 && kind != "cpu" {
		return nil, fmt.Errorf("weights in int8 on device %q: %w", kind, errors.ErrUnsupported)
	}
	if ck.Log == nil {
		ck.Log = o.Log
	}
	m := &Model{Config: c, device: device, options: o, memory: PlanMemory(c, o, device.ActivationBytes())}
	if err := m.allocate(); err != nil {
		m.Close()
		return nil, err
	}
	err := m.readWeights(ck)
	if err == nil { // uploads that are still under way
		err = device.Do(context.Background(), func(kernels.Ops) error { return nil })
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// allocate makes the buffers and fills the rotary table.
func (m *Model) allocate() error {
	c, o := m.Config, m.options
	parts := append(m.act.parts(c, o, m.device.ActivationBytes()), part{&m.Rope, int(m.memory.Rope)})
	for _, p := range parts {
		if p.bytes == 0 {
			continue // a mixture of experts has no dense MLP
		}
		var err error
		if *p.buffer, err = m.device.Alloc(p.bytes); err != nil {
			return fmt.Errorf("making room for %d rows and a context of %d: %w", o.MaxRows, o.MaxContext, err)
		}
	}
	var err error
	if m.lists, err = attention.NewBuffers(m.device, o.lists()); err != nil {
		return err
	}
	if m.device.Info().Kind == "cuda" {
		if err := m.replays.open(m.device, o); err != nil {
			return err
		}
	}
	table := c.Rope.Table(o.MaxContext, c.HeadDim)
	return m.device.Do(context.Background(), func(ops kernels.Ops) error {
		return ops.Write(m.Rope, kernels.AsBytes(table))
	})
}

// readWeights fills the layer table.
func (m *Model) readWeights(ck *Checkpoint) error {
	c := m.Config
	w := &weights{model: m, checkpoint: ck}
	m.Embedding = w.matrix(c.Hidden, rows("model.embed_tokens", c.Vocab))
	if m.options.Weights == kernels.Int8 && w.err == nil {
		w.err = w.loadInt8()
	}
	if w.err != nil {
		return w.err
	}
	m.Layers = make([]Layer, c.Layers)
	for i := range m.Layers {
		m.Layers[i] = w.layer(i)
	}
	m.Norm = w.vector("model.norm.weight", c.Hidden)
	switch {
	case !c.TiedHead:
		m.Head = w.product(c.Hidden, rows("lm_head", c.Vocab))
	case m.options.Weights == kernels.Int8:
		m.Head = w.product(c.Hidden, rows("model.embed_tokens", c.Vocab))
	default:
		m.Head = m.Embedding
	}
	return w.err
}

// weights uploads tensors until one fails.
type weights struct {
	model      *Model
	checkpoint *Checkpoint
	err        error
}

// tensorRows is a tensor that is a run of rows of a weight.
type tensorRows struct {
	name string // without .weight
	rows int
	bias bool
}

func rows(name string, rows int) tensorRows { return tensorRows{name: name, rows: rows} }

func (w *weights) layer(i int) Layer {
	c := w.model.Config
	prefix := fmt.Sprintf("model.layers.%d.", i)
	attn, mlp := prefix+"self_attn.", prefix+"mlp."
	qRows, kvRows := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	l := Layer{
		AttentionNorm: w.vector(prefix+"input_layernorm.weight", c.Hidden),
		QKV: w.product(c.Hidden,
			tensorRows{attn + "q_proj", qRows, c.QKVBias},
			tensorRows{attn + "k_proj", kvRows, c.QKVBias},
			tensorRows{attn + "v_proj", kvRows, c.QKVBias}),
		Proj:    w.product(qRows, rows(attn+"o_proj", c.Hidden)),
		MLPNorm: w.vector(prefix+"post_attention_layernorm.weight", c.Hidden),
	}
	if c.QKNorm {
		l.QNorm = w.vector(attn+"q_norm.weight", c.HeadDim)
		l.KNorm = w.vector(attn+"k_norm.weight", c.HeadDim)
	}
	if c.MoE.Experts == 0 || slices.Contains(c.MoE.DenseLayers, i) {
		l.GateUp, l.Down = w.mlp(mlp, c.Intermediate)
		return l
	}
	l.Router = w.matrix(c.Hidden, rows(mlp+"gate", c.MoE.Experts))
	l.ExpertGateUp = make([]kernels.Weight, c.MoE.Experts)
	l.ExpertDown = make([]kernels.Weight, c.MoE.Experts)
	for e := range c.MoE.Experts {
		l.ExpertGateUp[e], l.ExpertDown[e] = w.mlp(fmt.Sprintf("%sexperts.%d.", mlp, e), c.MoE.Intermediate)
	}
	return l
}

func (w *weights) mlp(prefix string, intermediate int) (gateUp, down kernels.Weight) {
	hidden := w.model.Config.Hidden
	return w.product(hidden, rows(prefix+"gate_proj", intermediate), rows(prefix+"up_proj", intermediate)),
		w.product(intermediate, rows(prefix+"down_proj", hidden))
}

// matrix is a weight of cols columns that lies in several tensors.
func (w *weights) matrix(cols int, tensors ...tensorRows) kernels.Weight {
	weight := kernels.Weight{Format: kernels.BF16, Cols: cols, Parts: make([]kernels.Part, len(tensors))}
	for i, t := range tensors {
		weight.Rows += t.rows
		weight.Parts[i] = kernels.Part{Rows: t.rows, Data: w.upload(t.name+".weight", t.rows, cols)}
		if t.bias {
			weight.Parts[i].Bias = w.upload(t.name+".bias", t.rows)
		}
	}
	return weight
}

func (w *weights) vector(name string, n int) kernels.Buffer { return w.upload(name, n) }

func (w *weights) upload(name string, shape ...int) kernels.Buffer {
	if w.err != nil {
		return kernels.Buffer{}
	}
	t, err := w.checkpoint.Weight(name, shape...)
	if err != nil {
		w.err = err
		return kernels.Buffer{}
	}
	b, err := w.model.device.Upload(t.Data)
	if err != nil {
		w.err = fmt.Errorf("tensor %q: %w", name, err)
		return kernels.Buffer{}
	}
	w.model.uploads = append(w.model.uploads, b)
	return b
}
