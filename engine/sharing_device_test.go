package engine

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/attention"
)

// TestSharingOnDevice feeds what standard answers to every exact strategy on the device under test: the first time and on a
// hit, many at a time, with shared prefixes attended to once where that pays, and wherever there are any. Where bits depend on
// the batch, as on a GPU, the most likely token must be standard's wherever the lead is clear, and log-probabilities must be
// near. Each strategy must have reused something.
func TestSharingOnDevice(t *testing.T) {
	questions := evaluations(t, "documents_test.jsonl")
	questions = questions[:min(len(questions), 12)]
	requests := make([]Request, 0, 2*len(questions))
	for _, q := range questions {
		r := Request{Messages: q.messages(), MaxTokens: 60, Logprobs: 2}
		requests = append(requests, r, r)
	}
	want := streams(t, openTiny(t, nil), requests, true)
	lead(requests, want)
	for i, strategy := range exact(t) {
		for _, mode := range []attention.Mode{attention.Auto, attention.Shared} {
			t.Run(fmt.Sprintf("%d=%s/%v", i, strategy.Name(), mode), func(t *testing.T) {
				e := openTiny(t, func(o *Options) { o.Cache, o.Attention = strategy, mode })
				for range 2 {
					requireNear(t, streams(t, e, requests, true), want)
				}
				stats := e.Stats()
				t.Logf("%d of %d prompt tokens reused, %d reads saved", stats.CachedTokens, stats.PromptTokens, e.runner.saved.Load())
				require.Positive(t, stats.CachedTokens)
				require.Equal(t, stats.PromptTokens-stats.CachedTokens+stats.CompletionTokens-int64(2*len(requests)), stats.TokensComputed)
				if mode == attention.Shared {
					require.Positive(t, e.runner.saved.Load())
				}
			})
		}
	}
}
