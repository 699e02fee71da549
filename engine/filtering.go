package engine

import (
	"maps"
	"math"
	"slices"

	"github.com/quire-llm/quire/kernels"
)

// filtering is what a sequence asks of the sampler besides its temperature. It follows from the request and the tokens
// alone, so preemption does not touch it.
type filtering struct {
	filter kernels.SampleFilter // without the lists
	biases []kernels.TokenBias  // by token

	ends []kernels.TokenBias // masks for the first tokens
	min  int                 // tokens that must come before ends may

	counting bool
	counts   []kernels.TokenCount // by token: of the output, and of the prompt if repetition is penalized
}

// newFiltering is nil if nothing is asked for. ends are the tokens that end the text.
func newFiltering(s *Sampling, prompt, ends []int32) *filtering {
	f := &filtering{filter: kernels.SampleFilter{
		TopK:             int32(min(s.TopK, math.MaxInt32)),
		TopP:             part(s.TopP),
		MinP:             part(s.MinP),
		TypicalP:         part(s.TypicalP),
		PresencePenalty:  float32(s.PresencePenalty),
		FrequencyPenalty: float32(s.FrequencyPenalty),
	}}
	if s.RepetitionPenalty != 1 {
		f.filter.RepetitionPenalty = float32(s.RepetitionPenalty)
	}
	if f.filter.TopP == 1 {
		f.filter.TopP = 0
	}
	if f.filter.TypicalP == 1 {
		f.filter.TypicalP = 0
	}
	for _, id := range slices.Sorted(maps.Keys(s.LogitBias)) {
		f.biases = append(f.biases, kernels.TokenBias{Token: id, Bias: s.LogitBias[id]})
	}
	if s.MinTokens > 0 {
		f.min = s.MinTokens
		for _, id := range ends {
			f.ends = append(f.ends, kernels.TokenBias{Token: id, Bias: float32(math.Inf(-1))})
		}
	}
	f.counting = f.filter.RepetitionPenalty != 0 || f.filter.PresencePenalty != 0 || f.filter.FrequencyPenalty != 0
	if f.filter == (kernels.SampleFilter{}) && len(f.biases)+len(f.ends) == 0 {
		return nil
	}
	if f.filter.RepetitionPenalty != 0 {
		tokens := slices.Clone(prompt)
		slices.Sort(tokens)
		for _, id := range slices.Compact(tokens) {
			f.counts = append(f.counts, kernels.TokenCount{Token: id})
		}
	}
	return f
}

// part is a part of 1 as the kernels take it: what is more than nothing stays so.
func part(p float64) float32 {
	if p > 0 {
		return max(float32(p), math.SmallestNonzeroFloat32)
	}
	return 0
}

// remembers says whether what is asked of the sampler depends on the tokens that it has drawn before. Biases do not, and
// neither does MinTokens, which depends on how many there are.
func (f *filtering) remembers() bool { return f != nil && f.counting }

// took counts a token of the output.
func (f *filtering) took(token int32) {
	if !f.remembers() {
		return
	}
	at, found := slices.BinarySearchFunc(f.counts, token, func(c kernels.TokenCount, token int32) int { return int(c.Token) - int(token) })
	if !found {
		f.counts = slices.Insert(f.counts, at, kernels.TokenCount{Token: token})
	}
	f.counts[at].Output++
}
