package engine

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kvcache"
)

var seed = flag.Uint64("seed", 0, "run the random tests with this seed only; 0: several")

// seeds are the seeds of a random test.
func seeds(n int) []uint64 {
	if *seed != 0 {
		return []uint64{*seed}
	}
	list := make([]uint64, n)
	for i := range list {
		list[i] = uint64(i + 1)
	}
	return list
}

// TestSchedulerRandom does random things to a scheduler with a tiny pool and compares every answer with the fake model's
// own. The books are checked after every step.
func TestSchedulerRandom(t *testing.T) {
	n := 150
	if testing.Short() {
		n = 30
	}
	for _, overlap := range []bool{false, true} {
		preemptions, chunked := int64(0), 0
		for _, seed := range seeds(n) {
			t.Run(fmt.Sprintf("overlap=%v/seed=%d", overlap, seed), func(t *testing.T) {
				p, c, _ := randomRun(t, seed, nil, overlap)
				preemptions, chunked = preemptions+p, chunked+c
			})
		}
		if *seed == 0 {
			require.Greater(t, preemptions, int64(2*n), "the test shall preempt")
			require.Greater(t, chunked, 2*n, "the test shall cut prompts")
		}
	}
}

// randomRun does the random things that seed says. With a cache, prompts begin alike, and reused is how many tokens of theirs
// were not computed.
func randomRun(t *testing.T, seed uint64, cache kvcache.Strategy, overlap bool) (preemptions int64, chunked, reused int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	o := fakeOptions{
		blocks:      4 + rng.IntN(20),
		blockTokens: []int{16, 32}[rng.IntN(2)],
		sequences:   1 + rng.IntN(8),
		cache:       cache,
		overlap:     overlap,
		seed:        seed % 4,
	}
	o.stepTokens = o.sequences + rng.IntN(60)
	o.context = min(300, o.blocks*o.blockTokens)
	s, runner := o.scheduler(t)
	in := &intake{text: fakeCodec{}, vocab: fakeVocab, context: o.context, eos: []int32{fakeEOS}}
	requests := map[*sequence]Request{}
	var live []*sequence
	step := func() {
		require.NoError(t, s.doStep(time.Now()))
		settle(s)
		require.NoError(t, s.check())
	}
	for op := range 300 {
		switch rng.IntN(10) {
		case 0, 1:
			r := randomRequest(rng, o.context)
			if cache != nil {
				for i := range r.Tokens[:rng.IntN(len(r.Tokens)+1)] {
					r.Tokens[i] = int32(i * i % fakeVocab)
				}
			}
			seq, err := in.sequence(&r)
			require.NoError(t, err)
			seq.answer.halt = func() { s.halt(seq, nil, time.Now()) }
			seq.ticket = uint64(op + 1)
			s.enqueue(seq)
			requests[seq] = r
			live = append(live, seq)
		case 2:
			if len(live) > 0 && rng.IntN(3) == 0 {
				s.halt(live[rng.IntN(len(live))], errFake, time.Now())
				settle(s)
				require.NoError(t, s.check())
			}
		default:
			step()
		}
	}
	for steps := 0; !s.idle() || len(s.flying) > 0; steps++ {
		require.Less(t, steps, 100_000, "the scheduler does not come to an end")
		step()
	}
	for _, seq := range live {
		require.True(t, seq.answer.over, "a request has no end")
		checkAnswer(t, requests[seq], seq.answer, o.context)
		require.GreaterOrEqual(t, seq.promptUnknown, 0, "a log-probability was learnt twice")
	}
	require.Equal(t, len(live), s.ended)
	require.Empty(t, runner.flying)
	for _, adds := range runner.steps {
		for _, rows := range adds {
			if rows > 1 && rows == o.stepTokens {
				chunked++
			}
		}
	}
	return s.count.preemptions, chunked, int(s.count.cachedTokens)
}

// TestPromptLogprobsPreempted: what was learnt of a prompt before its sequence was preempted is not asked again.
func TestPromptLogprobsPreempted(t *testing.T) {
	o := fakeOptions{blocks: 6, blockTokens: 16, sequences: 2, stepTokens: 4, context: 96}
	s, _ := o.scheduler(t)
	in := &intake{text: fakeCodec{}, vocab: fakeVocab, context: o.context}
	growing, err := in.sequence(&Request{Tokens: make([]int32, 15), MaxTokens: 60, IgnoreEOS: true})
	require.NoError(t, err)
	r := Request{Tokens: randomTokens(rand.New(rand.NewPCG(1, 1)), 60), MaxTokens: 2, IgnoreEOS: true, PromptLogprobs: true}
	asking, err := in.sequence(&r)
	require.NoError(t, err)
	growing.ticket, asking.ticket = 1, 2
	s.enqueue(growing)
	s.enqueue(asking)
	known := 0
	for !s.idle() {
		require.NoError(t, s.doStep(time.Now()))
		if asking.preemptions == 0 {
			known = 59 - asking.promptUnknown
		}
		settle(s)
	}
	require.Equal(t, 1, asking.preemptions)
	require.Greater(t, known, 30, "known when it was preempted")
	require.Less(t, known, 59)
	require.Zero(t, asking.promptUnknown)
	checkAnswer(t, r, asking.answer, o.context)
}

var errFake = errors.New("cancelled by the test")

// settle does the text goroutine's work at once.
func settle(s *scheduler) {
	for len(s.events) > 0 {
		events := s.events
		s.events = nil
		for _, ev := range events {
			ev.to.handle(ev)
		}
	}
}

func randomRequest(rng *rand.Rand, context int) Request {
	r := Request{
		Tokens:         randomTokens(rng, 1+rng.IntN(min(context-1, 80))),
		MaxTokens:      rng.IntN(150),
		IgnoreEOS:      rng.IntN(3) > 0,
		PromptLogprobs: rng.IntN(5) == 0,
		Logprobs:       rng.IntN(3),
	}
	r.MaxTokens = min(r.MaxTokens, context-len(r.Tokens))
	if rng.IntN(2) == 0 {
		r.Sampling = Sampling{Temperature: 1, Seed: rng.Uint64()}
	}
	if rng.IntN(5) == 0 {
		r.StopTokens = randomTokens(rng, 1)
	}
	if rng.IntN(5) == 0 {
		r.Stop = []string{fakeText(rng.Int32N(fakeVocab)) + fakeText(rng.Int32N(fakeVocab)), fakeText(rng.Int32N(29))}
	}
	return r
}

// checkAnswer compares an answer that has come to its end with what the fake model says.
func checkAnswer(t testing.TB, r Request, a *answer, context int) {
	t.Helper()
	last := a.ready[len(a.ready)-1]
	checkResult(t, r, last.Result, context)
	text := ""
	for _, tok := range a.ready {
		text += tok.Text
	}
	if !a.quiet {
		require.Equal(t, last.Result.Text, text, "the text is the streamed pieces")
	}
}

func checkResult(t testing.TB, r Request, got *Result, context int) {
	t.Helper()
	tokens, finish := fakeContinue(r, context)
	require.Equal(t, len(got.Tokens), got.Usage.CompletionTokens)
	require.Equal(t, len(got.Tokens), len(got.At))
	require.Equal(t, len(r.Tokens), got.Usage.PromptTokens)
	if got.Err != nil {
		require.Empty(t, got.Finish)
		require.LessOrEqual(t, len(got.Tokens), len(tokens))
		if len(got.Tokens) > 0 { // cut short, but right as far as it goes
			require.Equal(t, tokens[:len(got.Tokens)], got.Tokens)
		}
		return
	}
	require.Equal(t, tokens, got.Tokens)
	require.Equal(t, finish, got.Finish)
	require.True(t, got.Exact)
	if r.PromptLogprobs {
		require.Len(t, got.Prompt, len(r.Tokens))
		for i := 1; i < len(r.Tokens); i++ {
			want := fakeSample(r.Tokens[:i], promptRow(&sequence{tokens: r.Tokens}, i))
			require.Equal(t, want.Argmax, got.Prompt[i].Argmax)
			require.Equal(t, want.Logit-want.LogSumExp, got.Prompt[i].Logprob)
			require.Len(t, got.Prompt[i].Top, r.Logprobs)
		}
	} else {
		require.Nil(t, got.Prompt)
	}
}
