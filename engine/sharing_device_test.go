package engine

import (
	"fmt"
	"math"
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
	for i := range requests {
		requests[i].MaxTokens = 0
		for _, token := range want[i] {
			requests[i].Force = append(requests[i].Force, token.ID)
		}
	}
	for i, strategy := range exact(t) {
		for _, mode := range []attention.Mode{attention.Auto, attention.Shared} {
			t.Run(fmt.Sprintf("%d=%s/%v", i, strategy.Name(), mode), func(t *testing.T) {
				e := openTiny(t, func(o *Options) { o.Cache, o.Attention = strategy, mode })
				compared, all, sum := 0, 0, 0.0
				for range 2 {
					got := streams(t, e, requests, true)
					for i := range want {
						require.Len(t, got[i], len(want[i]))
						for k, w := range want[i] {
							sum += math.Abs(float64(got[i][k].Logprob - w.Logprob))
							all++
							if w.Top[0].Logprob-w.Top[1].Logprob > 0.1 {
								compared++
								require.Equal(t, w.Argmax, got[i][k].Argmax, "answer %d, token %d", i, k)
							}
						}
					}
				}
				stats := e.Stats()
				t.Logf("%d tokens, %d with a clear lead; mean |Δ log p| %.2g; %d of %d prompt tokens reused, %d reads saved",
					all, compared, sum/float64(all), stats.CachedTokens, stats.PromptTokens, e.runner.saved.Load())
				require.Greater(t, 5*compared, 4*all)
				require.Less(t, sum/float64(all), 0.01)
				require.Positive(t, stats.CachedTokens)
				require.Equal(t, stats.PromptTokens-stats.CachedTokens+stats.CompletionTokens-int64(2*len(requests)), stats.TokensComputed)
				if mode == attention.Shared {
					require.Positive(t, e.runner.saved.Load())
				}
			})
		}
	}
}
