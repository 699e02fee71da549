package main

import (
	"math"

	"github.com/quire-llm/quire/engine"
)

// interval is an estimate with its 95 % confidence interval.
type interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// normal95 is the 97.5th percentile of the normal distribution.
const normal95 = 1.959963984540054

// paired estimates the mean of differences in [-1, 1], one of each question: how much more often one way is right than
// another on the same question. It is McNemar's setting. The interval is Wald's with half a pair added to each of the four
// cells (both right, one, the other, neither), so that it has a width also where no question differs. A. Agresti and Y. Min,
// "Simple improved confidence intervals for comparing matched proportions", Statistics in Medicine 24:729-740, 2005. A
// question that was asked several times counts once, with its mean: what it gave is not independent.
func paired(differences []float64) interval {
	if len(differences) == 0 {
		return interval{Low: -1, High: 1}
	}
	sum, squares := 0.0, 1.0 // half a pair of each difference, +1 and -1
	for _, d := range differences {
		sum += d
		squares += d * d
	}
	n := float64(len(differences)) + 2
	center := sum / n
	width := normal95 * math.Sqrt(max(squares-sum*sum/n, 0)) / n
	return interval{Value: sum / float64(len(differences)), Low: max(center-width, -1), High: min(center+width, 1)}
}

// divergence is the Kullback-Leibler divergence KL(p || q) of two distributions of the same token, in nats: over p's most
// likely tokens that q tells of, too, and all others as one. It is never more than that of the whole distributions.
func divergence(p, q engine.Token) float64 {
	known := map[int32]float64{q.ID: float64(q.Logprob)} // the token that both were led to
	for _, c := range q.Top {
		known[c.ID] = float64(c.Logprob)
	}
	d, pRest, qRest := 0.0, 1.0, 1.0
	for _, c := range p.Top {
		if other, ok := known[c.ID]; ok {
			own := float64(c.Logprob)
			d += math.Exp(own) * (own - other)
			pRest -= math.Exp(own)
			qRest -= math.Exp(other)
		}
	}
	const least = 1e-9 // below it the rest is rounding
	if pRest > least {
		d += pRest * (math.Log(pRest) - math.Log(max(qRest, least)))
	}
	return max(d, 0)
}
