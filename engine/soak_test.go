package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
)

// TestSoak asks a real model for thousands of random answers at once, with cancellations in every state, from a cache that is
// too small for them. The books hold after every step, nothing is left behind, and neither is memory of the device.
// QUIRE_SOAK_REQUESTS says how many; without it there are few.
func TestSoak(t *testing.T) {
	requests := 200
	if testing.Short() {
		requests = 40
	}
	if text := os.Getenv("QUIRE_SOAK_REQUESTS"); text != "" {
		var err error
		requests, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	device, err := kernels.Open(kernels.Options{Device: testDevice()})
	require.NoError(t, err)
	defer device.Close()
	soak := func(requests int) (finished, cut int64, stats Stats) {
		e := openTiny(t, func(o *Options) {
			o.Device, o.MaxContext, o.CacheTokens, o.MaxSequences, o.QueueRequests = device, 272, 1024, 48, requests
		})
		var next, whole, broken atomic.Int64
		var workers sync.WaitGroup
		for range 64 {
			workers.Go(func() {
				for {
					seed := next.Add(1)
					if seed > int64(requests) {
						return
					}
					if askAnything(t, e, uint64(seed)) {
						whole.Add(1)
					} else {
						broken.Add(1)
					}
				}
			})
		}
		workers.Wait()
		require.Eventually(t, func() bool { s := e.Stats(); return s.Running+s.Waiting+s.BlocksUsed == 0 }, 20*time.Second, time.Millisecond)
		stats = e.Stats()
		require.NoError(t, e.Close())
		return whole.Load(), broken.Load(), stats
	}
	soak(requests / 2) // scratch memory grows to the largest steps
	before := device.Info().TakenBytes
	finished, cut, stats := soak(requests - requests/2)
	after := device.Info().TakenBytes
	t.Logf("second half: %d requests answered, %d broken off; %d steps, %d preemptions; %d KiB of device memory taken before, %d after",
		finished, cut, stats.Steps, stats.Preemptions, before>>10, after>>10)
	require.Positive(t, cut)
	if requests >= 200 {
		require.Positive(t, stats.Preemptions, "the test shall preempt")
	}
	require.LessOrEqual(t, after, before+8<<20, "memory of the device")
}

// askAnything makes a random request, and says whether it was answered to its end.
func askAnything(t *testing.T, e *Engine, seed uint64) bool {
	rng := rand.New(rand.NewPCG(seed, 1))
	r := Request{Tokens: make([]int32, 1+rng.IntN(90)), MaxTokens: 1 + rng.IntN(180), IgnoreEOS: true}
	for i := range r.Tokens {
		r.Tokens[i] = rng.Int32N(500)
	}
	if rng.IntN(2) == 0 {
		r.Sampling = Sampling{Temperature: 0.5 + rng.Float64(), TopK: rng.IntN(50), TopP: 0.5 + rng.Float64()/2, Seed: seed}
	}
	r.PromptLogprobs = rng.IntN(20) == 0
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stopAt := -1
	switch rng.IntN(5) {
	case 0:
		stopAt = rng.IntN(60)
	case 1:
		r.Deadline = time.Now().Add(time.Duration(rng.IntN(300_000)) * time.Microsecond)
	case 2:
		defer time.AfterFunc(time.Duration(rng.IntN(200_000))*time.Microsecond, cancel).Stop()
	}
	tokens := 0
	for token, err := range e.Generate(ctx, r) {
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				t.Errorf("request %d: %v", seed, err)
			}
			return false
		}
		if token.Result != nil {
			if got := len(token.Result.Tokens); got != r.MaxTokens {
				t.Errorf("request %d: got %d tokens, want %d", seed, got, r.MaxTokens)
			}
			return true
		}
		if tokens++; tokens == stopAt+1 {
			return false
		}
	}
	t.Errorf("request %d ended without a result", seed)
	return false
}
