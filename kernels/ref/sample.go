package ref

import "math"

// Sample is what Draw says of a row of logits; see kernels.SampleOut.
type Sample struct {
	Token, Argmax    int
	Logit, LogSumExp float32
	Finite           bool
}

// Draw takes one token: want if it is not negative, the most likely one if temperature is 0, else the first whose
// cumulative probability at the given temperature exceeds uniform.
func Draw(logits []float32, temperature float32, want int, uniform float64) Sample {
	s := Sample{Finite: true}
	for i, l := range logits {
		if math.IsNaN(float64(l)) || math.IsInf(float64(l), 0) {
			s.Finite = false
		}
		if l > logits[s.Argmax] {
			s.Argmax = i
		}
	}
	max := float64(logits[s.Argmax])
	var sum float64
	for _, l := range logits {
		sum += math.Exp(float64(l) - max)
	}
	s.LogSumExp = float32(max + math.Log(sum))
	switch {
	case want >= 0:
		s.Token = want
	case temperature == 0:
		s.Token = s.Argmax
	default:
		s.Token = invert(logits, max, float64(temperature), uniform)
	}
	s.Logit = logits[s.Token]
	return s
}

// invert is the first token whose cumulative probability exceeds uniform.
func invert(logits []float32, max, temperature, uniform float64) int {
	var total float64
	for _, l := range logits {
		total += math.Exp((float64(l) - max) / temperature)
	}
	var sum float64
	last := 0 // the last with any probability, should rounding carry us past the end
	for i, l := range logits {
		p := math.Exp((float64(l) - max) / temperature)
		if sum += p; sum > uniform*total {
			return i
		}
		if p > 0 {
			last = i
		}
	}
	return last
}

// Top fills tokens with the largest logits in falling order, equal ones by smaller id, and values with their logits.
// Both have the same length, at most len(logits).
func Top(tokens []int32, values, logits []float32) {
	n := 0
	for id, l := range logits {
		at := n
		for at > 0 && l > values[at-1] {
			at--
		}
		if at == len(tokens) {
			continue
		}
		n = min(n+1, len(tokens))
		copy(tokens[at+1:n], tokens[at:])
		copy(values[at+1:n], values[at:])
		tokens[at], values[at] = int32(id), l
	}
}
