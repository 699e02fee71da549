package suite

import (
	"context"
	"io"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/model"
)

// Rig is an open model and device, for programs that ask for other things than a [Benchmark] does.
type Rig struct{ s *session }

// OpenRig opens the model and the device that the flags name. Of the settings it takes the lengths, the largest batch, the
// seed and the warm-up; a context of 0 is as long as the lengths want it. Notes for the user go to notes.
func OpenRig(ctx context.Context, strategy kvcache.Strategy, settings Settings, flags cli.EngineFlags, notes io.Writer) (*Rig, error) {
	s, err := open(ctx, Benchmark{Strategy: strategy}, settings, flags, notes)
	if err != nil {
		return nil, err
	}
	return &Rig{s}, nil
}

// Close closes device and model.
func (r *Rig) Close() { r.s.close() }

// Checkpoint is the model.
func (r *Rig) Checkpoint() *model.Checkpoint { return r.s.checkpoint }

// Weights is the format of the matrices that products read.
func (r *Rig) Weights() kernels.Format { return r.s.options.Weights }

// Device is what it runs on.
func (r *Rig) Device() *kernels.Device { return r.s.device }

// Prompts is the stream of the settings' seed.
func (r *Rig) Prompts() *Prompts { return r.s.prompts }

// Settings are those that the rig was opened with and what the engine made of them.
func (r *Rig) Settings() Settings { return r.s.settings }

// Details is what all rows have in common.
func (r *Rig) Details() Details { return r.s.details }

// Repeat answers requests once, in one call, on an engine of its own that has an empty cache and is warm. ready is called
// right before the clock starts, progress told where things stand under the name what. The sample of a repeat that was cut
// short says what was done until then.
func (r *Rig) Repeat(ctx context.Context, what string, requests []engine.Request, ready func(context.Context) error, progress *cli.Progress) (Sample, error) {
	r.s.ready, r.s.progress = ready, progress
	defer r.s.watch(what)()
	return r.s.repeat(ctx, Point{Batches: [][]engine.Request{requests}}, r.s.options)
}

// Engine opens a warm engine with an empty cache under a strategy, on the rig's device. Who opens it closes it.
func (r *Rig) Engine(ctx context.Context, strategy kvcache.Strategy) (*engine.Engine, error) {
	o := r.s.options
	o.Cache = strategy
	e, err := engine.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := r.s.warmUp(ctx, e); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// RepeatAs answers batches one after another, on an engine of its own whose options change has changed. It is otherwise like
// Repeat.
func (r *Rig) RepeatAs(ctx context.Context, what string, batches [][]engine.Request, change func(*engine.Options), progress *cli.Progress) (Sample, error) {
	return r.Timed(ctx, what, batches, nil, change, progress)
}

// Timed is RepeatAs with something to call right before the clock starts, as in Repeat.
func (r *Rig) Timed(ctx context.Context, what string, batches [][]engine.Request, ready func(context.Context) error, change func(*engine.Options), progress *cli.Progress) (Sample, error) {
	options := r.s.options
	change(&options)
	r.s.ready, r.s.progress = ready, progress
	defer r.s.watch(what)()
	return r.s.repeat(ctx, Point{Batches: batches}, options)
}

// Sum makes a row's figures of its samples, of which there is at least one.
func (r *Rig) Sum(samples []Sample) Measured { return r.s.sum(samples) }

// WriteConfig writes the head of Go benchmark lines: what a result belongs to.
func WriteConfig(w io.Writer, d Details) { writeConfig(w, d) }

// PrintMachine writes lines on the device, the model and the build.
func PrintMachine(w io.Writer, d Details) {
	printDevice(w, d)
	printModelAndBuild(w, d)
}
