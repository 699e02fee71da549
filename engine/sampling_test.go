package engine

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
)

var never = float32(math.Inf(-1))

// samplings are one of each field, and several together.
func samplings() []Sampling {
	return []Sampling{
		{},
		{Temperature: 1, Seed: 1},
		{RepetitionPenalty: 1.3},
		{Temperature: 1.5, Seed: 2, TopK: 20},
		{Temperature: 1, Seed: 3, PresencePenalty: 1.5},
		{Temperature: 1.5, Seed: 4, TopP: 0.9},
		{Temperature: 1, Seed: 5, FrequencyPenalty: 0.5},
		{Temperature: 1.5, Seed: 6, MinP: 0.02},
		{Temperature: 1, Seed: 7, LogitBias: map[int32]float32{5: 3, 100: never, 2: -100}},
		{Temperature: 1.5, Seed: 8, TypicalP: 0.9},
		{Temperature: 1, Seed: 9, MinTokens: 20},
		{Temperature: 2, Seed: 10, TopK: 200, TopP: 0.95, MinP: 0.001, TypicalP: 0.95, RepetitionPenalty: 1.1, PresencePenalty: 0.1,
			FrequencyPenalty: 0.2, LogitBias: map[int32]float32{7: 1}, MinTokens: 10},
	}
}

// sampled are requests with each of samplings, with short prompts and long ones.
func sampled(t testing.TB) []Request {
	documents := evaluations(t, "documents_test.jsonl")
	var requests []Request
	for i, s := range samplings() {
		r := Request{Messages: documents[i%8].messages(), MaxTokens: 60, Logprobs: i % 3, PromptLogprobs: i%4 == 1, Sampling: s}
		if i%2 == 0 {
			r.Messages, r.Prompt, r.IgnoreEOS = nil, "H", s.MinTokens == 0
		}
		requests = append(requests, r)
	}
	return requests
}

// TestSeedInAnyBatch: a request's seed gives the same text alone and in a batch of 32 with other settings, in small steps,
// and when it is preempted and its penalties go on from where they were.
func TestSeedInAnyBatch(t *testing.T) {
	requests := sampled(t)
	single := openTiny(t, nil)
	var want []Result
	texts := map[string]bool{}
	for _, r := range requests {
		results, err := single.Batch(context.Background(), []Request{r})
		require.NoError(t, err)
		want = append(want, results[0])
		texts[results[0].Text] = true
	}
	require.Greater(t, len(texts), 8, "the settings shall make a difference")
	for _, c := range []struct {
		name    string
		others  []Request
		change  func(*Options)
		preempt bool
	}{
		{"batch of 32", noise(20, 20, 120), nil, false},
		{"steps of 48, one thread", noise(20, 20, 120), func(o *Options) { o.StepTokens, o.MaxSequences, o.DeviceOptions.Threads = 48, 8, 1 }, false},
		{"preempted", noise(6, 20, 200), func(o *Options) { o.CacheTokens = 512 }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := openTiny(t, c.change)
			others := c.others
			for i := range others {
				others[i].Sampling = samplings()[i%len(samplings())]
				others[i].Sampling.Seed, others[i].Sampling.MinTokens = uint64(100+i), 0
			}
			results, err := e.Batch(context.Background(), slices.Concat(others, requests))
			require.NoError(t, err)
			results = results[len(others):]
			requireSame(t, want, results)
			penalized := 0 // preemptions of those with penalties
			for i, r := range results {
				if f := newFiltering(&requests[i].Sampling, nil, nil); f != nil && f.counting && len(r.Tokens) > 1 {
					penalized += r.Usage.Preemptions
				}
			}
			require.Equal(t, c.preempt, penalized > 0, "preempted %d times", penalized)
		})
	}
}

// TestAnswers: N answers of a prompt are its own and others, and the same every time.
func TestAnswers(t *testing.T) {
	e := openTiny(t, nil)
	ctx := context.Background()
	r := Request{Prompt: "H", MaxTokens: 20, IgnoreEOS: true, Sampling: Sampling{Temperature: 1.5, Seed: 5}}
	alone, err := e.Batch(ctx, []Request{r})
	require.NoError(t, err)
	several := r
	several.N = 6
	results, err := e.Batch(ctx, []Request{{Tokens: []int32{1}, MaxTokens: 1}, several, {Tokens: []int32{2}, MaxTokens: 2}, several})
	require.NoError(t, err)
	require.Len(t, results, 1+6+1+6)
	require.Len(t, results[0].Tokens, 1)
	require.Equal(t, alone[0].Text, results[1].Text, "the first is the one of N = 1")
	require.Len(t, results[7].Tokens, 2)
	texts := map[string]bool{}
	for i := range 6 {
		require.Equal(t, results[1+i].Text, results[8+i].Text)
		texts[results[1+i].Text] = true
	}
	require.Len(t, texts, 6, "answers differ")

	_, err = collect(e, several)
	require.ErrorIs(t, err, ErrInvalid)
	require.ErrorContains(t, err, "N is 6: Generate gives one answer; ask Batch for more")
	several.StopTokens = []int32{-1}
	results, err = e.Batch(ctx, []Request{r, several})
	require.ErrorContains(t, err, "request 1, answer 5: ")
	require.Len(t, results, 7)
	require.NoError(t, results[0].Err)
	require.ErrorIs(t, results[6].Err, ErrInvalid)
	require.Equal(t, uint64(5), r.Sampling.Seed, "the caller's request is left alone")
}

func TestAnswerSeeds(t *testing.T) {
	seen := map[uint64]string{}
	for _, seed := range []uint64{0, 1, 2, 1 << 63, math.MaxUint64} {
		require.Equal(t, seed, answerSeed(seed, 0))
		for i := range maxAnswers {
			name := fmt.Sprintf("seed %d, answer %d", seed, i)
			require.Empty(t, seen[answerSeed(seed, i)], name)
			seen[answerSeed(seed, i)] = name
		}
	}
}

// TestMinTokens: a text that ends of itself goes on until it is long enough, and then may end.
func TestMinTokens(t *testing.T) {
	e := openTiny(t, nil)
	ask := func(least int, stops ...int32) []int32 {
		results, err := e.Batch(context.Background(), []Request{{
			Messages: evaluations(t, "arithmetic_test.jsonl")[0].messages(), MaxTokens: 200, StopTokens: stops, Sampling: Sampling{MinTokens: least},
		}})
		require.NoError(t, err)
		return results[0].Tokens
	}
	text := ask(0)
	n := len(text) - 1 // without its end
	require.Contains(t, e.intake.eos, text[n])
	require.Equal(t, text, ask(1))
	require.Equal(t, text, ask(n), "it is just long enough")
	for _, more := range []int{1, 9} {
		longer := ask(n + more)
		require.Equal(t, text[:n], longer[:n])
		for _, id := range longer[:n+more] {
			require.NotContains(t, e.intake.eos, id)
		}
	}
	stop := text[3]
	at := slices.Index(text, stop)
	require.Equal(t, text[:at+1], ask(0, stop))
	require.Equal(t, text[:at+1], ask(at, stop))
	require.NotContains(t, ask(at+1, stop)[:at+1], stop)
}

// TestLogprobsAreTheModels: biases and penalties change what is taken, not what is said of it, nor of the prompt. The
// prompt's rows come before the one that is sampled, so many that their logits take several turns.
func TestLogprobsAreTheModels(t *testing.T) {
	e := openTiny(t, func(o *Options) { o.MaxSequences = 2 })
	r := Request{Prompt: "Who are you, and how many legs have three cats?", MaxTokens: 1, Logprobs: 5, PromptLogprobs: true}
	plain, err := collect(e, r)
	require.NoError(t, err)
	second := plain[0].Top[1]
	r.Sampling = Sampling{LogitBias: map[int32]float32{plain[0].ID: never}, RepetitionPenalty: 1.0001, Temperature: 1, TopK: 1}
	got, err := collect(e, r)
	require.NoError(t, err)
	require.Equal(t, second.ID, got[0].ID)
	require.InDelta(t, second.Logprob, got[0].Logprob, 1e-6)
	require.Equal(t, plain[0].Top, got[0].Top)
	require.Equal(t, plain[0].Argmax, got[0].Argmax)
	require.Greater(t, len(got[0].Result.Prompt), 5)
	require.Equal(t, plain[0].Result.Prompt, got[0].Result.Prompt)
}

// TestPenalties follows the counts that a sequence keeps.
func TestPenalties(t *testing.T) {
	counts := func(s Sampling) []kernels.TokenCount {
		f := newFiltering(&s, []int32{5, 3, 5}, nil)
		for _, id := range []int32{5, 9, 1, 9} {
			f.took(id)
		}
		return f.counts
	}
	output := []kernels.TokenCount{{Token: 1, Output: 1}, {Token: 5, Output: 1}, {Token: 9, Output: 2}}
	both := []kernels.TokenCount{{Token: 1, Output: 1}, {Token: 3}, {Token: 5, Output: 1}, {Token: 9, Output: 2}}
	require.Equal(t, output, counts(Sampling{PresencePenalty: 1}))
	require.Equal(t, output, counts(Sampling{FrequencyPenalty: -1, RepetitionPenalty: 1}))
	require.Equal(t, both, counts(Sampling{RepetitionPenalty: 2}))
	require.Nil(t, counts(Sampling{TopK: 1}))
}

// TestNoFiltering: settings that ask for nothing take the short way.
func TestNoFiltering(t *testing.T) {
	for _, s := range []Sampling{{}, {Temperature: 1, Seed: 3}, {TopP: 1, TypicalP: 1, RepetitionPenalty: 1}} {
		require.Nil(t, newFiltering(&s, []int32{1}, []int32{2}), "%+v", s)
	}
	require.Equal(t, float32(math.SmallestNonzeroFloat32), newFiltering(&Sampling{TopP: 1e-60}, nil, nil).filter.TopP)
}

func TestInvalidSampling(t *testing.T) {
	e, _ := small.start(t)
	for _, c := range []struct {
		sampling Sampling
		want     string
	}{
		{Sampling{Temperature: 1e300}, "Sampling.Temperature must be 0 or more, not 1e+300"},
		{Sampling{TopK: -1}, "Sampling.TopK must be 0 or more, not -1"},
		{Sampling{TopP: 1.1}, "Sampling.TopP must be 0 to 1, not 1.1"},
		{Sampling{MinP: -0.1}, "Sampling.MinP must be 0 to 1, not -0.1"},
		{Sampling{TypicalP: math.NaN()}, "Sampling.TypicalP must be 0 to 1, not NaN"},
		{Sampling{RepetitionPenalty: -1}, "Sampling.RepetitionPenalty must be 0.01 to 100, not -1"},
		{Sampling{RepetitionPenalty: math.Inf(1)}, "Sampling.RepetitionPenalty must be 0.01 to 100, not +Inf"},
		{Sampling{PresencePenalty: 2.1}, "Sampling.PresencePenalty must be -2 to 2, not 2.1"},
		{Sampling{FrequencyPenalty: -3}, "Sampling.FrequencyPenalty must be -2 to 2, not -3"},
		{Sampling{LogitBias: map[int32]float32{60: 1}}, "Sampling.LogitBias is for token 60, outside the vocabulary of 60 tokens"},
		{Sampling{LogitBias: map[int32]float32{-1: 1}}, "Sampling.LogitBias is for token -1"},
		{Sampling{LogitBias: map[int32]float32{3: 101}}, "Sampling.LogitBias of token 3 must be -100 to 100 or -Inf, not 101"},
		{Sampling{LogitBias: map[int32]float32{3: float32(math.NaN())}}, "Sampling.LogitBias of token 3 must be -100 to 100 or -Inf, not NaN"},
		{Sampling{LogitBias: map[int32]float32{3: -never}}, "not +Inf"},
		{Sampling{MinTokens: -1}, "Sampling.MinTokens must be 0 or more, not -1"},
		{Sampling{MinTokens: 6}, "Sampling.MinTokens is 6, more than MaxTokens 5"},
	} {
		_, err := collect(e, Request{Tokens: []int32{1}, MaxTokens: 5, Sampling: c.sampling})
		require.ErrorIs(t, err, ErrInvalid)
		require.ErrorContains(t, err, c.want)
	}
	all := map[int32]float32{}
	for id := range int32(fakeVocab - 1) {
		all[id] = never
	}
	r := Request{Tokens: []int32{1}, MaxTokens: 1, Sampling: Sampling{LogitBias: all}}
	_, err := collect(e, r)
	require.NoError(t, err, "the end is left")
	r.Sampling.MinTokens = 1
	_, err = collect(e, r)
	require.ErrorContains(t, err, "Sampling.LogitBias and MinTokens together leave no token")
	r.N, r.Sampling = 129, Sampling{TopK: -1, TopP: 2, MinTokens: -1}
	_, err = e.Batch(context.Background(), []Request{r})
	require.ErrorContains(t, err, "TopK must be 0 or more, not -1; Sampling.TopP must be 0 to 1, not 2; Sampling.MinTokens must be 0 or more, not -1; N must be 0 to 128, not 129")
}

// TestFilteredStepAllocates nothing once the lists have their lengths.
func TestFilteredStepAllocates(t *testing.T) {
	s := decoding(t, 8, false, nil)
	for i, seq := range s.running {
		seq.filtering = newFiltering(&samplings()[len(samplings())-1-i], seq.tokens, []int32{3})
	}
	require.NoError(t, s.doStep(time.Now()))
	require.NoError(t, s.doStep(time.Now()))
	require.True(t, s.step.questions.filtered)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		require.NoError(t, s.doStep(time.Now()))
		s.events = s.events[:0]
	}))
	require.Equal(t, wantedFilters(s), s.step.questions.filters.Rows, "each row has its own part of the lists")
}

// wantedFilters is the filters that the running sequences ask for, by the parts of the lists that they refer to.
func wantedFilters(s *scheduler) (rows []kernels.SampleFilter) {
	bias, count := int32(0), int32(0)
	for _, seq := range s.running {
		var f kernels.SampleFilter
		if seq.filtering != nil {
			f = seq.filtering.filter
			f.Biases, f.Counts = int32(len(seq.filtering.biases)), int32(len(seq.filtering.counts))
			if f.Biases > 0 {
				f.Bias = bias
			}
			if f.Counts > 0 {
				f.Count = count
			}
			bias, count = bias+f.Biases, count+f.Counts
		}
		rows = append(rows, f)
	}
	return rows
}
