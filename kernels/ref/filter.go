package ref

import (
	"cmp"
	"math"
	"slices"
)

// Weight is e^x for x ≤ 0 in units of 2⁻⁴⁰, rounded down. The sampler's filters add up whole numbers, whose sum does not
// depend on the order: so what they keep depends neither on how the vocabulary is searched nor on the number of threads.
// A token less likely than the first by a factor of 2⁴⁰ has no weight and is never drawn.
//
// It is made of operations that every processor rounds in the same way, so the same logits give the same tokens everywhere.
func Weight(x float64) uint64 {
	if x < -28 { // ln 2⁻⁴⁰ is −27.7
		return 0
	}
	halvings := int64(float64(x*(-1/math.Ln2)) + 0.5)
	r := x + float64(float64(halvings)*math.Ln2) // at most ln 2 / 2 from 0; conversions forbid fused multiply-adds
	// e^r by its series, even powers and odd ones apart: a processor adds up both at a time.
	rr := float64(r * r)
	even, odd := 1.0/3628800, 1.0/362880
	even, odd = float64(even*rr)+1.0/40320, float64(odd*rr)+1.0/5040
	even, odd = float64(even*rr)+1.0/720, float64(odd*rr)+1.0/120
	even, odd = float64(even*rr)+1.0/24, float64(odd*rr)+1.0/6
	even, odd = float64(even*rr)+1.0/2, float64(odd*rr)+1
	even = float64(even*rr) + 1
	e := even + float64(odd*r)
	return uint64(int64(e*(1<<61))) >> (21 + halvings)
}

// Share is the part p of total, rounded up: at least 1, at most total.
func Share(total uint64, p float32) uint64 {
	return min(max(uint64(math.Ceil(float64(p)*float64(total))), 1), total)
}

// Pick is the first of the tokens whose weights, added up in order, exceed uniform times their sum.
func Pick(weights []uint64, uniform float64) int {
	var total, sum uint64
	for _, w := range weights {
		total += w
	}
	target := min(uint64(uniform*float64(total)), total-1)
	for i, w := range weights {
		if sum += w; sum > target {
			return i
		}
	}
	return len(weights) - 1
}

// Penalize is a logit under penalties: divided by repetition if it is positive, multiplied with it if not (Keskar et al.,
// CTRL, 2019), for a token that is in the prompt or the output; less presence, and less frequency for each time, if it is
// output times in the output. A repetition of 0 is none.
func Penalize(logit, repetition, presence, frequency float32, output int32) float32 {
	switch {
	case repetition == 0:
	case logit > 0:
		logit /= repetition
	default:
		logit *= repetition
	}
	if output > 0 {
		logit -= presence
		logit -= float32(frequency * float32(output)) // the conversion forbids a fused multiply-add
	}
	return logit
}

// Clamp is a logit brought back among the finite numbers, if a bias or a penalty has moved it out. −Inf is a masked token
// and stays.
func Clamp(logit float32) float32 {
	if math.IsInf(float64(logit), -1) {
		return logit
	}
	return min(max(logit, -math.MaxFloat32), math.MaxFloat32)
}

// Filter says which tokens of a row may be drawn; see kernels.SampleFilter. Zero values filter nothing.
type Filter struct {
	TopK                 int
	TopP, MinP, TypicalP float32
}

// token is one that is left.
type token struct {
	id     int
	logit  float32
	x      float64 // (logit − largest) / temperature
	weight uint64
}

// Keep is the tokens that may be drawn at a temperature above 0, in the order of their ids, and their weights.
func Keep(logits []float32, temperature float32, f Filter) (ids []int, weights []uint64) {
	largest := float64(slices.Max(logits))
	var left []token
	for id, l := range logits {
		x := (float64(l) - largest) / float64(temperature)
		if w := Weight(x); w > 0 {
			left = append(left, token{id, l, x, w})
		}
	}
	slices.SortStableFunc(left, func(a, b token) int { return cmp.Compare(b.logit, a.logit) })
	if f.TopK > 0 {
		left = left[:min(f.TopK, len(left))]
	}
	if f.TopP > 0 && f.TopP < 1 {
		left = prefix(left, f.TopP)
	}
	if f.MinP > 0 {
		least := Share(left[0].weight, f.MinP)
		left = slices.DeleteFunc(left, func(t token) bool { return t.weight < least })
	}
	if f.TypicalP > 0 && f.TypicalP < 1 {
		left = typical(left, f.TypicalP)
	}
	slices.SortFunc(left, func(a, b token) int { return cmp.Compare(a.id, b.id) })
	for _, t := range left {
		ids, weights = append(ids, t.id), append(weights, t.weight)
	}
	return ids, weights
}

// sum is the tokens' weight.
func sum(tokens []token) (total uint64) {
	for _, t := range tokens {
		total += t.weight
	}
	return total
}

// prefix is the fewest first tokens that have the part p of the weight.
func prefix(tokens []token, p float32) []token {
	need, got := Share(sum(tokens), p), uint64(0)
	for i, t := range tokens {
		if got += t.weight; got >= need {
			return tokens[:i+1]
		}
	}
	return tokens
}

// typical is the fewest tokens that have the part p of the weight, those first whose surprise −log p is the nearest to its
// mean, the entropy (Meister et al., "Locally Typical Sampling", 2022).
func typical(tokens []token, p float32) []token {
	slices.SortFunc(tokens, func(a, b token) int { return cmp.Compare(a.id, b.id) })
	var mean float64
	for _, t := range tokens {
		mean += float64(t.weight) * t.x
	}
	mean /= float64(sum(tokens))
	slices.SortStableFunc(tokens, func(a, b token) int {
		return cmp.Compare(math.Abs(a.x-mean), math.Abs(b.x-mean))
	})
	return prefix(tokens, p)
}
