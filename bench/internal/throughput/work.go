package throughput

import (
	"time"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/model"
)

// modelCost is what a model's forward pass must read and compute at least. Experts of a mixture are not known to be read,
// so there it is zero and no shares are given.
type modelCost struct {
	layerParameters float64 // of the layers' matrices
	headParameters  float64
	stepBytes       float64 // weights that a step reads once
	kvBytes         float64 // of a token's keys and values
	pairOperations  float64 // of attention, for a row and a token that it sees
}

func costOf(c model.Config, weights kernels.Format, kvBytesPerToken int) modelCost {
	if c.MoE.Experts > 0 {
		return modelCost{}
	}
	cost := modelCost{
		headParameters: float64(c.Vocab) * float64(c.Hidden),
		stepBytes:      float64(c.ProductBytes(weights)),
		kvBytes:        float64(kvBytesPerToken),
		pairOperations: 4 * float64(c.Heads) * float64(c.HeadDim) * float64(c.Layers),
	}
	for name, size := range c.Weights() {
		if name != "model.embed_tokens.weight" && name != "lm_head.weight" && len(size) == 2 {
			cost.layerParameters += float64(size[0]) * float64(size[1])
		}
	}
	return cost
}

// phase is the work that a part of a call cannot do without, and how long it took.
type phase struct {
	Seconds    float64 `json:"seconds"`
	Steps      int     `json:"steps,omitempty"` // of decoding
	Tokens     int     `json:"tokens"`          // prompt tokens read, or tokens decoded
	Bytes      float64 `json:"bytes,omitempty"` // weights once a step, keys and values once a row
	Operations float64 `json:"operations"`      // a multiply-add is two
}

// work splits a call in two at the moment when the last request got its first token, and counts what must be read and
// computed at least in each part. Answers come with the time of every token; those of a step have the same. Tokens that all
// prompts share are computed once, and read once a step.
func (c *modelCost) work(results []engine.Result, start time.Time, shared int) (prefill, decode phase) {
	var begin time.Time
	for _, r := range results {
		if len(r.At) > 0 && r.At[0].After(begin) {
			begin = r.At[0]
		}
	}
	end := begin
	steps := map[time.Time]bool{}
	for _, r := range results {
		if len(r.At) == 0 {
			continue
		}
		prompt, known := r.Usage.PromptTokens, shared
		if prefill.Tokens == 0 {
			known = 0 // the first one computes for all
		}
		prefill.Tokens += prompt
		prefill.Operations += c.operations(prompt-known, float64(prompt)*float64(prompt+1)/2-float64(known)*float64(known+1)/2, 1)
		for k := 1; k < len(r.At); k++ {
			seen := float64(prompt + k)
			if !r.At[k].After(begin) { // others were still reading their prompts
				prefill.Operations += c.operations(1, seen, 1)
				continue
			}
			steps[r.At[k]] = true
			decode.Tokens++
			decode.Bytes += (seen - float64(shared)) * c.kvBytes
			decode.Operations += c.operations(1, seen, 1)
			if r.At[k].After(end) {
				end = r.At[k]
			}
		}
	}
	decode.Steps = len(steps)
	decode.Bytes += float64(decode.Steps) * (c.stepBytes + float64(shared)*c.kvBytes)
	prefill.Seconds, decode.Seconds = max(begin.Sub(start).Seconds(), 0), end.Sub(begin).Seconds()
	return prefill, decode
}

// operations of so many rows that see so many tokens in all, with the head for some of them.
func (c *modelCost) operations(rows int, seen float64, heads int) float64 {
	return 2*c.layerParameters*float64(rows) + seen*c.pairOperations + 2*c.headParameters*float64(heads)
}
