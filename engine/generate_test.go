package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// small is an engine in which nothing is scarce.
var small = fakeOptions{blocks: 64, blockTokens: 16, sequences: 8, stepTokens: 32, queue: 16, context: 400}

func TestGenerate(t *testing.T) {
	e, runner := small.start(t)
	r := Request{Tokens: []int32{1, 2, 3, 4, 5}, MaxTokens: 40, IgnoreEOS: true, Logprobs: 3}
	before := time.Now()
	tokens, err := collect(e, r)
	require.NoError(t, err)
	require.Len(t, tokens, 40)

	last := tokens[len(tokens)-1]
	require.Equal(t, FinishLength, last.Finish)
	checkResult(t, r, last.Result, small.context)
	text := ""
	for i, tok := range tokens {
		require.Equal(t, last.Result.Tokens[i], tok.ID)
		require.Equal(t, tok.ID, tok.Argmax, "greedy")
		require.Equal(t, last.Result.At[i], tok.At)
		require.Len(t, tok.Top, 3)
		require.Equal(t, TokenLogprob{ID: tok.Argmax, Logit: 0, Logprob: -1}, tok.Top[0])
		require.Equal(t, i == len(tokens)-1, tok.Result != nil)
		text += tok.Text
	}
	require.Equal(t, text, last.Result.Text)

	u := last.Result.Usage
	require.Equal(t, Usage{5, 0, 40, 0, u.Queue, u.Prefill, u.Decode}, u)
	require.Positive(t, u.Prefill)
	require.Positive(t, u.Decode)
	require.LessOrEqual(t, u.Queue+u.Prefill+u.Decode, time.Since(before))

	s := e.Stats()
	require.EqualValues(t, 5+39, s.TokensComputed)
	require.EqualValues(t, 40, s.Steps)
	require.EqualValues(t, 40, s.CompletionTokens)
	require.EqualValues(t, 5, s.PromptTokens)
	require.Equal(t, 3, s.BlocksPeak)
	require.EqualValues(t, 3*16*8, s.KVBytesPeak)
	require.Zero(t, s.BlocksUsed)
	require.Zero(t, s.Running+s.Waiting)
	require.Equal(t, runner.computed(), s.TokensComputed)
	e.ResetPeak()
	require.Zero(t, e.Stats().BlocksPeak)
}

func TestGenerateOnce(t *testing.T) {
	e, _ := small.start(t)
	answer := e.Generate(context.Background(), Request{Tokens: []int32{1}, MaxTokens: 1})
	for _, err := range answer {
		require.NoError(t, err)
	}
	for _, err := range answer {
		require.ErrorIs(t, err, ErrInvalid)
	}
}

// TestBreakCancels: the step that runs when the loop is left is the request's last.
func TestBreakCancels(t *testing.T) {
	e, runner := small.engine(t)
	steps := make(chan struct{}, 3)
	for range 3 {
		steps <- struct{}{}
	}
	runner.beforeRun = func() error { <-steps; return nil }
	e.core.start()
	n := 0
	for _, err := range e.Generate(context.Background(), Request{Tokens: []int32{1}, IgnoreEOS: true}) {
		require.NoError(t, err)
		if n++; n == 3 {
			break
		}
	}
	close(steps)
	require.Eventually(t, func() bool { return e.Stats().Running == 0 && e.Stats().BlocksUsed == 0 }, 10*time.Second, time.Millisecond)
	require.LessOrEqual(t, e.Stats().CompletionTokens, int64(4))
}

func TestInvalidRequests(t *testing.T) {
	e, _ := small.start(t)
	ok := []int32{1}
	for _, c := range []struct {
		name    string
		request Request
		want    []string
	}{
		{"nothing", Request{}, []string{"exactly one of Prompt, Messages, Tokens and Chunks must be set, not 0"}},
		{"two prompts", Request{Prompt: "a", Tokens: ok}, []string{"exactly one of Prompt"}},
		{"token too large", Request{Tokens: []int32{1, 60}}, []string{"Tokens[1] is 60, outside the vocabulary of 60 tokens"}},
		{"token below zero", Request{Tokens: []int32{-1}}, []string{"Tokens[0] is -1"}},
		{"empty chunk", Request{Chunks: []Chunk{{Text: "a"}, {}}}, []string{"Chunks[1] must have either Text or Tokens"}},
		{"chunk with both", Request{Chunks: []Chunk{{Text: "a", Tokens: ok}}}, []string{"Chunks[0] must have either Text or Tokens"}},
		{"token in a chunk", Request{Chunks: []Chunk{{Tokens: []int32{99}}}}, []string{"Chunks[0].Tokens[0] is 99"}},
		{"stop token", Request{Tokens: ok, StopTokens: []int32{60}}, []string{"StopTokens[0] is 60"}},
		{"forced token", Request{Tokens: ok, Force: []int32{60}}, []string{"Force[0] is 60"}},
		{"empty stop string", Request{Tokens: ok, Stop: []string{"a", ""}}, []string{`Stop[1] must be text that is not empty, not ""`}},
		{"stop string that is no text", Request{Tokens: ok, Stop: []string{"\xff"}}, []string{`Stop[0] must be text`}},
		{"negative temperature", Request{Tokens: ok, Sampling: Sampling{Temperature: -1}}, []string{"Temperature must be 0 or more, not -1"}},
		{"no temperature", Request{Tokens: ok, Sampling: Sampling{Temperature: math.NaN()}}, []string{"Temperature must be 0 or more, not NaN"}},
		{"infinite temperature", Request{Tokens: ok, Sampling: Sampling{Temperature: math.Inf(1)}}, []string{"not +Inf"}},
		{"negative length", Request{Tokens: ok, MaxTokens: -1}, []string{"MaxTokens must be 0 or more, not -1"}},
		{"forced to another length", Request{Tokens: ok, MaxTokens: 3, Force: ok}, []string{"MaxTokens must be 0 or the 1 tokens of Force, not 3"}},
		{"too many logprobs", Request{Tokens: ok, Logprobs: 65}, []string{"Logprobs must be 0 to 60, not 65"}},
		{"no such role", Request{Messages: []Message{{"nobody", "hi"}}}, []string{"Messages: no such role"}},
		{"all at once", Request{MaxTokens: -1, Logprobs: -1}, []string{"exactly one of", "MaxTokens must", "Logprobs must"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tokens, err := collect(e, c.request)
			require.ErrorIs(t, err, ErrInvalid)
			require.Len(t, tokens, 1)
			require.EqualValues(t, -1, tokens[0].ID)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), "\n", "one line")
		})
	}
	require.Zero(t, e.Stats().Steps)
}

func TestContextLength(t *testing.T) {
	e, _ := small.start(t)
	for _, c := range []struct {
		name        string
		prompt, max int
		force       int
		want        *ContextLengthError
	}{
		{"prompt too long", 401, 0, 0, &ContextLengthError{401, 1, 400}},
		{"prompt as long as the context", 400, 0, 0, &ContextLengthError{400, 1, 400}},
		{"room for one token", 399, 0, 0, nil},
		{"output too long", 300, 101, 0, &ContextLengthError{300, 101, 400}},
		{"output just fits", 300, 100, 0, nil},
		{"forced too long", 300, 0, 101, &ContextLengthError{300, 101, 400}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Request{Tokens: make([]int32, c.prompt), MaxTokens: c.max, Force: make([]int32, c.force), IgnoreEOS: true}
			tokens, err := collect(e, r)
			if c.want == nil {
				require.NoError(t, err)
				require.Equal(t, 400, len(tokens)+c.prompt)
				return
			}
			var got *ContextLengthError
			require.ErrorAs(t, err, &got)
			require.Equal(t, c.want, got)
			require.ErrorIs(t, err, ErrContextLength)
		})
	}
}

// TestForce: a forced text is followed to its end, and the model is asked beside it.
func TestForce(t *testing.T) {
	e, _ := small.start(t)
	force := []int32{7, fakeEOS, 9, 9}
	r := Request{Tokens: []int32{1, 2, 3}, Force: force, Stop: []string{"h"}, StopTokens: []int32{9}, PromptLogprobs: true, Logprobs: 2}
	tokens, err := collect(e, r)
	require.NoError(t, err)
	result := tokens[len(tokens)-1].Result
	require.Equal(t, force, result.Tokens, "nothing but its end stops a forced text")
	require.Equal(t, FinishLength, result.Finish)
	past := r.Tokens
	for i, tok := range tokens {
		want := fakeSample(past, promptRow(&sequence{tokens: force}, i))
		require.Equal(t, want.Argmax, tok.Argmax)
		require.Equal(t, want.Logit-want.LogSumExp, tok.Logprob)
		past = append(past[:len(past):len(past)], force[i])
	}
	require.Zero(t, result.Prompt[0])
	require.Len(t, result.Prompt, 3)
	require.Len(t, result.Prompt[2].Top, 2)
}

func TestChunksAreConcatenated(t *testing.T) {
	e, _ := small.start(t)
	whole, err := collect(e, Request{Tokens: []int32{'a' % fakeVocab, 'b' % fakeVocab, 5, 6}, MaxTokens: 20})
	require.NoError(t, err)
	parts, err := collect(e, Request{Chunks: []Chunk{{Text: "ab"}, {Tokens: []int32{5, 6}}}, MaxTokens: 20})
	require.NoError(t, err)
	require.Equal(t, whole[len(whole)-1].Result.Tokens, parts[len(parts)-1].Result.Tokens)
}

// TestStopStrings: the text ends before the stop string, the tokens with the one that completed it, and nothing of what the
// step loop sampled until it heard of it is given out.
func TestStopStrings(t *testing.T) {
	e, _ := small.start(t)
	r := Request{Tokens: []int32{3, 1}, MaxTokens: 60, IgnoreEOS: true}
	free, err := collect(e, r)
	require.NoError(t, err)
	text := []rune(free[len(free)-1].Result.Text)
	for _, at := range []int{0, 1, 7, 30} {
		stop := string(text[at : at+3])
		r.Stop = []string{stop, "not in there"}
		tokens, err := collect(e, r)
		require.NoError(t, err)
		result := tokens[len(tokens)-1].Result
		want, _, _ := strings.Cut(string(text), stop)
		require.Equal(t, want, result.Text)
		require.Equal(t, FinishStop, result.Finish)
		require.Equal(t, len([]rune(want))+3, len(result.Tokens), "the token that completed the stop string is the last")
		require.Equal(t, len(result.Tokens), len(tokens))
		checkResult(t, r, result, small.context)
	}
}

func TestOverloaded(t *testing.T) {
	o := small
	o.sequences, o.queue = 2, 3
	e, runner := o.engine(t)
	gate := make(chan struct{})
	runner.beforeRun = func() error { <-gate; return nil }
	e.core.start()
	r := Request{Tokens: []int32{1}, MaxTokens: 1}
	calls := make([]*call, 5)
	for i := range calls {
		var err error
		calls[i], err = e.call(context.Background(), &r, false)
		require.NoError(t, err)
	}
	_, err := collect(e, r)
	require.ErrorIs(t, err, ErrOverloaded)
	require.Equal(t, 5, e.Stats().Waiting+e.Stats().Running)
	close(gate)
	for _, c := range calls {
		require.NoError(t, c.result().Err)
		c.release()
	}
	_, err = collect(e, r)
	require.NoError(t, err)
}

// TestOneAfterAnother: who has read the end of an answer finds its place free.
func TestOneAfterAnother(t *testing.T) {
	o := small
	o.sequences, o.queue = 1, 0
	e, _ := o.start(t)
	for range 200 {
		_, err := collect(e, Request{Tokens: []int32{1}, MaxTokens: 1})
		require.NoError(t, err)
	}
}

func TestBatch(t *testing.T) {
	o := small
	o.queue = 1 // fewer than the requests: the batch waits
	e, _ := o.start(t)
	rng := rand.New(rand.NewPCG(1, 2))
	requests := make([]Request, 60)
	for i := range requests {
		requests[i] = randomRequest(rng, 200)
	}
	requests[7] = Request{Tokens: []int32{99}}
	requests[30] = Request{Tokens: make([]int32, 500)}
	requests[31].Deadline = time.Now().Add(-time.Second)
	results, err := e.Batch(context.Background(), requests)
	require.Len(t, results, 60)
	for i, r := range requests {
		switch i {
		case 7:
			require.ErrorIs(t, results[i].Err, ErrInvalid)
		case 30:
			require.ErrorIs(t, results[i].Err, ErrContextLength)
		case 31:
			require.ErrorIs(t, results[i].Err, context.DeadlineExceeded)
		default:
			require.NoError(t, results[i].Err)
			checkResult(t, r, &results[i], o.context)
		}
	}
	require.ErrorIs(t, err, ErrInvalid)
	require.ErrorIs(t, err, ErrContextLength)
	require.ErrorContains(t, err, "request 7: ")
	require.ErrorContains(t, err, "request 30: ")

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	results, err = e.Batch(ctx, requests[:3])
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, results[2].Err, context.Canceled)

	none, err := e.Batch(context.Background(), nil)
	require.NoError(t, err)
	require.Empty(t, none)
}

// together queues requests before the engine starts, so that they run in the same steps, and waits for their results.
func together(t *testing.T, e *Engine, requests ...Request) []Result {
	t.Helper()
	var calls []*call
	for _, r := range requests {
		c, err := e.call(context.Background(), &r, true)
		require.NoError(t, err)
		defer c.release()
		calls = append(calls, c)
	}
	e.core.start()
	var results []Result
	for _, c := range calls {
		results = append(results, c.result())
	}
	return results
}

// TestNonFinite: a logit that is no number fails its request, in the middle of another's answer.
func TestNonFinite(t *testing.T) {
	e, runner := small.engine(t)
	runner.broken = func(past []int32) bool { return past[0] == 5 && len(past) == 20 }
	good := Request{Tokens: []int32{1, 2}, MaxTokens: 50, IgnoreEOS: true}
	results := together(t, e, good, Request{Tokens: []int32{5, 5}, MaxTokens: 50, IgnoreEOS: true})
	checkResult(t, good, &results[0], small.context)
	require.ErrorIs(t, results[1].Err, ErrNonFinite)
	require.ErrorContains(t, results[1].Err, "step 19, after token 19 of the sequence")
	require.Len(t, results[1].Tokens, 18)
}

// TestNonFinitePrompt: in the middle of a prompt whose log-probabilities were asked for, with more of it in the same step.
func TestNonFinitePrompt(t *testing.T) {
	e, runner := small.engine(t)
	runner.broken = func(past []int32) bool { return len(past) == 3 }
	e.core.start()
	tokens, err := collect(e, Request{Tokens: make([]int32, 10), MaxTokens: 5, PromptLogprobs: true})
	require.ErrorIs(t, err, ErrNonFinite)
	require.ErrorContains(t, err, "step 1, after token 2 of the sequence")
	require.Len(t, tokens, 1)
	require.NoError(t, e.Close())
	require.Zero(t, e.Stats().CompletionTokens)
}

// TestDeviceError: what ends the device ends the engine, and everybody hears why. With two steps under way, too, what was
// answered before the error is delivered, and nothing after.
func TestDeviceError(t *testing.T) {
	for _, overlap := range []bool{false, true} {
		t.Run(fmt.Sprintf("overlap=%v", overlap), func(t *testing.T) {
			o := small
			o.overlap = overlap
			e, runner := o.engine(t)
			burned := errors.New("the device has burned down")
			steps := 0
			runner.beforeRun = func() error {
				if steps++; steps == 5 {
					return burned
				}
				return nil
			}
			r := Request{Tokens: []int32{1}, MaxTokens: 50, IgnoreEOS: true}
			want, _ := fakeContinue(r, o.context)
			for _, result := range together(t, e, r, r) {
				require.ErrorIs(t, result.Err, burned)
				require.ErrorIs(t, result.Err, ErrClosed)
				require.ErrorContains(t, result.Err, "step 5")
				require.Equal(t, want[:4], result.Tokens)
			}
			_, err := collect(e, r)
			require.ErrorIs(t, err, burned)
			require.ErrorIs(t, e.Close(), burned)
			require.ErrorIs(t, e.Close(), burned)
			require.Empty(t, runner.flying, "nothing runs any more")
		})
	}
}

func TestObserver(t *testing.T) {
	e, _ := small.engine(t)
	var steps []StepInfo
	e.core.observer.StepDone = func(s StepInfo) { steps = append(steps, s) }
	e.core.start()
	_, err := collect(e, Request{Tokens: make([]int32, 40), MaxTokens: 3, IgnoreEOS: true})
	require.NoError(t, err)
	require.NoError(t, e.Close())
	require.Len(t, steps, 4)
	for i, want := range []StepInfo{{Rows: 32, PrefillTokens: 32, Running: 1}, {Rows: 8, PrefillTokens: 8, Running: 1}, {Rows: 1, DecodeRows: 1, Running: 1}, {Rows: 1, DecodeRows: 1}} {
		want.Start, want.Duration = steps[i].Start, steps[i].Duration
		require.Equal(t, want, steps[i])
	}
}
