package engine

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/disk"
	"github.com/quire-llm/quire/kvcache/host"
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

// TestTierOnDevice feeds what standard answers to a cache that is too small for all requests, on the device under test: one at a
// time and then all together, so that blocks leave it and come back while steps run.
func TestTierOnDevice(t *testing.T) {
	requests := noise(17, 400, 6)
	for i := range requests {
		requests[i].MaxTokens, requests[i].Logprobs, requests[i].IgnoreEOS = 20, 2, true
	}
	want := streams(t, openTiny(t, nil), requests, false)
	lead(requests, want)
	for name, tier := range map[string]kvcache.Tier{"memory": host.Tier{Bytes: 64 << 20}, "disk": disk.Tier{Dir: t.TempDir()}} {
		t.Run(name, func(t *testing.T) {
			e := openTiny(t, func(o *Options) { o.Cache, o.CacheTokens = kvcache.Reuse{Tier: tier}, 512 })
			for range 3 {
				requireNear(t, streams(t, e, requests, false), want)
			}
			stats := e.Stats()
			require.Greater(t, stats.CachedTokens, stats.PromptTokens/4, "what is not stored in time is computed again")
			requireNear(t, streams(t, e, requests, true), want)
		})
	}
}
