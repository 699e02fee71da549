package golden

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// perfect is an observation that repeats the reference.
func perfect(c Case) Observed {
	return Observed{
		PromptLogprobs: slices.Clone(c.PromptLogprobs),
		Top:            slices.Clone(c.Top),
		Argmax:         slices.Clone(c.Greedy),
		GreedyLogprobs: slices.Clone(c.GreedyLogprobs),
	}
}

func sample() Case {
	return Case{
		Tokens:         []int32{7, 8, 9},
		PromptLogprobs: []float64{0, -1, -2},
		Top:            []Logit{{4, 3}, {5, 2.9}, {6, 1}},
		Greedy:         []int32{4, 5},
		GreedyLogprobs: []float64{-0.5, -0.25},
		Margins:        []float64{0.1, 0.0005},
	}
}

func TestCompare(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Observed)
		tol    Tolerance
		want   []string // one substring for each failure
	}{
		{name: "the same", change: func(*Observed) {}},
		{name: "within the tolerance", change: func(o *Observed) {
			o.PromptLogprobs[2] += 0.0009
			o.Top[1].Logit -= 0.0009
		}},
		{name: "the first prompt token has no log-probability", change: func(o *Observed) { o.PromptLogprobs[0] = math.NaN() }},
		{name: "prompt log-probability", change: func(o *Observed) { o.PromptLogprobs[1] += 0.02 },
			want: []string{"prompt position 1, token 8: got log p -0.98"}},
		{name: "continuation log-probability", change: func(o *Observed) { o.GreedyLogprobs[1] -= 0.02 },
			want: []string{"continuation position 1, token 5"}},
		{name: "NaN", change: func(o *Observed) { o.PromptLogprobs[2] = math.NaN() },
			want: []string{"got log p NaN"}},
		{name: "NaN without limits", tol: Tolerance{Compared: 0.01}, change: func(o *Observed) { o.GreedyLogprobs[0] = math.Inf(-1) },
			want: []string{"got log p -Inf"}},
		{name: "a logit", change: func(o *Observed) { o.Top[0].Logit += 0.01 },
			want: []string{"logits after the prompt, token 4: got 3.01"}},
		{name: "a logit that is not finite", change: func(o *Observed) { o.Top[0].Logit = math.Inf(1) },
			want: []string{"logits after the prompt, token 4: got +Inf"}},
		{name: "tied last logits may change places", change: func(o *Observed) { o.Top[2] = Logit{11, 1.0004} }},
		{name: "another token among the largest", change: func(o *Observed) { o.Top[1].Token = 12 },
			want: []string{"token 5: got 1.000000 (token 6)"}},
		{name: "argmax", change: func(o *Observed) { o.Argmax[0] = 5 },
			want: []string{"continuation position 0: got token 5 as the most likely, want 4"}},
		{name: "argmax of a near-tie", change: func(o *Observed) { o.Argmax[1] = 4 }},
		{name: "too few prompt positions", change: func(o *Observed) { o.PromptLogprobs = o.PromptLogprobs[:2] },
			want: []string{"got 2 prompt log-probabilities, want 3"}},
		{name: "too few logits", change: func(o *Observed) { o.Top = o.Top[:1] },
			want: []string{"got the 1 largest logits, want 3"}},
		{name: "too few tokens", change: func(o *Observed) { o.Argmax = nil },
			want: []string{"got 0 tokens of the continuation, want 2"}},
		{name: "no log-probabilities of the continuation", change: func(o *Observed) { o.GreedyLogprobs = nil },
			want: []string{"got 0 log-probabilities of the continuation, want 2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tol := tt.tol
			if tol == (Tolerance{}) {
				tol = Float32()
			}
			ref := sample()
			got := perfect(ref)
			tt.change(&got)
			r := Summarize([]CaseReport{Compare(ref, got, tol)}, Tolerance{})
			require.Len(t, r.Failures, len(tt.want), "failures: %q", r.Failures)
			for i, want := range tt.want {
				require.Contains(t, r.Failures[i], want)
			}
		})
	}
}

func TestSummarize(t *testing.T) {
	tenths := CaseReport{Greedy: 10, Compared: 8, Deltas: []float64{0.1, 0.2, 0.3, 0.4}, LogitMax: 0.5}
	tests := []struct {
		name  string
		cases []CaseReport
		tol   Tolerance
		want  []string
	}{
		{name: "no limits", cases: []CaseReport{tenths}},
		{name: "mean", cases: []CaseReport{tenths}, tol: Tolerance{Mean: 0.24}, want: []string{"mean |Δ log p| 0.25, limit 0.24"}},
		{name: "mean kept", cases: []CaseReport{tenths}, tol: Tolerance{Mean: 0.26}},
		{name: "99th percentile", cases: []CaseReport{tenths}, tol: Tolerance{P99: 0.39}, want: []string{"99th percentile of |Δ log p| 0.397"}},
		{name: "just enough compared", cases: []CaseReport{tenths}, tol: Tolerance{Compared: 0.8}},
		{name: "too little compared", cases: []CaseReport{tenths, {Greedy: 1}}, tol: Tolerance{Compared: 0.8}, want: []string{"only 8 of 11 greedy positions"}},
		{name: "few flips", cases: []CaseReport{{Greedy: 100, Compared: 100, Flips: []string{"x", "y"}}}, tol: Tolerance{Flips: 0.02}},
		{name: "too many flips", cases: []CaseReport{{Greedy: 100, Compared: 99, Flips: []string{"x", "y"}}}, tol: Tolerance{Flips: 0.02},
			want: []string{"case 0: x", "case 0: y"}},
		{name: "a case's failure", cases: []CaseReport{tenths, {Failures: []string{"x"}}}, want: []string{"case 1: x"}},
		{name: "nothing", want: []string{"nothing was compared"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Summarize(tt.cases, tt.tol)
			require.Len(t, r.Failures, len(tt.want), "failures: %q", r.Failures)
			require.Equal(t, len(tt.want) == 0, r.Passed())
			require.Equal(t, len(tt.want) == 0, r.Err() == nil)
			for i, want := range tt.want {
				require.Contains(t, r.Failures[i], want)
			}
			_, err := json.Marshal(r)
			require.NoError(t, err)
		})
	}
	r := Summarize([]CaseReport{tenths}, Tolerance{})
	require.Equal(t, 4, r.Positions)
	require.InDelta(t, 0.25, r.Mean, 1e-12)
	require.InDelta(t, 0.397, r.P99, 1e-12)
	require.Equal(t, 0.4, r.Max)
	require.Equal(t, 0.5, r.LogitMax)
	require.Equal(t, 0.8, r.ComparedShare())
	require.Contains(t, r.String(), "greedy 8 of 10 compared")
}

func TestErrCountsTheRest(t *testing.T) {
	r := Report{Failures: strings.Split("abcdefg", "")}
	require.EqualError(t, r.Err(), "golden: a; b; c; d; e; and 2 more")
}

func TestBF16(t *testing.T) {
	recorded := BF16(&File{BF16Error: Error{Mean: 0.004, P99: 0.04}})
	require.InDelta(t, 0.005, recorded.Mean, 1e-12)
	require.InDelta(t, 0.06, recorded.P99, 1e-12)
	require.InDelta(t, 0.012, recorded.Margin, 1e-12)
	require.Zero(t, recorded.Logprob)
	absent := BF16(&File{})
	require.InDelta(t, 1.25*0.0107, absent.Mean, 1e-12)
	require.InDelta(t, 1.5*5*0.0107, absent.P99, 1e-12)
}

func TestInt8(t *testing.T) {
	f := &File{BF16Error: Error{Mean: 0.004, P99: 0.04}}
	tol := Int8(f)
	require.InDelta(t, 0.012, tol.Mean, 1e-12)
	require.InDelta(t, 0.12, tol.P99, 1e-12)
	require.InDelta(t, 0.012, tol.Margin, 1e-12)
	require.InDelta(t, 0.03, tol.Flips, 1e-12)
	require.True(t, Report{Mean: 0.005, P99: 0.05}.Within(BF16(f)))
	require.False(t, Report{Mean: 0.0051, P99: 0.05}.Within(BF16(f)))
	require.False(t, Report{Mean: 0.005, P99: 0.061}.Within(BF16(f)))
}

func TestParse(t *testing.T) {
	const whole = `{"made_with":"x","bf16_mean_abs_logprob_error":[0.1],"cases":[{"token_ids":[1,2],` +
		`"prompt_logprobs":[null,-1.5],"last_logits_top8":[[3,2.5]],"greedy_token_ids":[3],"greedy_top1_margin":[0.5]}]}`
	f, err := Parse([]byte(whole))
	require.NoError(t, err)
	require.Equal(t, "x", f.MadeWith)
	require.InDelta(t, 0.1, f.BF16Error.Mean, 1e-12)
	require.False(t, f.RoundedRope)
	require.Equal(t, []Case{{
		Tokens: []int32{1, 2}, PromptLogprobs: []float64{0, -1.5}, Top: []Logit{{3, 2.5}}, Greedy: []int32{3}, Margins: []float64{0.5},
	}}, f.Cases)

	tests := []struct{ name, old, new, want string }{
		{"not JSON", `{"made`, `{made`, "invalid character"},
		{"no cases", `"cases":[`, `"other":[`, "no cases"},
		{"no tokens", `"token_ids":[1,2]`, `"token_ids":[]`, "case 0: no token_ids"},
		{"error of another number of cases", `error":[0.1]`, `error":[0.1,0.3]`, "2 bf16_mean_abs_logprob_error for 1 cases"},
		{"null log-probability", `[null,-1.5]`, `[null,null]`, "prompt_logprobs[1] is null"},
		{"missing log-probability", `[null,-1.5]`, `[null]`, "1 prompt_logprobs for 2 token_ids"},
		{"missing margin", `"greedy_top1_margin":[0.5]`, `"greedy_top1_margin":[]`, "0 greedy_top1_margin for 1 greedy_token_ids"},
		{"not a pair", `[[3,2.5]]`, `[[3]]`, "got 1 numbers, want [token, logit]"},
		{"not a token", `[[3,2.5]]`, `[[-3,2.5]]`, `token "-3" is not a token id`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Contains(t, whole, tt.old)
			_, err := Parse([]byte(strings.Replace(whole, tt.old, tt.new, 1)))
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// TestOpen reads every golden file of the repository and finds each equal to itself, and each changed number unequal.
func TestOpen(t *testing.T) {
	paths, err := filepath.Glob("../../model/testdata/goldens/*/golden.json")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		f, err := Open(path)
		require.NoError(t, err)
		var cases []CaseReport
		for i, c := range f.Cases {
			got := perfect(c)
			cases = append(cases, Compare(c, got, Float32()))
			if len(got.PromptLogprobs) > 1 {
				got.PromptLogprobs[len(got.PromptLogprobs)-1] += 0.02
				require.NotEmpty(t, Compare(c, got, Float32()).Failures, "%s case %d with a log-probability + 0.02", path, i)
			}
		}
		r := Summarize(cases, Float32())
		require.NoError(t, r.Err(), path)
		require.Zero(t, r.Max)
	}
	rounded, err := Open("../../model/testdata/goldens/qwen3-f16-file/golden.json")
	require.NoError(t, err)
	require.True(t, rounded.RoundedRope)
	require.InDelta(t, (24*0.00529+30*0.00612+87*0.00749+323*0.01237)/464, rounded.BF16Error.Mean, 1e-12)
	_, err = Open("no such file")
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestLeads: how large a lead must be to count, and how many may flip all the same.
func TestLeads(t *testing.T) {
	file := func(mean float64, leads ...float64) *File {
		return &File{BF16Error: Error{Mean: mean, P99: 5 * mean}, Cases: []Case{{Margins: leads}}}
	}
	require.Zero(t, Float32().Flips)
	for _, c := range []struct {
		name   string
		file   *File
		margin float64
		flips  float64
		always float64
		judged bool
	}{
		{"nothing recorded", &File{}, 0.0321, 0.02, 0, true},
		{"large leads", file(0.01, 1, 1, 1, 1, 0.01), 0.03, 0.02, 0.06, true},
		{"smaller ones", file(0.01, 1, 1, 1, 0.025, 0.01), 0.02, 0.05, 0.06, true},
		{"smaller than the error", file(0.01, 1, 1, 1, 0.01, 0.01), 0.03, 1, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tol := BF16(c.file)
			require.InDelta(t, c.margin, tol.Margin, 1e-12)
			require.InDelta(t, c.flips, tol.Flips, 1e-12)
			require.InDelta(t, c.always, tol.Always, 1e-12)
			require.Equal(t, c.judged, tol.JudgesArgmax())
		})
	}
	ref := Case{Tokens: []int32{1}, Greedy: []int32{7, 7}, Margins: []float64{0.05, 0.06}}
	r := Compare(ref, Observed{PromptLogprobs: []float64{0}, Argmax: []int32{8, 8}}, BF16(file(0.01, 1)))
	require.Equal(t, 2, r.Compared)
	require.Len(t, r.Flips, 2)
	require.Len(t, r.Failures, 1)
	require.Contains(t, r.Failures[0], "continuation position 1")
}
