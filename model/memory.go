package model

import (
	"unsafe"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/kernels"
)

// Memory is what a loaded model takes on its device, in bytes, without the cache.
type Memory struct {
	Weights     int64
	Activations int64 // of one step, with its lists and logits
	Graphs      int64 // inputs of steps that are replayed; the graphs themselves are the driver's
	Rope        int64
}

// Total is the sum.
func (m Memory) Total() int64 { return m.Weights + m.Activations + m.Graphs + m.Rope }

// PlanMemory says what Load would take, before a weight is read. activationBytes is the device's.
func PlanMemory(c Config, o LoadOptions, activationBytes int) Memory {
	o = o.withDefaults(c)
	var m Memory
	if o.Weights == kernels.Int8 {
		m.Weights = c.int8Bytes()
	}
	replaced := c.replaced(o.Weights)
	for name, shape := range c.Weights() {
		if replaced[name] {
			continue
		}
		n := int64(2) // bytes of a bfloat16
		for _, d := range shape {
			n *= int64(d)
		}
		m.Weights += n
	}
	var a activations
	for _, p := range a.parts(c, o, activationBytes) {
		m.Activations += int64(p.bytes)
	}
	m.Activations += int64(o.lists().Bytes())
	if activationBytes == 2 { // of a device that replays
		m.Graphs = int64(o.packedBytes(o.lists().Blocks))
	}
	m.Rope = 4 * int64(o.MaxContext) * int64(c.HeadDim)
	return m
}

// part is a buffer and its size.
type part struct {
	buffer *kernels.Buffer
	bytes  int
}

// parts lists the buffers with the sizes that they have or shall have.
func (a *activations) parts(c Config, o LoadOptions, activationBytes int) []part {
	rows, logitRows, act := o.MaxRows, o.MaxLogitRows, activationBytes
	return []part{
		{&a.tokens, rows * 4},
		{&a.hidden, rows * c.Hidden * act},
		{&a.qkv, rows * (c.Heads + 2*c.KVHeads) * c.HeadDim * act},
		{&a.attended, rows * c.Heads * c.HeadDim * act},
		{&a.gateUp, rows * 2 * c.Intermediate * act},
		{&a.index, logitRows * 4},
		{&a.logits, logitRows * c.Vocab * 4},
		{&a.params, logitRows * sampleRowBytes},
		{&a.sampled, max(rows, logitRows) * sampleOutBytes},
		{&a.topTokens, logitRows * MaxTop * 4},
		{&a.topLogits, logitRows * MaxTop * 4},
	}
}

const (
	sampleRowBytes = int(unsafe.Sizeof(kernels.SampleRow{}))
	sampleOutBytes = int(unsafe.Sizeof(kernels.SampleOut{}))
)

// lists is the room for work lists that a model starts with: every row of a step a sequence of its own with a past of
// 1024 tokens in two segments, that shares them on two levels. Reserve makes more.
func (o LoadOptions) lists() attention.Sizes {
	return attention.Sizes{Rows: o.MaxRows, Segments: 2 * o.MaxRows, Blocks: 64 * o.MaxRows, Shared: 2 * o.MaxRows}
}
