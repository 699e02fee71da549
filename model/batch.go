package model

import (
	"fmt"

	"github.com/quire-llm/quire/attention"
)

// Batch is one packed step: rows of all sequences, each with its token, its position and the slot that its key and value
// go to. Decode rows come first, then prefill spans.
type Batch struct {
	Tokens []int32 // [rows]
	// Plan holds positions, slots and the attention work list of the same rows.
	Plan *attention.Plan
}

// Reserve makes room on the device for a batch with more segments or blocks than any before; where there is room it costs
// four comparisons. Call it before Device.Do, not within: Forward fails where there is no room.
func (m *Model) Reserve(b *Batch) error { return m.lists.Reserve(b.Plan.Sizes()) }

// check says what is wrong with a batch.
func (m *Model) check(b *Batch, kv *KV) error {
	plan := b.Plan
	switch rows := len(b.Tokens); {
	case rows != plan.Rows():
		return fmt.Errorf("got %d tokens for %d rows of the plan", rows, plan.Rows())
	case rows < 1 || rows > m.options.MaxRows:
		return fmt.Errorf("got %d rows, want 1 to %d", rows, m.options.MaxRows)
	case plan.MaxPosition() >= m.options.MaxContext:
		return fmt.Errorf("got position %d, but the context is %d tokens", plan.MaxPosition(), m.options.MaxContext)
	case plan.BlockTokens() != kv.blockTokens:
		return fmt.Errorf("got a plan over blocks of %d tokens, but the cache has blocks of %d", plan.BlockTokens(), kv.blockTokens)
	case plan.MaxBlock() > kv.blocks:
		return fmt.Errorf("got block %d, but the cache has %d", plan.MaxBlock(), kv.blocks)
	case len(kv.layers) != len(m.Layers):
		return fmt.Errorf("got a cache of %d layers, but the model has %d", len(kv.layers), len(m.Layers))
	}
	for i, t := range b.Tokens {
		if t < 0 || int(t) >= m.Config.Vocab {
			return fmt.Errorf("row %d: token %d is outside the vocabulary of %d", i, t, m.Config.Vocab)
		}
	}
	return nil
}
