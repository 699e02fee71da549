package suite

import (
	"github.com/quire-llm/quire/internal/pyrand"
)

// The original draws prompts of randint(100, max_input_len) ids in 0..10000.
const (
	minInputTokens = 100
	maxDrawnID     = 10000
)

// Prompts draws token ids as the original scripts do. Whatever the model, the stream is the same.
type Prompts struct {
	random *pyrand.Random
	// Modulo is the size of the model's ordinary vocabulary where it is smaller than the ids drawn: every id is taken
	// modulo it. 0: ids are as drawn.
	Modulo int

	vocab int // ids below it are no special tokens
	text  *text
}

// NewPrompts starts the stream of a seed for a model whose ids below ordinaryVocab are no special tokens.
func NewPrompts(seed int64, ordinaryVocab int) *Prompts {
	p := &Prompts{random: pyrand.New(seed), vocab: ordinaryVocab}
	if ordinaryVocab <= maxDrawnID {
		p.Modulo = ordinaryVocab
	}
	return p
}

// Again starts the stream of another seed for the same model. It draws ids alone, no texts.
func (p *Prompts) Again(seed int64) *Prompts { return NewPrompts(seed, p.vocab) }

// unboundPrompts is the stream of a seed without a model.
func unboundPrompts(seed int64) *Prompts { return NewPrompts(seed, maxDrawnID+1) }

// Draw draws one prompt of randint(100, maxTokens) ids; maxTokens below 100 is the length itself.
func (p *Prompts) Draw(maxTokens int) []int32 {
	return p.IDs(p.random.IntRange(min(minInputTokens, maxTokens), maxTokens))
}

// IDs draws n token ids.
func (p *Prompts) IDs(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		id := p.random.IntRange(0, maxDrawnID)
		if p.Modulo > 0 {
			id %= p.Modulo
		}
		ids[i] = int32(id)
	}
	return ids
}

// Length draws one number in [low, high], as random.randint does.
func (p *Prompts) Length(low, high int) int { return p.random.IntRange(low, high) }
