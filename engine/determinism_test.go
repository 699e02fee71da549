package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/internal/golden"
	"github.com/quire-llm/quire/kernels"
)

// probes are requests of the built-in model whose answers must not depend on what else goes on: greedy and sampled, short
// and long.
func probes(t testing.TB) []Request {
	t.Helper()
	documents, arithmetic := evaluations(t, "documents_test.jsonl"), evaluations(t, "arithmetic_test.jsonl")
	return []Request{
		{Messages: arithmetic[0].messages(), MaxTokens: 60},
		{Messages: documents[3].messages(), MaxTokens: 60},
		{Messages: documents[0].messages(), MaxTokens: 60, IgnoreEOS: true, Sampling: Sampling{Temperature: 1.5, Seed: 7}},
		{Prompt: "naïve café 東京 🙂", MaxTokens: 60, IgnoreEOS: true, Sampling: Sampling{Temperature: 2, Seed: 1}},
		{Prompt: "H", MaxTokens: 60, IgnoreEOS: true, Sampling: Sampling{Temperature: 1, Seed: 3}},
	}
}

// alone are the probes' answers with nothing beside them.
func alone(t testing.TB) []Result {
	t.Helper()
	e := openTiny(t, nil)
	var answers []Result
	for _, r := range probes(t) {
		results, err := e.Batch(context.Background(), []Request{r})
		require.NoError(t, err)
		answers = append(answers, results[0])
	}
	return answers
}

// noise are n random requests with prompts and answers of up to the given lengths.
func noise(n, prompt, answer int) []Request {
	rng := rand.New(rand.NewPCG(1, 1))
	requests := make([]Request, n)
	for i := range requests {
		tokens := make([]int32, 1+rng.IntN(prompt))
		for j := range tokens {
			tokens[j] = rng.Int32N(2000)
		}
		requests[i] = Request{Tokens: tokens, MaxTokens: 1 + rng.IntN(answer), IgnoreEOS: true, Sampling: Sampling{Temperature: 1, Seed: uint64(i)}}
	}
	return requests
}

// requireSame compares answers in everything that the model has a say in, to the last bit of the log-probabilities.
func requireSame(t testing.TB, want, got []Result) {
	t.Helper()
	for i := range want {
		require.Equal(t, want[i].Tokens, got[i].Tokens, "probe %d: got %q, want %q", i, got[i].Text, want[i].Text)
		require.Equal(t, want[i].Text, got[i].Text)
		require.Equal(t, want[i].Finish, got[i].Finish)
		require.Equal(t, want[i].Prompt, got[i].Prompt)
	}
}

// TestSameAnswers: an answer depends on its request alone. Not on its neighbours, not on how its prompt was cut into
// steps, not on how often it was preempted and computed again.
func TestSameAnswers(t *testing.T) {
	want := alone(t)
	for _, c := range []struct {
		name    string
		noise   []Request
		change  func(*Options)
		preempt bool
	}{
		{"batch of 8", noise(3, 200, 60), nil, false},
		{"batch of 32", noise(27, 200, 60), nil, false},
		{"steps of 16", noise(3, 200, 60), func(o *Options) { o.StepTokens = 16 }, false},
		{"steps of 64", noise(3, 200, 60), func(o *Options) { o.StepTokens = 64 }, false},
		{"steps of 512, one thread", noise(3, 200, 60), func(o *Options) { o.StepTokens, o.DeviceOptions.Threads = 512, 1 }, false},
		{"blocks of 64", noise(3, 200, 60), func(o *Options) { o.BlockTokens = 64 }, false},
		{"preempted", noise(6, 20, 200), func(o *Options) { o.CacheTokens = 512 }, true},
		{"preempted, steps of 16", noise(6, 20, 200), func(o *Options) { o.CacheTokens, o.StepTokens = 384, 16 }, true},
	} {
		if testing.Short() && len(c.noise) > 8 {
			c.noise = c.noise[:8]
		}
		t.Run(c.name, func(t *testing.T) {
			e := openTiny(t, c.change)
			// The noise comes first, so that the probes are the youngest, which are preempted.
			results, err := e.Batch(context.Background(), append(c.noise, probes(t)...))
			require.NoError(t, err)
			results = results[len(c.noise):]
			requireSame(t, want, results)
			preemptions := 0
			for _, r := range results {
				preemptions += r.Usage.Preemptions
			}
			require.Equal(t, c.preempt, preemptions > 0, "probes were preempted %d times", preemptions)
		})
	}
}

// TestSeeds: a seed gives one text, another seed another.
func TestSeeds(t *testing.T) {
	e := openTiny(t, nil)
	texts := map[string]bool{}
	for seed := range uint64(4) {
		r := Request{Prompt: "H", MaxTokens: 30, IgnoreEOS: true, Sampling: Sampling{Temperature: 1, Seed: seed}}
		results, err := e.Batch(context.Background(), []Request{r, r})
		require.NoError(t, err)
		require.Equal(t, results[0].Text, results[1].Text)
		texts[results[0].Text] = true
	}
	require.Len(t, texts, 4)
}

// TestGolden compares the built-in model with the reference, teacher-forced, through the whole engine: prompt
// log-probabilities, the largest logits after the prompt, and the argmax along the reference's own text. Steps of 48 rows
// cut the prompts, and fewer logit rows than that make the prompt log-probabilities take several turns.
func TestGolden(t *testing.T) {
	ref, err := golden.Open("../model/testdata/tiny-golden.json")
	require.NoError(t, err)
	e := openTiny(t, func(o *Options) {
		o.KV, o.StepTokens, o.MaxSequences = kernels.KVF32, 48, 4
		o.DeviceOptions.Float32 = true
	})
	tol := golden.Float32()
	compared, positions := 0, 0
	for i, c := range ref.Cases {
		require.Equal(t, c.Tokens, e.Tokenizer().Encode(nil, c.Prompt))
		tokens, err := collect(e, Request{Prompt: c.Prompt, Force: c.Greedy, PromptLogprobs: true, Logprobs: len(c.Top)})
		require.NoError(t, err)
		result := tokens[len(tokens)-1].Result
		require.Equal(t, c.Greedy, result.Tokens)
		report := golden.Compare(c, observed(tokens, result), tol)
		require.Empty(t, report.Failures, "case %d", i)
		require.Empty(t, report.Flips, "case %d", i)
		compared, positions = compared+report.Compared, positions+report.Greedy
	}
	t.Logf("%d of %d positions had a lead above %v", compared, positions, tol.Margin)
	require.GreaterOrEqual(t, float64(compared), tol.Compared*float64(positions))
}

// observed is an answer in the words of package golden.
func observed(tokens []Token, result *Result) golden.Observed {
	var o golden.Observed
	for _, p := range result.Prompt {
		o.PromptLogprobs = append(o.PromptLogprobs, float64(p.Logprob))
	}
	for _, top := range tokens[0].Top {
		o.Top = append(o.Top, golden.Logit{Token: top.ID, Logit: float64(top.Logit)})
	}
	for _, tok := range tokens {
		o.Argmax = append(o.Argmax, tok.Argmax)
		o.GreedyLogprobs = append(o.GreedyLogprobs, float64(tok.Logprob))
	}
	return o
}

// TestPromptLogprobsOfEveryCut: they are the same however the prompt is cut, and after preemption.
func TestPromptLogprobsOfEveryCut(t *testing.T) {
	documents := evaluations(t, "documents_test.jsonl")
	request := Request{Messages: documents[5].messages(), MaxTokens: 30, IgnoreEOS: true, PromptLogprobs: true, Logprobs: 2}
	var want []Result
	for _, step := range []int{512, 16, 100} {
		t.Run(fmt.Sprintf("step=%d", step), func(t *testing.T) {
			e := openTiny(t, func(o *Options) { o.StepTokens, o.CacheTokens, o.MaxSequences = step, 512, 8 })
			results, err := e.Batch(context.Background(), []Request{request, request, request, request})
			require.NoError(t, err)
			if want == nil {
				want = results
			}
			requireSame(t, want, results)
			require.Greater(t, len(results[0].Prompt), 90)
			for _, p := range results[0].Prompt[1:] {
				require.LessOrEqual(t, p.Logprob, float32(1e-5))
				require.Len(t, p.Top, 2)
				require.Equal(t, p.Argmax, p.Top[0].ID)
			}
		})
	}
}
