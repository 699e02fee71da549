package golden

import (
	"fmt"
	"math"
	"slices"
)

// Observed is what the model under test made of a case when it was fed the case's tokens, prompt and continuation.
type Observed struct {
	PromptLogprobs []float64 // [len(Tokens)] the first is ignored
	Top            []Logit   // largest logits after the prompt, at least as many as the case has
	Argmax         []int32   // [len(Greedy)] the most likely token where the reference chose Greedy[i]
	GreedyLogprobs []float64 // [len(Greedy)] of the reference's tokens; nil if the case has none
}

// Tolerance says how far a model may be from the reference. A limit of zero is no limit.
type Tolerance struct {
	Logprob float64 // of any one |Δ log p|, in nats
	Logit   float64 // of any one of the largest logits
	Mean    float64 // of the mean |Δ log p| over all positions of all cases
	P99     float64 // of its 99th percentile
	// Margin is the lead below which two tokens count as tied. Where the reference's lead is larger, the model's most
	// likely token must be the reference's.
	Margin float64
	// Flips is the largest share of those positions at which it may be another all the same, and Always the lead from which on
	// it may at none.
	Flips  float64
	Always float64
	// Compared is the least share of the greedy positions that must have a larger lead than Margin. A comparison that
	// looks at little proves little.
	Compared float64
}

// Float32 is the tolerance for float32 arithmetic with float32 keys and values: every position, within 0.001.
func Float32() Tolerance {
	return Tolerance{Logprob: 1e-3, Logit: 1e-3, Margin: 1e-3, Compared: 0.8}
}

// BF16 is the tolerance wherever something is rounded to bfloat16 on the way: at most 1.25 × the mean and 1.5 × the 99th
// percentile of what the reference's own bfloat16 run misses.
//
// A lead counts from three mean errors on. That is 1.7 standard deviations of the difference of two logits, so one lead in
// fifty may flip, but none of six mean errors or more. (Random models' own bfloat16 runs flip up to 4 of 92 that count.) Where
// fewer than 80 % of the leads are as large, they count from two mean errors on, and one in twenty may flip; where fewer are
// even then, because the reference's own error is larger than its leads, the most likely tokens are compared and not judged:
// JudgesArgmax says so. Where a file does not record the reference's own run the limits are a guess.
func BF16(f *File) Tolerance {
	e, recorded := f.BF16Error, f.BF16Error.Mean > 0
	if !recorded {
		e.Mean = unrecordedMean
	}
	if e.P99 == 0 {
		e.P99 = unrecordedP99 * e.Mean
	}
	t := Tolerance{Mean: 1.25 * e.Mean, P99: 1.5 * e.P99, Margin: 3 * e.Mean, Flips: 0.02, Always: 6 * e.Mean, Compared: 0.8}
	if !recorded {
		t.Always = 0 // in a mixture of experts with two experts nearly tied, rounding sends a token to the other one
	}
	if f.leadsAbove(t.Margin) < t.Compared {
		t.Margin, t.Flips = 2*e.Mean, 0.05
	}
	if f.leadsAbove(t.Margin) < t.Compared {
		t.Margin, t.Flips, t.Always, t.Compared = 3*e.Mean, 1, 0, 0
	}
	return t
}

// JudgesArgmax says whether the most likely tokens count.
func (t Tolerance) JudgesArgmax() bool { return t.Compared > 0 }

// leadsAbove is the share of the continuations at which the reference's lead is larger than margin; 1 for a file of none.
func (f *File) leadsAbove(margin float64) float64 {
	above, all := 0, 0
	for _, c := range f.Cases {
		for _, lead := range c.Margins {
			all++
			if lead > margin {
				above++
			}
		}
	}
	if all == 0 {
		return 1
	}
	return float64(above) / float64(all)
}

// Int8 is the tolerance for weights in int8: at most 3 × the mean and the 99th percentile of what the reference's own bfloat16
// run misses, and one lead in 33 may flip. Trained models stay within BF16's limits; random ones, whose weights int8 keeps
// worse than bfloat16 does and whose tokens are all about as likely, miss up to 2.5 × the mean.
func Int8(f *File) Tolerance {
	t := BF16(f)
	t.Mean, t.P99, t.Flips, t.Always = 3/1.25*t.Mean, 3/1.5*t.P99, max(t.Flips, 0.03), 0
	return t
}

// Within reports whether the errors of all numbers together are within the limits of another tolerance.
func (r Report) Within(tol Tolerance) bool {
	return !exceeds(r.Mean, tol.Mean) && !exceeds(r.P99, tol.P99)
}

// What counts where a file does not record the error of the reference's own bfloat16 run.
const (
	unrecordedMean = 0.0107 // of a random two-layer Qwen3, the smallest architecture that it was recorded for
	unrecordedP99  = 5      // times the mean: 4 for a normal distribution with some tail, 8 for a trained model
)

// CaseReport is one case compared.
type CaseReport struct {
	Tokens, Greedy int       // of the case
	Deltas         []float64 // |Δ log p| of every position compared, in order
	LogitMax       float64   // largest |Δ| of the largest logits
	Compared       int       // greedy positions with a lead larger than the margin
	Flips          []string  // those of them where the most likely token is another
	Failures       []string  // empty: every single limit holds
}

// Compare compares one case. Limits on single numbers are judged here, those on all numbers together by Summarize.
func Compare(ref Case, got Observed, tol Tolerance) CaseReport {
	r := CaseReport{Tokens: len(ref.Tokens), Greedy: len(ref.Greedy)}
	if err := got.check(ref); err != nil {
		r.failf("%v", err)
		return r
	}
	for i := 1; i < len(ref.Tokens); i++ {
		r.logprob("prompt", i, ref.Tokens[i], got.PromptLogprobs[i], ref.PromptLogprobs[i], tol)
	}
	r.top(ref.Top, got.Top, tol)
	for i, want := range ref.Greedy {
		if ref.GreedyLogprobs != nil {
			r.logprob("continuation", i, want, got.GreedyLogprobs[i], ref.GreedyLogprobs[i], tol)
		}
		if ref.Margins[i] <= tol.Margin {
			continue
		}
		r.Compared++
		if got.Argmax[i] != want {
			if tol.Always > 0 && ref.Margins[i] >= tol.Always {
				r.failf("continuation position %d: got token %d as the most likely, want %d (lead %.4g, and none of %.4g may flip)", i, got.Argmax[i], want, ref.Margins[i], tol.Always)
			}
			r.Flips = append(r.Flips, fmt.Sprintf("continuation position %d: got token %d as the most likely, want %d (lead %.4g)", i, got.Argmax[i], want, ref.Margins[i]))
		}
	}
	return r
}

// check says what of a case was not observed.
func (o *Observed) check(ref Case) error {
	switch {
	case len(o.PromptLogprobs) != len(ref.Tokens):
		return fmt.Errorf("got %d prompt log-probabilities, want %d", len(o.PromptLogprobs), len(ref.Tokens))
	case len(o.Top) < len(ref.Top):
		return fmt.Errorf("got the %d largest logits, want %d", len(o.Top), len(ref.Top))
	case len(o.Argmax) != len(ref.Greedy):
		return fmt.Errorf("got %d tokens of the continuation, want %d", len(o.Argmax), len(ref.Greedy))
	case ref.GreedyLogprobs != nil && len(o.GreedyLogprobs) != len(ref.Greedy):
		return fmt.Errorf("got %d log-probabilities of the continuation, want %d", len(o.GreedyLogprobs), len(ref.Greedy))
	}
	return nil
}

// logprob compares one log-probability. One that is not finite fails and stays out of the statistics.
func (r *CaseReport) logprob(where string, position int, token int32, got, want float64, tol Tolerance) {
	d := math.Abs(got - want)
	if !finite(d) {
		r.failf("%s position %d, token %d: got log p %v, want %.6f", where, position, token, got, want)
		return
	}
	r.Deltas = append(r.Deltas, d)
	if exceeds(d, tol.Logprob) {
		r.failf("%s position %d, token %d: got log p %.6f, want %.6f (|Δ| %.2g, limit %.2g)", where, position, token, got, want, d, tol.Logprob)
	}
}

// top compares the largest logits by token. A token that the model does not have among its own largest must be tied with
// the last of them.
func (r *CaseReport) top(want, got []Logit, tol Tolerance) {
	for _, w := range want {
		at := slices.IndexFunc(got, func(g Logit) bool { return g.Token == w.Token })
		if at < 0 {
			at = len(got) - 1
		}
		d := math.Abs(got[at].Logit - w.Logit)
		if !finite(d) {
			r.failf("logits after the prompt, token %d: got %v (token %d), want %.6f", w.Token, got[at].Logit, got[at].Token, w.Logit)
			continue
		}
		r.LogitMax = max(r.LogitMax, d)
		if exceeds(d, tol.Logit) {
			r.failf("logits after the prompt, token %d: got %.6f (token %d), want %.6f (|Δ| %.2g, limit %.2g)", w.Token, got[at].Logit, got[at].Token, w.Logit, d, tol.Logit)
		}
	}
}

func (r *CaseReport) failf(format string, args ...any) {
	r.Failures = append(r.Failures, fmt.Sprintf(format, args...))
}

// exceeds reports whether d breaks a limit; 0 is no limit.
func exceeds(d, limit float64) bool { return limit != 0 && d > limit }

func finite(d float64) bool { return !math.IsNaN(d) && !math.IsInf(d, 0) }
