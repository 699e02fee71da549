package model

import (
	"sync/atomic"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/kernels"
)

// Model is a decoder on a device: its weights and the buffers that one step at a time uses. Forward, Logits and Sample
// run within Device.Do and must not run at the same time.
type Model struct {
	Config    Config
	Layers    []Layer
	Embedding kernels.Weight // [Vocab, Hidden]
	Norm      kernels.Buffer // [Hidden] bfloat16, of the last RMSNorm
	Head      kernels.Weight // [Vocab, Hidden]; Embedding where it is tied, but for its format
	Rope      kernels.Buffer // [MaxContext, HeadDim] float32, see Rope.Table

	device  *kernels.Device
	options LoadOptions
	memory  Memory
	uploads []kernels.Buffer // weights
	image   int8Image        // of weights in int8
	act     activations
	filters filterBuffers
	lists   *attention.Buffers
	step    step
	rows    int // of the last Forward
	logits  int // rows of the last Logits
	asked   int // rows that were asked for since the last Forward
	index   []int32
	replays replays
	// replaying is the recording that the last Forward used; nil if none.
	replaying *recording
	computed  atomic.Int64
}

// Layer is one decoder layer: plain data, so that a kernel which runs all layers can read the table too. A layer has
// either GateUp and Down or the experts.
type Layer struct {
	AttentionNorm kernels.Buffer // [Hidden] bfloat16
	QKV           kernels.Weight // [(Heads+2·KVHeads)·HeadDim, Hidden]
	QNorm, KNorm  kernels.Buffer // [HeadDim] bfloat16, or zero
	Proj          kernels.Weight // [Hidden, Heads·HeadDim]

	MLPNorm kernels.Buffer // [Hidden] bfloat16
	GateUp  kernels.Weight // [2·Intermediate, Hidden]
	Down    kernels.Weight // [Hidden, Intermediate]

	Router       kernels.Weight   // [Experts, Hidden]
	ExpertGateUp []kernels.Weight // [Experts] of [2·MoE.Intermediate, Hidden]
	ExpertDown   []kernels.Weight // [Experts] of [Hidden, MoE.Intermediate]
}

// activations are the buffers of a step. Their sizes follow from the options, so their addresses never change.
type activations struct {
	tokens   kernels.Buffer // [MaxRows] int32
	hidden   kernels.Buffer // [MaxRows, Hidden], the residual stream
	qkv      kernels.Buffer // [MaxRows, (Heads+2·KVHeads)·HeadDim]
	attended kernels.Buffer // [MaxRows, Heads·HeadDim]
	gateUp   kernels.Buffer // [MaxRows, 2·Intermediate]

	index     kernels.Buffer // [MaxLogitRows] int32
	logits    kernels.Buffer // [MaxLogitRows, Vocab] float32
	params    kernels.Buffer // [MaxLogitRows] SampleRow
	sampled   kernels.Buffer // [MaxRows] SampleOut
	topTokens kernels.Buffer // [MaxLogitRows, MaxTop] int32
	topLogits kernels.Buffer // [MaxLogitRows, MaxTop] float32
}

// MaxTop is the most of the largest logits that Sample gives for a row.
const MaxTop = 64

// TokensComputed is the number of rows that have gone through Forward. It may be called at any time.
func (m *Model) TokensComputed() int64 { return m.computed.Load() }

// Memory is what the model takes.
func (m *Model) Memory() Memory { return m.memory }

// Options are the model's, with defaults filled in.
func (m *Model) Options() LoadOptions { return m.options }

// Close gives the model's memory back. The checkpoint may be closed after it. Twice is fine.
func (m *Model) Close() {
	for _, b := range m.uploads {
		m.device.Free(b)
	}
	m.uploads = nil
	_ = unmap(m.image.data) // it fails only for what is no map
	m.image = int8Image{}
	for _, p := range m.act.parts(m.Config, m.options, m.device.ActivationBytes()) {
		m.device.Free(*p.buffer)
		*p.buffer = kernels.Buffer{}
	}
	m.filters.free(m.device)
	m.device.Free(m.Rope)
	m.Rope = kernels.Buffer{}
	if m.lists != nil {
		m.lists.Free()
	}
	m.replays.free(m.device)
}
