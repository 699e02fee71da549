package model

import (
	"fmt"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/kernels"
)

// Batch is one packed step: rows of all sequences, each with its token, its position and the slot that its key and value
// go to. Decode rows come first, then prefill spans.
type Batch struct {
	// Tokens are [rows]. -(i+1) stands for the token that was sampled for row i of those asked for in the step before.
	Tokens []int32
	// Plan holds positions, slots and the attention work list of the same rows.
	Plan *attention.Plan
	// Asks are [rows] where the next token of each row is wanted and nothing more: see AskAll. Else they are empty.
	Asks []kernels.SampleRow
}

// Reserve makes room on the device for a batch with more segments or blocks than any before; where there is room it costs
// four comparisons. Call it before Device.Do, not within: Forward fails where there is no room.
func (m *Model) Reserve(b *Batch) error {
	sizes := b.Plan.Sizes()
	if err := m.lists.Reserve(sizes); err != nil {
		return err
	}
	return m.replays.reserve(m.device, sizes.Blocks)
}

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
	if len(b.Asks) > 0 && len(b.Asks) != len(b.Tokens) {
		return fmt.Errorf("got %d rows that ask of %d", len(b.Asks), len(b.Tokens))
	}
	if err := m.checkParams(b.Asks); err != nil {
		return err
	}
	for i, t := range b.Tokens {
		if t < 0 && int(-t) <= m.asked {
			continue
		}
		if t < 0 || int(t) >= m.Config.Vocab {
			return fmt.Errorf("row %d: token %d is outside the vocabulary of %d", i, t, m.Config.Vocab)
		}
	}
	return nil
}
