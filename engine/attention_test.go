package engine

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

// relatives are requests whose prompts begin alike: all with the same tokens, every second with more of them.
func relatives() []Request {
	prompt := func(seed, n int) (tokens []int32) {
		for i := range n {
			tokens = append(tokens, int32((i*i*7+i*13+seed*101)%2000))
		}
		return tokens
	}
	var requests []Request
	for i := range 7 {
		tokens := prompt(0, 300)
		if i%2 == 1 {
			tokens = append(tokens, prompt(1, 290)...)
		}
		tokens = append(tokens, prompt(i+2, 1+9*i)...)
		requests = append(requests, Request{Tokens: tokens, MaxTokens: 10, IgnoreEOS: true, Sampling: Sampling{Temperature: float64(i % 2), Seed: uint64(i)}})
	}
	return requests
}

// TestAttention answers the same however shared tokens are attended, and it says by its reads that it did so.
func TestAttention(t *testing.T) {
	cpu := kernels.Options{Device: "cpu"}
	want, err := openTiny(t, func(o *Options) { o.DeviceOptions = cpu }).Batch(context.Background(), relatives())
	require.NoError(t, err)
	for _, c := range []struct {
		cache  kvcache.Strategy
		mode   attention.Mode
		shares bool
	}{
		{kvcache.Standard{}, attention.Shared, false},
		{kvcache.Cascade{}, attention.Ordinary, false},
		{kvcache.Cascade{}, attention.Shared, true},
		{kvcache.Cascade{}, attention.Auto, true},
	} {
		t.Run(fmt.Sprintf("%s/%v", c.cache.Name(), c.mode), func(t *testing.T) {
			e := openTiny(t, func(o *Options) {
				o.Cache, o.Attention, o.DeviceOptions = c.cache, c.mode, cpu
			})
			got, err := e.Batch(context.Background(), relatives())
			require.NoError(t, err)
			for i := range want {
				require.Equal(t, want[i].Tokens, got[i].Tokens, "request %d", i)
			}
			require.Equal(t, c.shares, e.runner.saved.Load() > 0, "got %d reads saved", e.runner.saved.Load())
		})
	}
}
