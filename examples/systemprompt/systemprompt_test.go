package systemprompt_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/kvcache"

	"github.com/quire-llm/quire/examples/systemprompt"
)

// TestSameTokens: what is found gives the same answers as what is computed, one request after the other and all at once.
func TestSameTokens(t *testing.T) {
	places := []string{"white jar", "brown tin", "red crate", "pink drawer", "purple tin", "green shelf", "purple bag", "orange chest"}
	var requests []engine.Request
	for i := range places {
		requests = append(requests, ask(places[i], places[(i+3)%len(places)]))
	}
	s, err := strategy()
	require.NoError(t, err)
	want, _ := answers(t, kvcache.Standard{}, requests)
	got, cached := answers(t, s, requests)
	require.Equal(t, want, got)
	// The first round computes the beginning in its first request; then 6 blocks are found by 7 requests, and by 8 in the second.
	require.Equal(t, (7+8)*96, cached)
}

// answers are the tokens of each request, asked one after the other and then at once, and how many prompt tokens were found.
func answers(t *testing.T, s kvcache.Strategy, requests []engine.Request) (tokens [][]int32, cached int) {
	e, err := open(s)
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	tokens = make([][]int32, 2*len(requests))
	results := make([]*engine.Result, 2*len(requests))
	run := func(i int) error {
		for token, err := range e.Generate(context.Background(), requests[i%len(requests)]) {
			if err != nil {
				return err
			}
			results[i] = token.Result
		}
		return nil
	}
	for i := range requests {
		require.NoError(t, run(i))
	}
	errs := make([]error, len(requests))
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() { errs[i] = run(len(requests) + i) })
	}
	wg.Wait()
	for i, r := range results {
		require.NoError(t, errs[i%len(errs)])
		tokens[i] = r.Tokens
		cached += r.Usage.CachedTokens
	}
	return tokens, cached
}

// rig is a manager over 12 blocks of 16 tokens that keeps the numbers from 0 to 69: four blocks and a rest.
type rig struct {
	kvcache.Manager
	t  *testing.T
	id kvcache.SeqID
}

func newRig(t *testing.T) *rig {
	pool, err := kvcache.NewPool(12, 16)
	require.NoError(t, err)
	m, err := systemprompt.SystemPrompt{Prompts: [][]int32{numbers(0, 70)}}.NewManager(pool, geometry)
	require.NoError(t, err)
	return &rig{Manager: m, t: t}
}

var geometry = kvcache.Geometry{BlockTokens: 16, BytesPerToken: 64, MaxTokens: 200}

// numbers are n token ids.
func numbers(first int32, n int) []int32 {
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = first + int32(i)
	}
	return tokens
}

// life admits a prompt, computes it and removes it. It returns how many tokens were found.
func (r *rig) life(p kvcache.Prompt) int {
	r.t.Helper()
	r.id++
	a, err := r.Admit(r.id, p)
	require.NoError(r.t, err)
	computed := 0
	for _, span := range r.Next(nil, r.id, 1000) {
		computed += span.Len
		r.Wrote(span)
	}
	require.Equal(r.t, len(p.Tokens)-a.Cached, computed)
	require.NoError(r.t, r.Check())
	r.Remove(r.id)
	return a.Cached
}

// TestFound: which part of a prompt is found after one that begins with the whole system prompt.
func TestFound(t *testing.T) {
	for _, c := range []struct {
		name   string
		prompt kvcache.Prompt
		want   int
	}{
		{"the same beginning", kvcache.Prompt{Tokens: append(numbers(0, 70), 900, 901)}, 64},
		{"the beginning alone", kvcache.Prompt{Tokens: numbers(0, 70)}, 64},
		{"four blocks: the last token is computed", kvcache.Prompt{Tokens: numbers(0, 64)}, 48},
		{"half of the beginning", kvcache.Prompt{Tokens: append(numbers(0, 40), 900)}, 32},
		{"less than a block", kvcache.Prompt{Tokens: numbers(0, 15)}, 0},
		{"another beginning", kvcache.Prompt{Tokens: numbers(1, 70)}, 0},
		{"another tenant", kvcache.Prompt{Tokens: numbers(0, 70), Salt: "other"}, 0},
		{"all to be computed", kvcache.Prompt{Tokens: numbers(0, 70), ComputeAll: true}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			require.Zero(t, r.life(kvcache.Prompt{Tokens: append(numbers(0, 70), numbers(500, 20)...)}))
			require.Equal(t, 4, r.Stats().BlocksCached, "the system prompt's, and no others")
			require.Equal(t, c.want, r.life(c.prompt))
		})
	}
}

// TestGivenUp: sequences that need the memory get it. The end of the system prompt goes first, and is kept again later.
func TestGivenUp(t *testing.T) {
	r := newRig(t)
	r.life(kvcache.Prompt{Tokens: numbers(0, 70)})
	require.Zero(t, r.life(kvcache.Prompt{Tokens: numbers(500, 10*16)}), "ten of twelve blocks, of which four are kept")
	require.EqualValues(t, 2, r.Stats().Evictions)
	require.Equal(t, 32, r.life(kvcache.Prompt{Tokens: numbers(0, 70)}))
	require.Equal(t, 64, r.life(kvcache.Prompt{Tokens: numbers(0, 70)}))
}

func TestRefused(t *testing.T) {
	pool, err := kvcache.NewPool(12, 16)
	require.NoError(t, err)
	_, err = systemprompt.SystemPrompt{Prompts: [][]int32{numbers(0, 20), numbers(0, 200)}}.NewManager(pool, geometry)
	require.EqualError(t, err, "systemprompt: making a manager: prompt 1 has 200 tokens, want less than the longest sequence's 200")
	_, err = systemprompt.SystemPrompt{}.NewManager(pool, kvcache.Geometry{BlockTokens: 32, MaxTokens: 200})
	require.EqualError(t, err, "systemprompt: making a manager: got sequences of at most 200 tokens in blocks of 32, and a pool with blocks of 16")
}
