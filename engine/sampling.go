package engine

import (
	"maps"
	"math"
	"slices"
)

// Sampling says how tokens are chosen. The zero value is greedy, and a field that is zero asks for nothing.
//
// The fields are applied in this order: LogitBias and MinTokens, the penalties, Temperature, TopK, TopP, MinP, TypicalP;
// each works on what those before it have left. At temperature 0 the most likely token after biases and penalties is
// taken, so the fields after Temperature change nothing. Equally likely tokens count in the order of their ids.
//
// Log-probabilities, the likely tokens beside them and Token.Argmax are always the model's own, as if there were no
// Sampling at all.
type Sampling struct {
	Temperature float64 // 0: greedy
	// Seed makes sampling repeatable: the same seed gives the same text alone and in any batch.
	Seed uint64

	TopK     int     // draw from the k most likely tokens
	TopP     float64 // 0 to 1: from the fewest most likely tokens that together have this probability, the one that crosses it included
	MinP     float64 // 0 to 1: from the tokens that have at least this part of the largest probability
	TypicalP float64 // 0 to 1: like TopP, but those first whose −log p is the nearest to its mean (Meister et al., 2022)

	// RepetitionPenalty divides the logit of each token of prompt and output if it is positive, and multiplies it if it is
	// not (Keskar et al., CTRL, 2019). 0.01 to 100; above 1 it discourages.
	RepetitionPenalty float64
	// PresencePenalty is taken off the logit of each token of the output. -2 to 2; above 0 it discourages.
	PresencePenalty float64
	// FrequencyPenalty is taken off the logit of each token of the output for each time it is there. -2 to 2.
	FrequencyPenalty float64
	// LogitBias is added to the logits of tokens. -100 to 100, or -Inf for a token that must never come.
	LogitBias map[int32]float32
	// MinTokens is the least tokens of the text: before there are so many, no end-of-sequence or stop token can come. A stop
	// string may.
	MinTokens int
}

// maxPenalty bounds presence and frequency penalties, maxRepetition the other, and maxBias what is no mask.
const (
	maxPenalty    = 2
	maxRepetition = 100
	maxBias       = 100
)

// problems names every field that is wrong.
func (s *Sampling) problems(wrong func(string, ...any)) {
	within := func(field string, value, lo, hi float64) {
		if !(value >= lo && value <= hi) {
			wrong("Sampling.%s must be %v to %v, not %v", field, lo, hi, value)
		}
	}
	if t := s.Temperature; !(t >= 0 && t <= math.MaxFloat32) {
		wrong("Sampling.Temperature must be 0 or more, not %v", t)
	}
	if s.TopK < 0 {
		wrong("Sampling.TopK must be 0 or more, not %d", s.TopK)
	}
	within("TopP", s.TopP, 0, 1)
	within("MinP", s.MinP, 0, 1)
	within("TypicalP", s.TypicalP, 0, 1)
	if s.RepetitionPenalty != 0 {
		within("RepetitionPenalty", s.RepetitionPenalty, 1.0/maxRepetition, maxRepetition)
	}
	within("PresencePenalty", s.PresencePenalty, -maxPenalty, maxPenalty)
	within("FrequencyPenalty", s.FrequencyPenalty, -maxPenalty, maxPenalty)
	if s.MinTokens < 0 {
		wrong("Sampling.MinTokens must be 0 or more, not %d", s.MinTokens)
	}
}

// samplingProblems names every field of the request's sampling that is wrong, by itself or with the rest.
func (in *intake) samplingProblems(r *Request, wrong func(string, ...any)) {
	s := &r.Sampling
	s.problems(wrong)
	if r.MaxTokens > 0 && s.MinTokens > r.MaxTokens {
		wrong("Sampling.MinTokens is %d, more than MaxTokens %d", s.MinTokens, r.MaxTokens)
	}
	var never []int32
	for _, id := range slices.Sorted(maps.Keys(s.LogitBias)) {
		bias := s.LogitBias[id]
		switch {
		case id < 0 || int(id) >= in.vocab:
			wrong("Sampling.LogitBias is for token %d, outside the vocabulary of %d tokens", id, in.vocab)
		case math.IsInf(float64(bias), -1):
			never = append(never, id)
		case !(bias >= -maxBias && bias <= maxBias):
			wrong("Sampling.LogitBias of token %d must be %v to %v or -Inf, not %v", id, -maxBias, maxBias, bias)
		}
	}
	if s.MinTokens > 0 {
		never = append(never, in.endsOf(r)...)
	}
	slices.Sort(never)
	if len(slices.Compact(never)) >= in.vocab {
		wrong("Sampling.LogitBias and MinTokens together leave no token")
	}
}
