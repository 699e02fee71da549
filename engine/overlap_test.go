package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kvcache"
)

// richRequest is a random request with everything that can be asked for.
func richRequest(rng *rand.Rand, context int) Request {
	r := randomRequest(rng, context)
	for i := range r.Tokens[:rng.IntN(len(r.Tokens)+1)] {
		r.Tokens[i] = int32(i * i % fakeVocab)
	}
	r.MaxTokens = max(r.MaxTokens, 1)
	r.Salt = []string{"", "", "tenant"}[rng.IntN(3)]
	if rng.IntN(8) == 0 {
		r.Force = randomTokens(rng, r.MaxTokens)
	}
	if rng.IntN(4) == 0 && len(r.Tokens) > 8 {
		at := 1 + rng.IntN(len(r.Tokens)-1)
		r.Chunks = []Chunk{{Tokens: r.Tokens[:at]}, {Tokens: r.Tokens[at:]}}
		r.Tokens = nil
	}
	switch rng.IntN(12) {
	case 0:
		r.Sampling.FrequencyPenalty = 1
	case 1:
		r.Sampling.RepetitionPenalty = 1.5
	case 2:
		r.Sampling.TopK, r.Sampling.LogitBias = 3, map[int32]float32{5: 2, 9: -1}
	case 3:
		r.Sampling.MinTokens = 1 + rng.IntN(r.MaxTokens)
	}
	return r
}

// TestOverlapAgrees: whether steps overlap or not, each request has the same answer, whatever it asks for, and however late or
// early the device works; also those that are cut short, as far as they go.
func TestOverlapAgrees(t *testing.T) {
	n := 24
	if testing.Short() {
		n = 8
	}
	for _, strategy := range append(exact(t)[:5], kvcache.Standard{}) {
		for _, seed := range seeds(n) {
			t.Run(fmt.Sprintf("%s/seed=%d", strategy.Name(), seed), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 3))
				o := fakeOptions{blocks: 12 + rng.IntN(30), blockTokens: 16, sequences: 1 + rng.IntN(8), cache: strategy}
				o.stepTokens = o.sequences + rng.IntN(60)
				o.context = min(300, o.blocks*o.blockTokens)
				requests := make([]Request, 25)
				for i := range requests {
					requests[i] = richRequest(rng, o.context)
				}
				want := overlapRun(t, o, requests, seed)
				for i, late := range []uint64{0, seed, 0} {
					o.overlap, o.seed, o.worker = true, late, i == 2
					got := overlapRun(t, o, requests, seed)
					for i := range want {
						requireAgree(t, want[i], got[i])
					}
				}
			})
		}
	}
}

// overlapRun serves requests, of which some are halted on the way.
func overlapRun(t *testing.T, o fakeOptions, requests []Request, seed uint64) []*Result {
	rng := rand.New(rand.NewPCG(seed, 4))
	s, runner := o.scheduler(t)
	in := &intake{text: fakeCodec{}, vocab: fakeVocab, context: o.context, eos: []int32{fakeEOS}}
	var all []*sequence
	step := func() {
		require.NoError(t, s.doStep(time.Now()))
		settle(s)
		require.NoError(t, s.check())
	}
	for i := range requests {
		seq, err := in.sequence(&requests[i])
		require.NoError(t, err)
		seq.ticket = uint64(i + 1)
		seq.answer.halt = func() { s.halt(seq, nil, time.Now()) }
		s.enqueue(seq)
		all = append(all, seq)
		for range rng.IntN(20) {
			step()
		}
		if rng.IntN(4) == 0 {
			s.halt(all[rng.IntN(len(all))], errFake, time.Now())
			settle(s)
			require.NoError(t, s.check())
		}
		if rng.IntN(10) == 0 {
			require.NoError(t, s.drain())
			settle(s)
			require.NoError(t, s.check())
		}
	}
	for steps := 0; !s.idle() || len(s.flying) > 0; steps++ {
		require.Less(t, steps, 100_000, "the scheduler does not come to an end")
		step()
	}
	require.Empty(t, runner.flying)
	var results []*Result
	for _, seq := range all {
		require.True(t, seq.answer.over, "a request has no end")
		results = append(results, seq.answer.ready[len(seq.answer.ready)-1].Result)
	}
	return results
}

// requireAgree compares two answers to a request, either of which may have been cut short.
func requireAgree(t *testing.T, want, got *Result) {
	t.Helper()
	n := min(len(want.Tokens), len(got.Tokens))
	if got.Err == nil {
		require.GreaterOrEqual(t, len(got.Tokens), len(want.Tokens))
	}
	if want.Err == nil {
		require.GreaterOrEqual(t, len(want.Tokens), len(got.Tokens))
	}
	if n > 0 {
		require.Equal(t, want.Tokens[:n], got.Tokens[:n])
	}
	if want.Err != nil || got.Err != nil {
		return
	}
	require.Equal(t, want.Text, got.Text)
	require.Equal(t, want.Finish, got.Finish)
	require.Equal(t, want.Prompt, got.Prompt)
	require.Equal(t, want.Exact, got.Exact)
	require.Equal(t, want.Usage.CompletionTokens, got.Usage.CompletionTokens)
}

// TestOverlapObserver: the times of steps that overlap do not, and each step is told of once.
func TestOverlapObserver(t *testing.T) {
	o := small
	o.overlap = true
	e, _ := o.engine(t)
	var steps []StepInfo
	e.core.observer.StepDone = func(s StepInfo) { steps = append(steps, s) }
	e.core.start()
	_, err := collect(e, Request{Tokens: make([]int32, 40), MaxTokens: 4, IgnoreEOS: true})
	require.NoError(t, err)
	require.NoError(t, e.Close())
	require.Len(t, steps, 5)
	for i, want := range []StepInfo{
		{Rows: 32, PrefillTokens: 32, Running: 1}, {Rows: 8, PrefillTokens: 8, Running: 1},
		{Rows: 1, DecodeRows: 1, Running: 1}, {Rows: 1, DecodeRows: 1, Running: 1}, {Rows: 1, DecodeRows: 1},
	} {
		want.Start, want.Duration = steps[i].Start, steps[i].Duration
		require.Equal(t, want, steps[i])
		if i > 0 {
			require.False(t, steps[i].Start.Before(steps[i-1].Start.Add(steps[i-1].Duration)))
		}
	}
	require.EqualValues(t, 43, e.Stats().TokensComputed, "no row is computed after the last token")
}

// TestOverlapCalls: what is called between steps finds none running.
func TestOverlapCalls(t *testing.T) {
	o := small
	o.overlap = true
	e, runner := o.start(t)
	next := 0
	tokens := 0
	for _, err := range e.Generate(t.Context(), Request{Tokens: []int32{1}, MaxTokens: 200, IgnoreEOS: true}) {
		require.NoError(t, err)
		if tokens++; tokens%20 == 0 {
			called := make(chan int)
			require.NoError(t, e.core.inbox.call(func() { called <- len(runner.flying) }))
			require.Zero(t, <-called)
			next++
		}
	}
	require.Equal(t, 10, next)
}

// TestOverlapNonFinite: a logit that is no number fails its request, whose row in the next step is dropped.
func TestOverlapNonFinite(t *testing.T) {
	o := small
	o.overlap = true
	e, runner := o.engine(t)
	runner.broken = func(past []int32) bool { return past[0] == 5 && len(past) >= 20 }
	good := Request{Tokens: []int32{1, 2}, MaxTokens: 50, IgnoreEOS: true}
	results := together(t, e, good, Request{Tokens: []int32{5, 5}, MaxTokens: 50, IgnoreEOS: true})
	checkResult(t, good, &results[0], small.context)
	require.ErrorIs(t, results[1].Err, ErrNonFinite)
	require.ErrorContains(t, results[1].Err, "step 19, after token 19 of the sequence")
	require.Len(t, results[1].Tokens, 18)
}

// TestOverlapLearns: what is generated while steps overlap is found again like what is generated in any other way.
func TestOverlapLearns(t *testing.T) {
	for _, overlap := range []bool{false, true} {
		o := small
		o.overlap, o.cache = overlap, kvcache.Reuse{}
		e, _ := o.start(t)
		first := Request{Tokens: []int32{1, 2, 3}, MaxTokens: 94, IgnoreEOS: true} // all but the last token fill six blocks
		tokens, err := collect(e, first)
		require.NoError(t, err)
		generated := tokens[len(tokens)-1].Result.Tokens
		tokens, err = collect(e, Request{Tokens: slices.Concat(first.Tokens, generated), MaxTokens: 1})
		require.NoError(t, err)
		require.Equal(t, 96, tokens[0].Result.Usage.CachedTokens, "overlap %v", overlap)
	}
}

// TestOverlapIdle: what runs when the last request leaves is taken in although nothing follows.
func TestOverlapIdle(t *testing.T) {
	o := small
	o.overlap = true
	e, _ := o.engine(t)
	var done atomic.Int64
	e.core.observer.StepDone = func(StepInfo) { done.Add(1) }
	e.core.start()
	atRest := func() bool {
		s := e.Stats()
		return s.Running+s.BlocksUsed == 0 && s.Steps == done.Load()
	}
	r := Request{Tokens: []int32{1}, IgnoreEOS: true, MaxTokens: 100}
	n := 0
	for _, err := range e.Generate(t.Context(), r) {
		require.NoError(t, err)
		if n++; n == 3 {
			break
		}
	}
	require.Eventually(t, atRest, 10*time.Second, time.Millisecond)

	before := e.Stats().Steps
	tokens, _ := fakeContinue(r, o.context)
	r.StopTokens = tokens[4:5]
	tokens, _ = fakeContinue(r, o.context)
	got, err := collect(e, r)
	require.NoError(t, err)
	require.Len(t, got, len(tokens))
	require.Eventually(t, atRest, 10*time.Second, time.Millisecond)
	require.EqualValues(t, len(tokens)+1, e.Stats().Steps-before, "one row is computed for nothing")
}

// slowStore is a store in memory whose first Save waits.
type slowStore struct {
	flaky
	wait chan struct{}
}

func (s *slowStore) Open(kvcache.Geometry) (kvcache.Store, error) { return s, nil }

func (s *slowStore) Save(kvcache.Key, []int32, []byte) error {
	<-s.wait
	return errFlaky
}

// TestOverlapBesideStores: with stores that take their time and nothing to submit, a step that is done lets the next one be
// planned.
func TestOverlapBesideStores(t *testing.T) {
	store := &slowStore{wait: make(chan struct{})}
	o := small
	o.overlap, o.sequences, o.cache = true, 1, kvcache.Reuse{Tier: store}
	e, _ := o.start(t)
	var requests []Request
	for i := range int32(4) {
		requests = append(requests, Request{Tokens: slices.Repeat([]int32{i}, 40), MaxTokens: 3, IgnoreEOS: true})
	}
	results, err := e.Batch(t.Context(), requests)
	require.NoError(t, err)
	for i, r := range results {
		checkResult(t, requests[i], &r, o.context)
	}
	close(store.wait)
	require.NoError(t, e.Close())
}
