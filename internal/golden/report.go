package golden

import (
	"fmt"
	"slices"
	"strings"
)

// Report is a whole file compared. The JSON form is what tools record.
type Report struct {
	Cases          int      `json:"cases"`
	Positions      int      `json:"positions"` // log-probabilities compared
	Mean           float64  `json:"mean"`      // of |Δ log p|, in nats
	P99            float64  `json:"p99"`
	Max            float64  `json:"max"`
	LogitMax       float64  `json:"logit_max"`       // largest |Δ| of the largest logits after the prompts
	Greedy         int      `json:"greedy"`          // greedy positions in the file
	GreedyCompared int      `json:"greedy_compared"` // of them, those with a lead larger than the margin
	GreedyFlipped  int      `json:"greedy_flipped"`  // of them, those where the most likely token is another
	Failures       []string `json:"failures"`        // empty: passed
}

// Passed reports whether every limit holds.
func (r Report) Passed() bool { return len(r.Failures) == 0 }

// ComparedShare is the share of the greedy positions that were compared; 1 where there are none.
func (r Report) ComparedShare() float64 {
	if r.Greedy == 0 {
		return 1
	}
	return float64(r.GreedyCompared) / float64(r.Greedy)
}

// Err is nil if the report passed, else an error that gives the first failures and counts the rest.
func (r Report) Err() error {
	const shown = 5
	switch n := len(r.Failures); {
	case n == 0:
		return nil
	case n <= shown:
		return fmt.Errorf("golden: %s", strings.Join(r.Failures, "; "))
	default:
		return fmt.Errorf("golden: %s; and %d more", strings.Join(r.Failures[:shown], "; "), n-shown)
	}
}

// String is the report in one line.
func (r Report) String() string {
	return fmt.Sprintf("%d positions, |Δ log p| mean %.3g, p99 %.3g, max %.3g; logits max %.3g; greedy %d of %d compared, %d flipped; %d failures",
		r.Positions, r.Mean, r.P99, r.Max, r.LogitMax, r.GreedyCompared, r.Greedy, r.GreedyFlipped, len(r.Failures))
}

// Summarize puts the cases of a file together and judges the limits that concern all of them.
func Summarize(cases []CaseReport, tol Tolerance) Report {
	r := Report{Cases: len(cases), Failures: []string{}}
	var deltas []float64
	var flips []string
	for i, c := range cases {
		deltas = append(deltas, c.Deltas...)
		r.LogitMax = max(r.LogitMax, c.LogitMax)
		r.Greedy += c.Greedy
		r.GreedyCompared += c.Compared
		for _, f := range c.Failures {
			r.failf("case %d: %s", i, f)
		}
		for _, f := range c.Flips {
			flips = append(flips, fmt.Sprintf("case %d: %s", i, f))
		}
	}
	r.GreedyFlipped = len(flips)
	if float64(len(flips)) > tol.Flips*float64(r.GreedyCompared) {
		r.Failures = append(r.Failures, flips...)
	}
	r.Positions = len(deltas)
	r.Mean, r.P99, r.Max = mean(deltas), quantile(deltas, 0.99), quantile(deltas, 1)
	if r.Positions == 0 && r.Greedy == 0 {
		r.failf("nothing was compared")
	}
	if exceeds(r.Mean, tol.Mean) {
		r.failf("mean |Δ log p| %.3g, limit %.3g", r.Mean, tol.Mean)
	}
	if exceeds(r.P99, tol.P99) {
		r.failf("99th percentile of |Δ log p| %.3g, limit %.3g", r.P99, tol.P99)
	}
	if share := r.ComparedShare(); share < tol.Compared {
		r.failf("only %d of %d greedy positions have a lead above %.3g, want %.0f %%", r.GreedyCompared, r.Greedy, tol.Margin, 100*tol.Compared)
	}
	return r
}

func (r *Report) failf(format string, args ...any) {
	r.Failures = append(r.Failures, fmt.Sprintf(format, args...))
}

func mean(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	var sum float64
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// quantile interpolates linearly between the two nearest values, as torch.quantile does.
func quantile(x []float64, q float64) float64 {
	if len(x) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(x))
	at := q * float64(len(s)-1)
	lo := int(at)
	hi := min(lo+1, len(s)-1)
	return s[lo] + (at-float64(lo))*(s[hi]-s[lo])
}
