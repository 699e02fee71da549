package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/quire-llm/quire/bench/internal/suite"
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
	if errors.Is(err, fs.ErrNotExist) {
		return cli.UsageError("take a model that knows words, such as tiny", "%s has no tokenizer, and questions are text", b.model)
	}
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
	for _, m := range modes(b.settings.HeadGaps, b.settings.RecomputeFirst) {
		got, err := b.measure(ctx, m, prompts, reference, fmt.Sprintf("%s, %s, chunks of %d, %s", b.model, s.Name, members, m.label()))
		if err != nil {
			return err
		}
		if reference == nil {
			reference = got
			b.progress.Clear()
			b.printHeading(s, members, got)
		}
		r := b.newRow(s, members, m, prompts, got, reference)
		if m.Name == exact && !r.Exact {
			return fmt.Errorf("quality: %s, %s: the engine says that answers are not exact", b.model, s.Name)
		}
		b.rows = append(b.rows, r)
		b.progress.Clear()
		printRow(b.text, r)
	}
	return nil
}
