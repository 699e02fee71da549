package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/model/chat"
	"github.com/quire-llm/quire/model/tokenizer"
)

// bench is a measurement under way.
type bench struct {
	settings settings
	sets     []set
	rows     []row
	progress *cli.Progress
	text     io.Writer

	// Of the model under way.
	rig      *suite.Rig
	model    string
	template *chat.Template
}

// measureModel opens a model and asks it everything.
func (b *bench) measureModel(ctx context.Context, flags cli.EngineFlags, notes io.Writer) (err error) {
	b.rig, err = suite.OpenRig(ctx, kvcache.Reuse{Over: kvcache.Chunked{}}, suite.Settings{
		MaxOutputTokens: b.settings.MaxOutput, MaxContext: 4096, Seed: b.settings.Seed,
		WarmupPrompt: "Benchmark warmup", WarmupTokens: 10,
	}, flags, notes)
	if err != nil {
		return err
	}
	defer b.rig.Close()
	b.model = filepath.Base(flags.Model)
	text, err := tokenizer.Load(b.rig.Checkpoint().Files)
	if err != nil {
		return fmt.Errorf("quality: reading the tokenizer of %q: %w", flags.Model, err)
	}
	if b.template, err = chat.Parse(text.ChatTemplate()); err != nil {
		return fmt.Errorf("quality: reading the chat template of %q: %w", flags.Model, err)
	}
	b.printHeader()
	for i := range b.sets {
		sizes := b.settings.Chunks
		if b.sets[i].Examples != nil {
			sizes = []int{1}
		}
		for _, members := range sizes {
			if err := b.measureSet(ctx, &b.sets[i], members); err != nil {
				return err
			}
		}
	}
	return nil
}

// measureSet asks a set of questions in every mode, with so many documents or examples in a chunk.
func (b *bench) measureSet(ctx context.Context, s *set, members int) error {
	prompts, err := s.prompts(members, b.settings.Rounds, b.settings.Seed, b.template)
	if err != nil {
		return err
	}
	var reference *run
	for i, m := range modes(b.settings.RecomputeFirst) {
		got, err := b.measure(ctx, m, prompts, reference, fmt.Sprintf("%s, %s, chunks of %d, %s", b.model, s.Name, members, m.label()))
		if err != nil {
			return err
		}
		if i == 0 {
			reference = got
			b.progress.Clear()
			b.printHeading(s, members, got)
		}
		r := b.newRow(s, members, m, prompts, got, reference)
		b.rows = append(b.rows, r)
		b.progress.Clear()
		printRow(b.text, r)
	}
	return nil
}

// run is what one mode made of the prompts.
type run struct {
	answers  []engine.Result
	first    []time.Duration  // from asking to the first token
	led      [][]engine.Token // along the reference's answers
	computed int64            // tokens of answers, not of led
}

// measure answers all prompts in one mode, one after another, and then leads the mode along the reference's answers; nil
// means that it is the reference itself.
func (b *bench) measure(ctx context.Context, m mode, prompts []prompt, reference *run, what string) (*run, error) {
	e, err := b.rig.Engine(ctx, m.strategy())
	if err != nil {
		return nil, err
	}
	defer e.Close()
	r := &run{}
	before := e.Stats().TokensComputed
	for i, p := range prompts {
		b.progress.Show("%s: %d of %d answers", what, i, len(prompts))
		start := time.Now()
		results, err := e.Batch(ctx, []engine.Request{b.request(p)})
		if err != nil {
			return nil, fmt.Errorf("quality: %s, question %d: %w", what, p.question, err)
		}
		r.answers = append(r.answers, results[0])
		r.first = append(r.first, results[0].At[0].Sub(start))
		if m.Name == exact && !results[0].Exact {
			return nil, fmt.Errorf("quality: %s, question %d: the engine says that the answer is not exact", what, p.question)
		}
	}
	r.computed = e.Stats().TokensComputed - before
	if reference == nil {
		reference = r
	}
	b.progress.Show("%s: distributions", what)
	r.led, err = b.lead(ctx, e, prompts, reference.answers)
	return r, err
}

// request asks a prompt greedily.
func (b *bench) request(p prompt) engine.Request {
	r := engine.Request{MaxTokens: b.settings.MaxOutput, Stop: []string{"\n\n"}}
	for _, text := range p.parts {
		r.Chunks = append(r.Chunks, engine.Chunk{Text: text})
	}
	return r
}

// topTokens of each distribution are told apart, the most that the engine tells.
const topTokens = 64

// lead feeds answers to prompts, many at a time, and returns their tokens with the engine's own distributions.
func (b *bench) lead(ctx context.Context, e *engine.Engine, prompts []prompt, answers []engine.Result) ([][]engine.Token, error) {
	led := make([][]engine.Token, len(prompts))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(e.Info().Memory.Sequences)
	for i, p := range prompts {
		group.Go(func() error {
			r := b.request(p)
			r.Stop, r.MaxTokens = nil, 0
			r.Force = slices.Clone(answers[i].Tokens)
			r.Logprobs = min(topTokens, e.Info().Config.Vocab)
			for token, err := range e.Generate(ctx, r) {
				if err != nil {
					return fmt.Errorf("quality: leading question %d: %w", p.question, err)
				}
				if token.ID >= 0 {
					led[i] = append(led[i], token)
				}
			}
			return nil
		})
	}
	return led, group.Wait()
}
