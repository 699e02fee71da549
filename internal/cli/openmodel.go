package cli

import (
	"fmt"
	"strings"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/model"
)

// OpenModel opens the model that the flags name, or the default one. note receives a line for what the user should know:
// that the default is the built-in model for want of a better one, or that weights are rounded while they are read.
func (f *EngineFlags) OpenModel(note func(line string)) (*model.Checkpoint, error) {
	resolve := model.ResolveOptions{Providers: Providers(), Log: note}
	name := f.Model
	if name == "" {
		name = model.DefaultBenchmarkModel(resolve)
	}
	return model.Open(name, resolve)
}

// Warnings passes on what goes wrong while an engine runs, such as a cache directory that is full, and leaves out what it says of
// itself.
func Warnings(note func(string)) func(line string) {
	return func(line string) {
		if !strings.HasPrefix(line, "engine: ") {
			note(line)
		}
	}
}

// OptionsFor are the engine's options that the flags ask for, to run a checkpoint.
func (f *EngineFlags) OptionsFor(ck *model.Checkpoint) (engine.Options, error) {
	o, err := f.Options()
	if err != nil {
		return o, err
	}
	o.Checkpoint = ck
	if limit := ck.Config.MaxPositions; f.Context > limit {
		return o, UsageError(fmt.Sprintf("take at most %d, or leave --context out", limit),
			"--context is %d, and %s was made for %d tokens", f.Context, ck.Name, limit)
	}
	return o, nil
}
