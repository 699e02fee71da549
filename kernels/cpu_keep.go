package kernels

import (
	"cmp"
	"math"
	"slices"

	"github.com/quire-llm/quire/kernels/ref"
)

// candidate is a token that may be left.
type candidate struct {
	score  float64 // larger is better, equal ones by smaller id
	weight uint64
	id     int32
}

// before says whether c comes before d.
func (c *candidate) before(d *candidate) bool {
	return c.score > d.score || c.score == d.score && c.id < d.id
}

// byID is the order of drawing.
func byID(a, b candidate) int { return cmp.Compare(a.id, b.id) }

// keep is the tokens that a filter leaves, in the order of their ids. Their scores mean nothing any more.
func keep(room []candidate, logits []float32, max, temperature float32, f *SampleFilter) []candidate {
	least := uint64(1)
	if f.MinP > 0 {
		least = ref.Share(ref.Weight(0), f.MinP)
	}
	few, nucleus := f.TopK > 0 && int(f.TopK) < len(logits), f.TopP > 0 && f.TopP < 1
	var left []candidate
	switch {
	case few:
		left = weigh(topK(room, logits, int(f.TopK)), max, temperature)
		if nucleus {
			left = left[:leading(left, ref.Share(weight(left), f.TopP))]
		}
	case nucleus:
		left = topP(room, logits, max, temperature, f.TopP)
	default:
		left = heavy(room, logits, max, temperature, least)
	}
	if few || nucleus {
		left = slices.DeleteFunc(left, func(c candidate) bool { return c.weight < least })
		slices.SortFunc(left, byID)
	}
	if f.TypicalP > 0 && f.TypicalP < 1 {
		left = typical(left, logits, max, temperature, f.TypicalP)
		slices.SortFunc(left, byID)
	}
	return left
}

// exponent is x, of which e^x is a token's weight.
func exponent(logit, max, temperature float32) float64 {
	return (float64(logit) - float64(max)) / float64(temperature)
}

// heavy gathers the tokens that have at least the given weight.
func heavy(room []candidate, logits []float32, max, temperature float32, least uint64) []candidate {
	left := room[:0]
	// Exponents below it need not be computed: e^x is off by far less than the slack.
	lowest := math.Log(float64(least)/float64(ref.Weight(0))) - 1e-6
	for id, l := range logits {
		x := exponent(l, max, temperature)
		if x < lowest {
			continue
		}
		if w := ref.Weight(x); w >= least {
			left = append(left, candidate{float64(l), w, int32(id)})
		}
	}
	return left
}

// weigh gives candidates their weights and drops those that have none.
func weigh(left []candidate, max, temperature float32) []candidate {
	for i := range left {
		left[i].weight = ref.Weight(exponent(float32(left[i].score), max, temperature))
	}
	return slices.DeleteFunc(left, func(c candidate) bool { return c.weight == 0 })
}

// topK gathers the k largest logits, k less than all. Whenever the gathered are twice too many, the smaller ones go and set
// the mark for those to come.
func topK(room []candidate, logits []float32, k int) []candidate {
	size := min(len(logits), max(2*k, 1024))
	left, mark := room[:0], float32(math.Inf(-1))
	for id, l := range logits {
		if l <= mark { // an equal one has a larger id than those gathered
			continue
		}
		left = append(left, candidate{float64(l), 1, int32(id)})
		if len(left) == size {
			left = left[:leading(left, uint64(k))]
			mark = l
			for i := range left {
				mark = min(mark, float32(left[i].score))
			}
		}
	}
	return left[:leading(left, uint64(k))]
}

// topP gathers the fewest of the largest logits that have the part p of the weight.
func topP(room []candidate, logits []float32, max, temperature, p float32) []candidate {
	var total uint64
	for _, l := range logits {
		total += ref.Weight(exponent(l, max, temperature))
	}
	need := ref.Share(total, p)
	// What weighs so little that all of it together could go is not gathered.
	light := (total - need) / uint64(len(logits))
	left := heavy(room, logits, max, temperature, light+1)
	return left[:leading(left, need)]
}

// typical leaves the fewest that have the part p of the weight, the nearest to the mean exponent first: −log p of a token
// differs from its exponent by a constant, and so does the entropy from the mean. left comes in the order of ids.
func typical(left []candidate, logits []float32, max, temperature, p float32) []candidate {
	var mean float64
	for i := range left {
		left[i].score = exponent(logits[left[i].id], max, temperature)
		mean += float64(float64(left[i].weight) * left[i].score)
	}
	mean /= float64(weight(left))
	for i := range left {
		left[i].score = -math.Abs(left[i].score - mean)
	}
	return left[:leading(left, ref.Share(weight(left), p))]
}

// weight is the sum of the candidates' weights.
func weight(left []candidate) (total uint64) {
	for i := range left {
		total += left[i].weight
	}
	return total
}

// leading moves the first candidates to the front, as many as it takes to have the needed weight, and returns how many: all
// where all have less. It is a quickselect: of each half it looks at the one that holds the end.
func leading(left []candidate, need uint64) int {
	lo, hi := 0, len(left)
	for random := uint64(1); lo < hi; {
		random = random*6364136223846793005 + 1442695040888963407 // any pivot does; no input shall be the worst one
		at := lo + int(random>>33%uint64(hi-lo))
		middle := partition(left[lo:hi], at-lo) + lo
		switch front := weight(left[lo:middle]); {
		case front >= need:
			hi = middle
		case front+left[middle].weight >= need:
			return middle + 1
		default:
			need -= front + left[middle].weight
			lo = middle + 1
		}
	}
	return lo
}

// partition moves the candidates before the one at pivot to its left, the others to its right, and returns its new place.
func partition(c []candidate, pivot int) int {
	last := len(c) - 1
	c[pivot], c[last] = c[last], c[pivot]
	at := 0
	for i := range c[:last] {
		if c[i].before(&c[last]) {
			c[i], c[at] = c[at], c[i]
			at++
		}
	}
	c[at], c[last] = c[last], c[at]
	return at
}
