package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quire-llm/quire/engine"
)

// run is what one mode made of the prompts.
type run struct {
	answers  []answer         // what it says by itself
	led      [][]engine.Token // what it thinks of the reference's answers; the last token of each has the result
	computed int64            // tokens of led
	first    []time.Duration  // to the first token, of the first prompts
}

// answer is what a model says to a prompt.
type answer struct {
	tokens []int32
	text   string
}

// measure leads a mode along the reference's answers, lets it answer by itself where it would not have followed, and times
// the first prompts. Without a reference it is that itself.
func (b *bench) measure(ctx context.Context, m mode, prompts []prompt, reference *run, what string) (*run, error) {
	r := &run{answers: make([]answer, len(prompts))}
	all := make([]int, len(prompts))
	for i := range all {
		all[i] = i
	}
	own := all
	if reference != nil {
		copy(r.answers, reference.answers)
		if err := b.lead(ctx, m, prompts, reference.answers, r, what); err != nil {
			return nil, err
		}
		own = deviating(r.led)
	}
	b.progress.Show("%s: %d answers", what, len(own))
	if err := b.answer(ctx, m, prompts, own, r); err != nil {
		return nil, err
	}
	if reference == nil {
		if err := b.lead(ctx, m, prompts, r.answers, r, what); err != nil {
			return nil, err
		}
		if own := deviating(r.led); len(own) > 0 && b.rig.Details().Device == "cpu" { // elsewhere bits depend on the batch
			return nil, fmt.Errorf("quality: %s: question %d: led along its own answer, the model would say another", what, prompts[own[0]].question)
		}
	}
	b.progress.Show("%s: times", what)
	return r, b.time(ctx, m, prompts, r)
}

// request asks a prompt greedily.
func (b *bench) request(p prompt) engine.Request {
	r := engine.Request{MaxTokens: b.settings.MaxOutput, Stop: []string{"\n\n"}}
	for _, text := range p.parts {
		r.Chunks = append(r.Chunks, engine.Chunk{Text: text})
	}
	return r
}

// answer fills in the answers to some of the prompts, many at a time.
func (b *bench) answer(ctx context.Context, m mode, prompts []prompt, which []int, r *run) error {
	if len(which) == 0 {
		return nil
	}
	e, err := b.rig.Engine(ctx, m.strategy())
	if err != nil {
		return err
	}
	defer e.Close()
	var requests []engine.Request
	for _, i := range which {
		requests = append(requests, b.request(prompts[i]))
	}
	results, err := e.Batch(ctx, requests)
	if err != nil {
		return fmt.Errorf("quality: %s: %w", m.label(), err)
	}
	for k, i := range which {
		r.answers[i] = answer{results[k].Tokens, results[k].Text}
	}
	return nil
}

// topTokens of each distribution are told apart, the most that the engine tells.
const topTokens = 64

// lead feeds answers to prompts, many at a time on an empty cache, and keeps the tokens with the model's own distributions.
func (b *bench) lead(ctx context.Context, m mode, prompts []prompt, answers []answer, r *run, what string) error {
	e, err := b.rig.Engine(ctx, m.strategy())
	if err != nil {
		return err
	}
	defer e.Close()
	before := e.Stats().TokensComputed
	r.led = make([][]engine.Token, len(prompts))
	var done atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(e.Info().Memory.Sequences)
	for i, p := range prompts {
		group.Go(func() error {
			request := b.request(p)
			request.Stop, request.MaxTokens = nil, 0
			request.Force, request.Logprobs = answers[i].tokens, min(topTokens, e.Info().Config.Vocab)
			for token, err := range e.Generate(ctx, request) {
				if err != nil {
					return fmt.Errorf("quality: %s, question %d: %w", what, p.question, err)
				}
				r.led[i] = append(r.led[i], token)
			}
			b.progress.Show("%s: led along %d of %d answers", what, done.Add(1), len(prompts))
			return nil
		})
	}
	err = group.Wait()
	r.computed = e.Stats().TokensComputed - before
	return err
}

// deviating are the prompts to which the model by itself would have answered something else than it was led along.
func deviating(led [][]engine.Token) (which []int) {
	for i, tokens := range led {
		for _, t := range tokens {
			if t.Argmax != t.ID {
				which = append(which, i)
				break
			}
		}
	}
	return which
}

// time answers the first prompts, one after another on an empty cache, until each one's first token.
func (b *bench) time(ctx context.Context, m mode, prompts []prompt, r *run) error {
	e, err := b.rig.Engine(ctx, m.strategy())
	if err != nil {
		return err
	}
	defer e.Close()
	for _, p := range prompts[:min(b.settings.Timed*b.settings.Rounds, len(prompts))] {
		request := b.request(p)
		request.MaxTokens = 1
		start := time.Now()
		results, err := e.Batch(ctx, []engine.Request{request})
		if err != nil {
			return fmt.Errorf("quality: %s: timing question %d: %w", m.label(), p.question, err)
		}
		r.first = append(r.first, results[0].At[0].Sub(start))
	}
	return nil
}
