package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
)

// Generate answers a request, token by token. Nothing happens until the sequence is ranged over, which can be done once.
//
// What is wrong with the request, or stands in its way (ErrOverloaded, ErrClosed), is the first and only thing it yields,
// as an error. Breaking off the loop cancels the request, and so does ctx, which the loop then sees as an error. A reader may
// take its time: it delays nobody else. The last token has Finish and Result set; with an error, Result holds what there
// was until then, or is nil. A request that outgrows the whole cache ends with an error that matches kvcache.ErrTooLong.
func (e *Engine) Generate(ctx context.Context, r Request) iter.Seq2[Token, error] {
	var used atomic.Bool
	return func(yield func(Token, error) bool) {
		if used.Swap(true) {
			yield(Token{ID: -1, Argmax: -1}, fmt.Errorf("%w: the answer of Generate can be ranged over once", ErrInvalid))
			return
		}
		c, err := e.call(ctx, &r, false)
		if err != nil {
			yield(Token{ID: -1, Argmax: -1}, err)
			return
		}
		defer c.release()
		c.read(yield)
	}
}

// Batch answers many requests and returns their results in the same order. Requests that do not fit the queue wait here
// until they do. Some may fail: their Result.Err says why and the rest of the Result what there was until then, and the
// errors, with the requests' indices, are joined in the one returned.
//
// A request with N answers has as many results, next to each other: before those of the next request.
func (e *Engine) Batch(ctx context.Context, requests []Request) ([]Result, error) {
	answers := 0
	for i := range requests {
		answers += requests[i].answers()
	}
	results := make([]Result, answers)
	calls := make([]*call, 0, answers)
	for i := range requests {
		for k := range requests[i].answers() {
			r := requests[i].answer(k)
			c, err := e.call(ctx, &r, true)
			if err != nil {
				results[len(calls)].Err = err
			} else {
				defer c.release()
			}
			calls = append(calls, c)
		}
	}
	var failed []error
	at := 0
	for i := range requests {
		for k := range requests[i].answers() {
			if c := calls[at]; c != nil {
				results[at] = c.result()
			}
			if err := results[at].Err; err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", requests[i].answerName(i, k), err))
			}
			at++
		}
	}
	return results, errors.Join(failed...)
}

// call is a request under way, as its reader holds it.
type call struct {
	core   *core
	seq    *sequence
	ctx    context.Context // with the request's deadline
	cancel context.CancelFunc
	stop   func() bool // stops watching ctx
	over   bool        // the last token was read
}

// call validates a request and queues it. A batch waits for room in the queue, and reads only the result.
func (e *Engine) call(ctx context.Context, r *Request, batch bool) (*call, error) {
	cancel := context.CancelFunc(func() {})
	if !r.Deadline.IsZero() {
		ctx, cancel = context.WithDeadline(ctx, r.Deadline)
	}
	c, err := e.queue(ctx, r, batch)
	if err != nil {
		cancel()
		return nil, err
	}
	c.cancel = cancel
	return c, nil
}

func (e *Engine) queue(ctx context.Context, r *Request, batch bool) (*call, error) {
	if ctx.Err() != nil {
		return nil, cancelled(ctx)
	}
	if r.N > 1 && !batch {
		return nil, fmt.Errorf("%w: N is %d: Generate gives one answer; ask Batch for more", ErrInvalid, r.N)
	}
	seq, err := e.intake.sequence(r)
	if err != nil {
		return nil, err
	}
	in := e.core.inbox
	seq.answer.quiet = batch
	seq.answer.halt = func() { in.halt(seq, nil) }
	if err := in.accept(ctx, seq, batch); err != nil {
		return nil, err
	}
	return &call{
		core: e.core,
		seq:  seq,
		ctx:  ctx,
		stop: context.AfterFunc(ctx, func() { in.halt(seq, cancelled(ctx)) }),
	}, nil
}

// cancelled is the error of a request whose context is done.
func cancelled(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != err {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return fmt.Errorf("engine: request ended early: %w", err)
}

// read yields the tokens as they come.
func (c *call) read(yield func(Token, error) bool) {
	var tokens []Token
	for {
		var err error
		tokens, c.over, err = c.seq.answer.wait(c.ctx, tokens)
		if tokens == nil {
			yield(Token{ID: -1, Argmax: -1}, cancelled(c.ctx))
			return
		}
		for i, t := range tokens {
			if c.over && i == len(tokens)-1 {
				yield(t, err)
				return
			}
			if !yield(t, nil) {
				return
			}
			if !c.over && c.ctx.Err() != nil {
				break // wait says so
			}
		}
	}
}

// result waits for the end. The step loop sees to it that there is one soon after ctx is done.
func (c *call) result() Result {
	var tokens []Token
	for !c.over {
		tokens, c.over, _ = c.seq.answer.wait(context.Background(), tokens)
	}
	return *tokens[len(tokens)-1].Result
}

// release ends the request if it has not ended.
func (c *call) release() {
	c.stop()
	if !c.over {
		c.core.inbox.halt(c.seq, context.Canceled)
	}
	c.cancel()
}
