package ref

import "math"

// Route picks the len(experts) experts with the largest router logits, equal ones by smaller index, and gives their
// probabilities: a softmax over all logits, divided by the sum of the chosen ones where normalize is set. experts and
// weights have the same length; the experts come in ascending order.
func Route(experts []int32, weights, logits []float32, normalize bool) {
	max := math.Inf(-1)
	for _, l := range logits {
		max = math.Max(max, float64(l))
	}
	var sum float64
	for _, l := range logits {
		sum += math.Exp(float64(l) - max)
	}
	n := 0
	for e, l := range logits { // insert into the list, which is in falling order
		at := n
		for at > 0 && l > logits[experts[at-1]] {
			at--
		}
		if at == len(experts) {
			continue
		}
		n = min(n+1, len(experts))
		copy(experts[at+1:n], experts[at:])
		experts[at] = int32(e)
	}
	if normalize {
		sum = 0
		for _, e := range experts {
			sum += math.Exp(float64(logits[e]) - max)
		}
	}
	for i := 1; i < n; i++ { // ascending, by insertion
		for j := i; j > 0 && experts[j] < experts[j-1]; j-- {
			experts[j], experts[j-1] = experts[j-1], experts[j]
		}
	}
	for i, e := range experts {
		weights[i] = float32(math.Exp(float64(logits[e])-max) / sum)
	}
}
