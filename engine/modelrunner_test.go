package engine

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

// TestOverlapOfModel answers the same where each step is built before the host knows the tokens of the one before it.
func TestOverlapOfModel(t *testing.T) {
	requests := relatives()
	for i := range requests {
		switch i % 4 {
		case 1:
			requests[i].Logprobs = 3
		case 2:
			requests[i].Sampling.TopK = 5
			requests[i].Sampling.RepetitionPenalty = 1.2
		case 3:
			requests[i].PromptLogprobs = true
		}
	}
	for _, cache := range []kvcache.Strategy{kvcache.Standard{}, kvcache.Cascade{}} {
		var want []Result
		for _, overlapping := range []bool{false, true} {
			e := openTiny(t, func(o *Options) {
				o.Cache, o.DeviceOptions, o.MaxSequences = cache, kernels.Options{Device: "cpu"}, 5
			})
			e.runner.overlapping = overlapping
			var got []Result
			for _, some := range [][]Request{requests, requests[:1], relatives()} { // the last ones ask for nothing but tokens
				results, err := e.Batch(context.Background(), some)
				require.NoError(t, err)
				got = append(got, results...)
			}
			if want == nil {
				want = got
			}
			for i := range want {
				require.Equal(t, want[i].Tokens, got[i].Tokens, "%s: request %d", cache.Name(), i)
				require.Equal(t, want[i].Prompt, got[i].Prompt, "%s: request %d", cache.Name(), i)
			}
		}
	}
}
