package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/internal/stats"
	"github.com/quire-llm/quire/internal/sysinfo"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/model"
	"github.com/quire-llm/quire/model/tokenizer"
)

// session is a benchmark under way: one model and one device, and an engine for each repeat.
type session struct {
	benchmark  Benchmark
	settings   Settings
	checkpoint *model.Checkpoint
	device     *kernels.Device
	options    engine.Options
	prompts    *Prompts
	details    Details // what all rows have in common
	progress   *cli.Progress

	computed atomic.Int64 // tokens of the repeat under way, as the step loop tells

	ready func(context.Context) error // called right before a repeat is timed; may be nil
}

// open opens model and device. It prints on stderr what the user should know about the model.
func open(ctx context.Context, b Benchmark, settings Settings, flags cli.EngineFlags, stderr io.Writer) (_ *session, err error) {
	switch {
	case b.Cold:
		settings.WarmupPrompt, settings.WarmupTokens = "", 0
	case b.WarmupPrompt != "":
		settings.WarmupPrompt = b.WarmupPrompt
	}
	s := &session{benchmark: b, settings: settings}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	note := func(line string) { fmt.Fprintln(stderr, "note: "+line) }
	if s.checkpoint, err = flags.OpenModel(note); err != nil {
		return nil, err
	}
	if err = s.setOptions(flags); err != nil {
		return nil, err
	}
	if s.prompts, err = s.newPrompts(); err != nil {
		return nil, err
	}
	if s.device, err = kernels.Open(s.options.DeviceOptions); err != nil {
		return nil, err
	}
	s.options.Device = s.device
	plan, err := engine.PlanMemory(s.checkpoint, s.options, s.device.Info())
	if err != nil {
		return nil, err
	}
	s.settings.CacheTokens = plan.CacheTokens()
	s.settings.BlockTokens = plan.BlockTokens
	s.settings.Weights, s.settings.KV = s.options.Weights.String(), s.options.KV.String()
	s.details = s.describe(ctx, plan)
	return s, nil
}

// newPrompts starts the stream of the settings' seed for the model. To a synthetic model all ids are alike, and so they are
// where no tokenizer says otherwise.
func (s *session) newPrompts() (*Prompts, error) {
	ck := s.checkpoint
	if ck.Files == nil {
		return NewPrompts(s.settings.Seed, ck.Config.Vocab), nil
	}
	tokens, err := tokenizer.Load(ck.Files)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return NewPrompts(s.settings.Seed, ck.Config.Vocab), nil
	case err != nil:
		return nil, fmt.Errorf("suite: reading the tokenizer of %q: %w", ck.Name, err)
	}
	ordinary := ck.Config.Vocab
	if !ck.Synthetic {
		ordinary = min(tokens.OrdinaryVocab(), ordinary)
	}
	prompts := NewPrompts(s.settings.Seed, ordinary)
	prompts.useTokenizer(tokens)
	return prompts, nil
}

// setOptions makes the engine's options of the flags and the settings.
func (s *session) setOptions(flags cli.EngineFlags) (err error) {
	limit := s.checkpoint.Config.MaxPositions
	if longest := s.settings.longest(); longest > limit {
		return cli.UsageError("ask for shorter prompts or answers",
			"a prompt of %d tokens and its answer of %d do not fit the model's context of %d", s.settings.MaxInputTokens, s.settings.MaxOutputTokens, limit)
	}
	s.settings.MaxContext = min(max(s.settings.MaxContext, s.settings.longest()), limit)
	flags.Context = s.settings.MaxContext
	if flags.CacheTokens > 0 {
		if flags.CacheTokens < s.settings.longest() {
			return cli.UsageError(fmt.Sprintf("take at least %d", s.settings.longest()),
				"a cache of %d tokens does not hold one prompt and its answer", flags.CacheTokens)
		}
		flags.Context = min(flags.Context, flags.CacheTokens)
	}
	if s.options, err = flags.OptionsFor(s.checkpoint); err != nil {
		return err
	}
	s.options.Cache = s.benchmark.Strategy
	s.options.TouchCache = s.settings.TouchCache
	s.options.MaxSequences = 64
	for _, n := range s.settings.BatchSizes {
		s.options.MaxSequences = max(s.options.MaxSequences, n)
	}
	s.options.Observer.StepDone = func(step engine.StepInfo) { s.computed.Add(int64(step.Rows)) }
	return nil
}

// describe is what all rows have in common.
func (s *session) describe(ctx context.Context, plan engine.MemoryPlan) Details {
	device := s.device.Info()
	return Details{
		SchemaVersion:   SchemaVersion,
		Model:           withoutHome(s.checkpoint.Name),
		Synthetic:       s.checkpoint.Synthetic,
		Strategy:        s.benchmark.Strategy.Name(),
		Device:          device.Kind,
		DeviceName:      device.Name,
		Driver:          device.Driver,
		KernelSet:       device.KernelSet,
		Images:          device.Images,
		CuBLASLt:        device.CuBLASLt,
		Products:        device.Products,
		KernelReason:    device.KernelReason,
		Threads:         device.Threads,
		Environment:     sysinfo.Collect(ctx),
		Settings:        s.settings,
		Seed:            s.settings.Seed,
		TokenIDsModulo:  s.prompts.Modulo,
		KVBlockTokens:   plan.BlockTokens,
		KVBytesPerToken: plan.KVBytesPerToken,
	}
}

// withoutHome writes ~ for the user's home directory: results are meant to be published.
func withoutHome(name string) string {
	home, err := os.UserHomeDir()
	if err != nil || home == string(filepath.Separator) {
		return name
	}
	if rest, ok := strings.CutPrefix(name, home+string(filepath.Separator)); ok {
		return "~" + string(filepath.Separator) + rest
	}
	return name
}

// close gives back what open took.
func (s *session) close() {
	if s.device != nil {
		s.device.Close()
	}
	if s.checkpoint != nil {
		s.checkpoint.Close()
	}
}

// measure runs a point's repeats. If that is cut short, it returns what was done until then, and the error. A strategy that
// shares takes turns with the standard one, so that what happens to the machine happens to both.
func (s *session) measure(ctx context.Context, p Point) (Measured, error) {
	var samples, standard []Sample
	var failed error
	for repeat := range s.settings.Repeats {
		var sample Sample
		stop := s.watch(fmt.Sprintf("%s, repeat %d of %d", p.Label, repeat+1, s.settings.Repeats))
		sample, failed = s.repeat(ctx, p, s.options)
		if failed == nil || repeat == 0 {
			samples = append(samples, sample)
		}
		if failed == nil && s.shares() {
			if sample, failed = s.repeat(ctx, p, s.standardOptions()); failed == nil {
				standard = append(standard, sample)
			}
		}
		stop()
		if failed != nil {
			break
		}
	}
	m := s.sum(samples)
	m.Standard = compare(m.Sample, samples, standard)
	if failed == nil && !m.Details.Exact {
		m.Deviation, failed = s.deviate(ctx, p, standard[0])
	}
	if failed != nil {
		m.Details.Incomplete, m.Details.Error = true, failed.Error()
	}
	return m, failed
}

// repeat runs a point once, on an engine of its own.
func (s *session) repeat(ctx context.Context, p Point, options engine.Options) (Sample, error) {
	interrupted := Sample{Incomplete: true}
	runtime.GC() // the garbage of what came before is not this repeat's
	e, err := engine.Open(ctx, options)
	if err != nil {
		return interrupted, err
	}
	defer e.Close()
	if err := s.warmUp(ctx, e); err != nil {
		return interrupted, err
	}
	if s.ready != nil {
		if err := s.ready(ctx); err != nil {
			return interrupted, err
		}
	}
	e.ResetPeak()
	s.computed.Store(0)
	return run(ctx, e, p.Batches, s.settings.Settles)
}

// warmUp is the original's: a few tokens of an answer to a short prompt.
func (s *session) warmUp(ctx context.Context, e *engine.Engine) error {
	if s.settings.WarmupTokens == 0 {
		return nil
	}
	request := engine.Request{Prompt: s.settings.WarmupPrompt}
	switch {
	case s.benchmark.Warmup != nil:
		request = s.benchmark.Warmup(s.prompts, s.settings.WarmupPrompt)
	case e.Tokenizer() == nil:
		request = engine.Request{Tokens: []int32{0, 1}}
	}
	request.MaxTokens, request.IgnoreEOS = s.settings.WarmupTokens, s.settings.IgnoreEOS
	request.Sampling = engine.Sampling{Temperature: 1, Seed: uint64(s.settings.Seed)}
	_, err := e.Batch(ctx, []engine.Request{request})
	return err
}

// watch shows progress until it is told to stop.
func (s *session) watch(what string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.progress.Show("%s: %d tokens computed", what, s.computed.Load())
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// sum makes a row's figures of its samples.
func (s *session) sum(samples []Sample) Measured {
	chosen := middle(samples)
	sample := samples[chosen]
	times := make([]float64, len(samples))
	exact := true
	for i, one := range samples {
		times[i] = one.TimeSeconds
		exact = exact && !one.Inexact
	}
	d := s.details
	d.Exact = exact
	d.MedianRepeat, d.Repeats, d.Samples = chosen, len(samples), samples
	d.TokensComputed, d.TokensReused = sample.TokensComputed, sample.TokensReused
	d.TimeToFirstToken, d.InterTokenLatency = sample.latencies()
	d.TimeSpread = stats.Summarize(times)
	d.PrefillTokensPerSec, d.DecodeTokensPerSec = sample.PrefillTokensPerSec(), sample.DecodeTokensPerSec()
	d.KVBlocksPeak, d.KVBytesPeak = sample.KVBlocksPeak, sample.KVBytesPeak
	d.RSSBytes, d.PeakRSSBytes = sample.RSSBytes, sysinfo.ReadProcess().PeakRSSBytes
	d.OutputSHA256 = sample.OutputSHA256
	return Measured{Sample: sample, Details: d}
}
