package throughput

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/internal/stats"
	"github.com/quire-llm/quire/kernels"
)

// bench is a measurement under way.
type bench struct {
	settings settings
	rig      *suite.Rig
	probe    *kernels.Probe
	cost     modelCost
	variants []variant
	progress *cli.Progress
}

// openBench opens model, device and probe for the shapes.
func openBench(ctx context.Context, s settings, shapes []shape, flags cli.EngineFlags, notes io.Writer) (*bench, error) {
	common := suite.Settings{WarmupPrompt: "Benchmark warmup", WarmupTokens: s.Warmup, Temperature: s.Temperature, IgnoreEOS: true, Seed: s.Seed, Repeats: s.Repeats, TouchCache: s.Workload != "nano"}
	variants, err := s.variants()
	if err != nil {
		return nil, err
	}
	common.Settles = s.Workload == "evicted"
	if s.Workload == "nano" {
		common.WarmupPrompt, common.MaxContext = nanoWarmupPrompt, nanoContext
	}
	cache := 0
	for _, p := range shapes {
		common.BatchSizes = append(common.BatchSizes, p.Batch)
		tokens := 0
		for i := range p.prompts {
			common.MaxInputTokens, common.MaxOutputTokens = max(common.MaxInputTokens, p.prompts[i]), max(common.MaxOutputTokens, p.outputs[i])
			tokens += p.prompts[i] + p.outputs[i] + 64 // the rest of a block
		}
		cache = max(cache, tokens)
	}
	if flags.CacheTokens == 0 && s.Workload != "nano" {
		flags.CacheTokens = max(cache, common.MaxInputTokens+common.MaxOutputTokens)
	}
	rig, err := suite.OpenRig(ctx, variants[0].strategy, common, flags, notes)
	if err != nil {
		return nil, err
	}
	probe, err := kernels.NewProbe(rig.Device(), kernels.ProbeOptions{ReadBytes: s.ProbeMiB << 20, LoopTime: time.Duration(s.ProbeMillis) * time.Millisecond})
	if err != nil {
		rig.Close()
		return nil, err
	}
	took := rig.Settings()
	s.MaxContext, s.Weights, s.KV, s.BlockTokens, s.CacheTokens, s.TouchCache = took.MaxContext, took.Weights, took.KV, took.BlockTokens, took.CacheTokens, took.TouchCache
	s.TouchCache = s.TouchCache && rig.Details().Device == "cpu" // a GPU's memory is all there
	return &bench{variants: variants, settings: s, rig: rig, probe: probe, cost: costOf(rig.Checkpoint().Config, rig.Weights(), rig.Details().KVBytesPerToken)}, nil
}

func (b *bench) close() {
	b.probe.Close()
	b.rig.Close()
}

// measureAll measures shape after shape. What it returns together with an error ends with the one that was cut short.
func (b *bench) measureAll(ctx context.Context, shapes []shape, text io.Writer) ([]row, error) {
	defer b.progress.Clear()
	var rows []row
	printHeading(text)
	for _, p := range shapes {
		some, err := b.measure(ctx, p)
		rows = append(rows, some...)
		b.progress.Clear()
		for _, r := range some {
			printRow(text, r)
		}
		if err != nil {
			return rows, err
		}
	}
	printFoot(text, rows)
	return rows, nil
}

// repeat is one call and the machine's limits around it.
type repeat struct {
	sample          suite.Sample
	prefill, decode phase
	roofs           roofs
	steps           []engine.StepInfo
}

// roofs are the machine's limits just before a call and just after it.
type roofs struct {
	Before kernels.Roofs `json:"before"`
	After  kernels.Roofs `json:"after"`
}

// measure runs a shape's repeats, in each of which the variants take turns: a row for each of them. If that is cut short, it
// returns what was done until then, and the error.
func (b *bench) measure(ctx context.Context, p shape) ([]row, error) {
	batches := p.batches(&b.settings, b.rig.Prompts())
	repeats := make([][]repeat, len(b.variants)) // [variants][repeats]
	var failed error
	for i := range b.settings.Repeats {
		for k, v := range b.variants {
			var r repeat
			what := fmt.Sprintf("%s, %s, repeat %d of %d", p.label(), v.name, i+1, b.settings.Repeats)
			if r, failed = b.once(ctx, what, p, v, batches); failed == nil || i == 0 {
				repeats[k] = append(repeats[k], r)
			}
			if failed != nil {
				break
			}
		}
		if failed != nil {
			break
		}
	}
	var rows []row
	for k, v := range b.variants {
		if len(repeats[k]) > 0 {
			rows = append(rows, b.newRow(p, v, repeats[k], repeats[0], failed))
		}
	}
	return rows, failed
}

// once answers the requests in one call for each batch.
func (b *bench) once(ctx context.Context, what string, p shape, v variant, batches [][]engine.Request) (r repeat, err error) {
	var mu sync.Mutex // of r.steps, until the engine is closed
	ready := func(ctx context.Context) (err error) {
		r.roofs.Before, err = b.probe.Measure(ctx)
		mu.Lock()
		r.steps = r.steps[:0] // but for those of warming up
		mu.Unlock()
		return err
	}
	change := func(o *engine.Options) {
		o.Cache, o.Attention, o.TouchCache = v.strategy, v.attention, b.settings.TouchCache
		if p.Workload == "evicted" {
			o.CacheTokens = p.evictingCache(b.settings.BlockTokens)
			o.MaxContext = p.prompts[0] + p.outputs[0]
		}
		counted := o.Observer.StepDone
		o.Observer.StepDone = func(step engine.StepInfo) {
			counted(step)
			mu.Lock()
			r.steps = append(r.steps, step)
			mu.Unlock()
		}
	}
	r.sample, err = b.rig.Timed(ctx, what, batches, ready, change, b.progress)
	if results := r.sample.Results(); len(results) > 0 && len(batches) == 1 {
		r.prefill, r.decode = b.cost.work(results, r.sample.Start(), p.Prefix)
	}
	if err == nil {
		r.roofs.After, err = b.probe.Measure(ctx)
	}
	return r, err
}

// newRow makes a row of its repeats. The figures are those of the repeat with the median time.
func (b *bench) newRow(p shape, v variant, repeats, first []repeat, failed error) row {
	samples := make([]suite.Sample, len(repeats))
	for i := range repeats {
		samples[i] = repeats[i].sample
	}
	m := b.rig.Sum(samples)
	chosen := repeats[m.Details.MedianRepeat]
	r := row{
		Workload: p.Workload, Batch: p.Batch, Input: p.Input, Output: p.Output, Depth: p.Depth, Prefix: p.Prefix, Variant: v.name,
		TotalInputTokens: m.Sample.InputTokens, TotalOutputTokens: m.Sample.OutputTokens,
		TimeSeconds:            m.Sample.TimeSeconds,
		ThroughputTokensPerSec: m.Sample.PerSecond(m.Sample.OutputTokens),
		Prefill:                chosen.prefill, Decode: chosen.decode,
		Settings: b.settings, Details: m.Details, shape: p,
	}
	for _, one := range repeats {
		r.Roofs = append(r.Roofs, one.roofs)
		r.throughputs = append(r.throughputs, one.sample.PerSecond(one.sample.OutputTokens))
	}
	r.Strategy, r.Attention = v.strategy.Name(), v.attention.String()
	r.setShares(chosen)
	r.Host = hostOf(chosen.steps, &chosen.sample)
	if v.name != b.variants[0].name {
		r.Versus = compare(b.variants[0].name, repeats, first)
	}
	if p.Workload == "warm" || p.Workload == "evicted" {
		r.Warm = warmOf(repeats, p.prefixes())
	}
	r.ThroughputSpread = stats.Summarize(r.throughputs)
	if failed != nil {
		r.Incomplete, r.Error = true, failed.Error()
	}
	return r
}
