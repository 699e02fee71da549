package engine

import (
	"context"
	"strings"
	"sync"
	"time"
)

// event is what the step loop tells about one request: a token, the end, or both.
type event struct {
	to      *answer
	token   int32 // -1: none, the end only
	argmax  int32
	logprob float32
	top     []TokenLogprob
	at      time.Time
	end     *ending // nil: there is more to come
}

// ending is what the step loop knows of a request that is over.
type ending struct {
	err                error        // why it failed, or
	finish             FinishReason // why it ended
	usage              Usage        // without times and completion tokens
	accepted, admitted time.Time
	prompt             []PromptLogprob
	exact              bool
}

// decoder turns tokens into text, piece by piece; a *tokenizer.Stream is one.
type decoder interface {
	Next(token int32) string
	Flush() string
}

// answer is a request's way back. The step loop's events become tokens with text in the text goroutine and wait here for
// the reader, however slow it is: there are never more than the request's MaxTokens of them.
type answer struct {
	// Set when made.
	quiet bool   // nobody reads the tokens, only the result is wanted
	halt  func() // tells the step loop that a stop string has come

	// The text goroutine's.
	decode decoder
	stops  stopMatcher
	text   strings.Builder
	result Result
	last   *Token // the token that completed a stop string, held back until the step loop has ended the request

	mu     sync.Mutex
	ready  []Token       // guarded by mu
	err    error         // guarded by mu: comes with the last of ready
	over   bool          // guarded by mu: ready has the last token
	notify chan struct{} // [1] filled when ready or over has changed
}

func newAnswer(decode decoder, stops []string) *answer {
	return &answer{decode: decode, stops: stopMatcher{stops: stops}, notify: make(chan struct{}, 1)}
}

// handle takes the next event. Only the text goroutine calls it.
func (a *answer) handle(ev event) {
	if ev.token >= 0 && a.last == nil {
		a.handleToken(ev)
		return
	}
	if ev.end == nil {
		return // sampled after the stop string, before the step loop knew of it
	}
	if a.last != nil {
		a.finish(*a.last, *ev.end, FinishStop)
		return
	}
	a.finish(Token{ID: -1, Argmax: -1, At: ev.at}, *ev.end, ev.end.finish)
}

func (a *answer) handleToken(ev event) {
	a.result.Tokens = append(a.result.Tokens, ev.token)
	a.result.At = append(a.result.At, ev.at)
	token := Token{ID: ev.token, Argmax: ev.argmax, Logprob: ev.logprob, Top: ev.top, At: ev.at}
	stopped := false
	if ev.end == nil || ev.end.finish != FinishStop {
		token.Text, stopped = a.stops.push(a.decode.Next(ev.token))
	}
	if ev.end != nil && !stopped {
		var rest string
		rest, stopped = a.stops.push(a.decode.Flush())
		token.Text += rest
		if !stopped {
			token.Text += a.stops.flush()
		}
	}
	a.text.WriteString(token.Text)
	switch {
	case ev.end != nil && stopped:
		a.finish(token, *ev.end, FinishStop)
	case ev.end != nil:
		a.finish(token, *ev.end, ev.end.finish)
	case stopped:
		a.last = &token
		a.halt()
	case !a.quiet:
		a.publish(token, nil, false)
	}
}

// finish completes the result and gives the last token out. A text that a stop string has ended is complete, whatever
// went wrong afterwards.
func (a *answer) finish(token Token, e ending, reason FinishReason) {
	if a.last != nil {
		e.err = nil
	}
	r := a.result
	r.Text = a.text.String()
	r.Finish, r.Err = reason, e.err
	r.Prompt, r.Exact = e.prompt, e.exact
	r.Usage = e.usage
	r.Usage.CompletionTokens = len(r.Tokens)
	r.Usage.setTimes(e, r.At, token.At)
	token.Finish, token.Result = reason, &r
	a.publish(token, e.err, true)
}

// setTimes fills in the durations of a request that ended at end and whose tokens came at the given times.
func (u *Usage) setTimes(e ending, tokens []time.Time, end time.Time) {
	switch {
	case e.admitted.IsZero():
		u.Queue = end.Sub(e.accepted)
	case len(tokens) == 0:
		u.Queue, u.Prefill = e.admitted.Sub(e.accepted), end.Sub(e.admitted)
	default:
		first := tokens[0]
		u.Queue, u.Prefill = e.admitted.Sub(e.accepted), first.Sub(e.admitted)
		u.Decode = tokens[len(tokens)-1].Sub(first)
	}
}

func (a *answer) publish(t Token, err error, over bool) {
	a.mu.Lock()
	a.ready = append(a.ready, t)
	a.err, a.over = err, over
	a.mu.Unlock()
	select {
	case a.notify <- struct{}{}:
	default:
	}
}

// wait returns the tokens that are ready, in the memory of dst, once there are any, and whether the last one is among them;
// its error is err. If ctx is done first and the end has not come, it returns ctx's error.
func (a *answer) wait(ctx context.Context, dst []Token) (tokens []Token, over bool, err error) {
	for {
		a.mu.Lock()
		if a.over || len(a.ready) > 0 && ctx.Err() == nil {
			tokens, a.ready = a.ready, dst[:0]
			over, err = a.over, a.err
			a.mu.Unlock()
			return tokens, over, err
		}
		a.mu.Unlock()
		if ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		select {
		case <-a.notify:
		case <-ctx.Done():
		}
	}
}
