package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/internal/stats"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

// bench is a measurement under way.
type bench struct {
	settings settings
	rig      *suite.Rig
	probe    *kernels.Probe
	cost     modelCost
	progress *cli.Progress
}

// openBench opens model, device and probe for the shapes.
func openBench(ctx context.Context, s settings, shapes []shape, flags cli.EngineFlags, notes io.Writer) (*bench, error) {
	common := suite.Settings{WarmupPrompt: "Benchmark warmup", WarmupTokens: s.Warmup, Temperature: s.Temperature, IgnoreEOS: true, Seed: s.Seed, Repeats: s.Repeats, TouchCache: s.Workload == "grid"}
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
	if flags.CacheTokens == 0 && s.Workload == "grid" {
		flags.CacheTokens = max(cache, common.MaxInputTokens+common.MaxOutputTokens)
	}
	rig, err := suite.OpenRig(ctx, kvcache.Standard{}, common, flags, notes)
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
	return &bench{settings: s, rig: rig, probe: probe, cost: costOf(rig.Checkpoint().Config, rig.Weights(), rig.Details().KVBytesPerToken)}, nil
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
		r, err := b.measure(ctx, p)
		rows = append(rows, r)
		b.progress.Clear()
		printRow(text, r)
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
}

// roofs are the machine's limits just before a call and just after it.
type roofs struct {
	Before kernels.Roofs `json:"before"`
	After  kernels.Roofs `json:"after"`
}

// measure runs a shape's repeats. If that is cut short, it returns what was done until then, and the error.
func (b *bench) measure(ctx context.Context, p shape) (row, error) {
	requests := p.requests(&b.settings, b.rig.Prompts())
	var repeats []repeat
	var failed error
	for i := range b.settings.Repeats {
		var r repeat
		what := fmt.Sprintf("%s, repeat %d of %d", p.label(), i+1, b.settings.Repeats)
		if r, failed = b.once(ctx, what, requests); failed == nil || i == 0 {
			repeats = append(repeats, r)
		}
		if failed != nil {
			break
		}
	}
	return b.newRow(p, repeats, failed), failed
}

// once answers the requests in one call.
func (b *bench) once(ctx context.Context, what string, requests []engine.Request) (r repeat, err error) {
	ready := func(ctx context.Context) (err error) {
		r.roofs.Before, err = b.probe.Measure(ctx)
		return err
	}
	r.sample, err = b.rig.Repeat(ctx, what, requests, ready, b.progress)
	if results := r.sample.Results(); len(results) > 0 {
		r.prefill, r.decode = b.cost.work(results, r.sample.Start())
	}
	if err == nil {
		r.roofs.After, err = b.probe.Measure(ctx)
	}
	return r, err
}

// newRow makes a row of its repeats. The figures are those of the repeat with the median time.
func (b *bench) newRow(p shape, repeats []repeat, failed error) row {
	samples := make([]suite.Sample, len(repeats))
	for i := range repeats {
		samples[i] = repeats[i].sample
	}
	m := b.rig.Sum(samples)
	chosen := repeats[m.Details.MedianRepeat]
	r := row{
		Workload: p.Workload, Batch: p.Batch, Input: p.Input, Output: p.Output, Depth: p.Depth,
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
	r.setShares(chosen)
	r.ThroughputSpread = stats.Summarize(r.throughputs)
	if failed != nil {
		r.Incomplete, r.Error = true, failed.Error()
	}
	return r
}
