package engine

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
)

// TestDevicesAgree feeds what a CPU that rounds nothing answers to the device under test, and compares the most likely token
// wherever the lead is clear, and all log-probabilities: alone, among others, in small steps, and preempted.
func TestDevicesAgree(t *testing.T) {
	questions := evaluations(t, "arithmetic_test.jsonl")
	questions = questions[:min(len(questions), 24)]
	requests := make([]Request, len(questions))
	for i, q := range questions {
		requests[i] = Request{Messages: q.messages(), MaxTokens: 100, Logprobs: 2}
	}
	exact := openTiny(t, func(o *Options) { o.KV, o.DeviceOptions = kernels.KVF32, kernels.Options{Device: "cpu", Float32: true} })
	want := streams(t, exact, requests, false)
	lead(requests, want)
	for _, c := range []struct {
		name    string
		change  func(*Options)
		at      bool // at the same time
		preempt bool
	}{
		{"alone", nil, false, false},
		{"among others", nil, true, false},
		{"in steps of 16", func(o *Options) { o.StepTokens, o.MaxSequences = 16, 16 }, true, false},
		{"preempted", func(o *Options) { o.CacheTokens = 512 }, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := openTiny(t, c.change)
			busy := make(chan error, 1)
			busy <- nil
			if c.preempt {
				<-busy
				go func() {
					_, err := e.Batch(context.Background(), noise(12, 20, 200))
					busy <- err
				}()
			}
			got := streams(t, e, requests, c.at)
			require.NoError(t, <-busy)
			require.Equal(t, c.preempt, e.Stats().Preemptions > 0)
			requireNear(t, got, want)
		})
	}
}

// requireNear demands that answers which were led along want's tokens have want's most likely token wherever its lead is clear,
// which it must be for four tokens of five, and log-probabilities near want's.
func requireNear(t *testing.T, got, want [][]Token) {
	t.Helper()
	compared, all, sum := 0, 0, 0.0
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
	t.Logf("%d tokens, %d with a clear lead; mean |Δ log p| %.2g", all, compared, sum/float64(all))
	require.Greater(t, 5*compared, 4*all)
	require.Less(t, sum/float64(all), 0.01)
}

// lead makes requests follow answers' tokens, whatever they would answer themselves.
func lead(requests []Request, answers [][]Token) {
	for i := range requests {
		requests[i].MaxTokens = 0
		for _, token := range answers[i] {
			requests[i].Force = append(requests[i].Force, token.ID)
		}
	}
}

// streams are the tokens of the answers to requests, one after the other or all at the same time.
func streams(t *testing.T, e *Engine, requests []Request, together bool) [][]Token {
	t.Helper()
	all := make([][]Token, len(requests))
	errs := make(chan error, len(requests))
	answer := func(i int) {
		for token, err := range e.Generate(context.Background(), requests[i]) {
			if err != nil {
				errs <- err
				return
			}
			if token.ID >= 0 {
				all[i] = append(all[i], token)
			}
		}
		errs <- nil
	}
	for i := range requests {
		if together {
			go answer(i)
		} else {
			answer(i)
		}
	}
	for range requests {
		require.NoError(t, <-errs)
	}
	return all
}
