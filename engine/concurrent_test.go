package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHammer: many goroutines ask for answers from a tiny pool, break off, cancel, miss deadlines and read slowly. Every
// answer that comes to its end is right, the rest are right as far as they go, and nothing is left behind.
func TestHammer(t *testing.T) {
	for _, seed := range seeds(6) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			o := fakeOptions{blocks: 20, blockTokens: 16, sequences: 6, stepTokens: 24, queue: 4, context: 250}
			o.overlap, o.worker, o.seed = seed%3 > 0, seed%3 == 2, seed
			e, _ := o.start(t)
			var finished sync.WaitGroup
			for worker := range 12 {
				finished.Go(func() {
					rng := rand.New(rand.NewPCG(seed, uint64(worker)))
					for range 25 {
						ask(t, e, rng, o.context)
					}
				})
			}
			finished.Wait()
			require.Eventually(t, func() bool { s := e.Stats(); return s.Running+s.Waiting+s.BlocksUsed == 0 }, 10*time.Second, time.Millisecond)
			require.Positive(t, e.Stats().Preemptions, "the test shall preempt")
		})
	}
}

// ask makes one random request in a random way.
func ask(t *testing.T, e *Engine, rng *rand.Rand, most int) {
	r := randomRequest(rng, most)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	breakAt, cancelAt, pauseAt := -1, -1, -1
	switch rng.IntN(6) {
	case 0:
		breakAt = rng.IntN(10)
	case 1:
		cancelAt = rng.IntN(10)
	case 2:
		r.Deadline = time.Now().Add(time.Duration(rng.IntN(3000)) * time.Microsecond)
	case 3:
		pauseAt = rng.IntN(10)
	}
	var tokens []int32
	for tok, err := range e.Generate(ctx, r) {
		switch {
		case errors.Is(err, ErrOverloaded):
			return
		case err != nil:
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				t.Errorf("request %+v: %v", r, err)
			}
			return
		}
		tokens = append(tokens, tok.ID)
		if tok.Result != nil {
			checkResult(t, r, tok.Result, most)
			return
		}
		switch len(tokens) {
		case breakAt + 1:
			want, _ := fakeContinue(r, most)
			require.Equal(t, want[:len(tokens)], tokens)
			return
		case cancelAt + 1:
			cancel()
		case pauseAt + 1:
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// TestSlowReader: a reader that takes its time delays nobody and misses nothing.
func TestSlowReader(t *testing.T) {
	e, _ := small.start(t)
	slow := Request{Tokens: []int32{4}, MaxTokens: 300, IgnoreEOS: true}
	fast := Request{Tokens: []int32{5}, MaxTokens: 300, IgnoreEOS: true}
	n := 0
	for tok, err := range e.Generate(context.Background(), slow) {
		require.NoError(t, err)
		if n++; n == 1 { // others come and go before the second token is read
			for range 3 {
				tokens, err := collect(e, fast)
				require.NoError(t, err)
				checkResult(t, fast, tokens[len(tokens)-1].Result, small.context)
			}
		}
		if tok.Result != nil {
			checkResult(t, slow, tok.Result, small.context)
		}
	}
	require.Equal(t, 300, n)
}

// TestCancelReachesEveryState: cancelled before it is queued, while it waits, in prefill and in decode.
func TestCancelReachesEveryState(t *testing.T) {
	o := small
	o.sequences = 1
	for _, c := range []struct {
		name    string
		prompt  int
		waiting bool // another one runs
		steps   int  // after which to cancel
	}{
		{"waiting", 10, true, 3},
		{"prefill", 200, false, 3},
		{"decode", 10, false, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, runner := o.engine(t)
			stepped, proceed := make(chan struct{}), make(chan struct{})
			runner.beforeRun = func() error { stepped <- struct{}{}; <-proceed; return nil }
			e.core.start()
			if c.waiting {
				other, err := e.call(context.Background(), &Request{Tokens: make([]int32, 200), MaxTokens: 1}, true)
				require.NoError(t, err)
				defer other.release()
			}
			ctx, cancel := context.WithCancelCause(context.Background())
			why := errors.New("went home")
			call, err := e.call(ctx, &Request{Tokens: make([]int32, c.prompt), IgnoreEOS: true}, true)
			require.NoError(t, err)
			for range c.steps - 1 {
				<-stepped
				proceed <- struct{}{}
			}
			<-stepped
			cancel(why)
			in := e.core.inbox
			require.Eventually(t, func() bool { in.mu.Lock(); defer in.mu.Unlock(); return len(in.halts) == 1 }, 10*time.Second, time.Millisecond)
			close(proceed)
			go func() { // let it run
				for range stepped {
				}
			}()
			defer close(stepped)
			result := call.result()
			require.ErrorIs(t, result.Err, context.Canceled)
			require.ErrorIs(t, result.Err, why)
			require.Equal(t, c.prompt, result.Usage.PromptTokens)
			require.Equal(t, c.name == "decode", len(result.Tokens) > 0)
			call.release()
			require.NoError(t, e.Close())
			require.Zero(t, e.Stats().BlocksUsed)
		})
	}
}

// TestCloseDuringEverything: Close comes at any moment and ends what runs, waits or is about to be asked.
func TestCloseDuringEverything(t *testing.T) {
	for _, seed := range seeds(10) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			o := fakeOptions{blocks: 20, blockTokens: 16, sequences: 6, stepTokens: 24, queue: 4, context: 250}
			o.overlap, o.worker, o.seed = seed%3 > 0, seed%3 == 2, seed
			e, _ := o.start(t)
			var finished sync.WaitGroup
			for worker := range 8 {
				finished.Go(func() {
					rng := rand.New(rand.NewPCG(seed, uint64(worker)))
					for closed := false; !closed; {
						r := randomRequest(rng, o.context)
						if worker == 0 {
							_, err := e.Batch(context.Background(), []Request{r, r, r, r, r, r, r, r, r, r, r, r})
							closed = errors.Is(err, ErrClosed)
							continue
						}
						_, err := collect(e, r)
						if closed = errors.Is(err, ErrClosed); err != nil && !closed && !errors.Is(err, ErrOverloaded) {
							t.Errorf("request %+v: %v", r, err)
							return
						}
					}
				})
			}
			time.Sleep(time.Duration(seed) * 700 * time.Microsecond)
			finished.Go(func() { e.Close() })
			require.NoError(t, e.Close())
			require.Zero(t, e.Stats().BlocksUsed+e.Stats().Running)
			finished.Wait()
			require.Zero(t, e.Stats().Waiting)
		})
	}
}

// TestPlacesInOrder: who waits for a place gets it in the order of asking, unless ctx ends first, and newcomers that do
// not wait cannot take it.
func TestPlacesInOrder(t *testing.T) {
	in := newInbox(1)
	require.NoError(t, in.accept(t.Context(), &sequence{}, false))
	impatient, leave := context.WithCancel(t.Context())
	order := make(chan int, 3)
	for i, ctx := range []context.Context{t.Context(), impatient, t.Context()} {
		go func() {
			if err := in.accept(ctx, &sequence{}, true); err != nil {
				i = -i
			}
			order <- i + 1
		}()
		require.Eventually(t, func() bool { in.mu.Lock(); defer in.mu.Unlock(); return len(in.waiting) == i+1 }, 10*time.Second, time.Millisecond)
	}
	require.ErrorIs(t, in.accept(t.Context(), &sequence{}, false), ErrOverloaded)
	leave()
	require.Equal(t, 0, <-order, "the second one has left")
	in.leave(1)
	require.Equal(t, 1, <-order)
	require.ErrorIs(t, in.accept(t.Context(), &sequence{}, false), ErrOverloaded)
	in.close(ErrClosed)
	require.Equal(t, -1, <-order, "the third one hears of the end")
	require.Equal(t, 1, in.accepted())
	require.ErrorIs(t, in.accept(t.Context(), &sequence{}, true), ErrClosed)
}
