package fair

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/kvcache"
)

// runner is the suite under way.
type runner struct {
	settings settings
	flags    cli.EngineFlags
	out      suite.Output

	rig      *suite.Rig
	progress *cli.Progress
}

// run measures all workloads and writes the files, also of a run that was cut short.
func (r *runner) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := r.out.MakeFolder(); err != nil {
		return err
	}
	if err := r.open(ctx, stderr); err != nil {
		return err
	}
	defer r.rig.Close()
	r.progress = r.out.Progress(stderr)
	report := report{details: r.rig.Details()}
	all, notes := workloads(&r.settings, report.details.Settings.MaxContext)
	report.notes = notes
	text := r.out.Text(stdout)
	report.printHead(text, &r.settings)
	var failed error
	for i := range all {
		var rows []row
		rows, failed = r.measure(ctx, &all[i])
		r.progress.Clear()
		report.rows = append(report.rows, rows...)
		printRows(text, &all[i], rows)
		if failed != nil {
			break
		}
	}
	if len(report.rows) == 0 {
		if failed == nil {
			failed = cli.UsageError("raise --max-tokens", "no workload is left")
		}
		return failed
	}
	return errors.Join(failed, r.publish(&report, stdout), report.verdict())
}

// longestContext is what the longest prefix that is asked for by default needs.
func (s *settings) longestContext() int {
	longest := 1024 // for the workloads without a prefix of their own
	for _, prefix := range s.Prefixes {
		longest = max(longest, prefix+ownTokens)
	}
	return longest + s.Output
}

// open opens model and device.
func (r *runner) open(ctx context.Context, stderr io.Writer) (err error) {
	s := suite.DefaultSettings()
	s.BatchSizes = []int{1}
	s.MaxInputTokens, s.MaxOutputTokens = 1, 1
	s.MaxContext = r.settings.longestContext()
	s.Temperature, s.Seed, s.Repeats, s.WarmupTokens = r.settings.Temperature, r.settings.Seed, r.settings.Repeats, r.settings.Warmup
	r.rig, err = suite.OpenRig(ctx, kvcache.Standard{}, s, r.flags, stderr)
	return err
}

// measure runs a workload's strategies in turns, so that what happens to the machine happens to all of them. A workload that
// is cut short has no rows.
func (r *runner) measure(ctx context.Context, w *workload) ([]row, error) {
	p := r.rig.Prompts().Again(w.seed(r.settings.Seed))
	batches, err := w.drawAll(ctx, p, func(ctx context.Context, b int, prompts []prompt) ([][]int32, error) {
		requests := make([]engine.Request, len(prompts))
		for i, p := range prompts {
			requests[i] = w.request(&r.settings, p, b, i, false)
		}
		s, err := r.repeat(ctx, w, strategies()[0], [][]prompt{prompts}, [][]engine.Request{requests}, "answers to quote")
		return answers(s), err
	})
	if err != nil {
		return nil, err
	}
	var all []strategy
	for _, s := range strategies() {
		if w.repeating || !s.repeating {
			all = append(all, s)
		}
	}
	samples := make([][]suite.Sample, len(all)) // [strategies][repeats]
	for repeat := range r.settings.Repeats {
		for turn := range all {
			i := (turn + repeat) % len(all) // nobody is always the first
			s := all[i]
			requests := w.requests(&r.settings, batches, s.sharing.chunks)
			sample, err := r.repeat(ctx, w, s, batches, requests, fmt.Sprintf("repeat %d of %d", repeat+1, r.settings.Repeats))
			if err != nil {
				return nil, fmt.Errorf("fair: measuring %q on %q: %w", s.label, w.name, err)
			}
			samples[i] = append(samples[i], sample)
		}
	}
	rows := make([]row, len(all))
	for i, s := range all {
		rows[i] = r.newRow(w, s, batches, samples[i], samples[0])
	}
	return rows, nil
}

// repeat answers a workload once. Every strategy gets the same pool.
func (r *runner) repeat(ctx context.Context, w *workload, s strategy, batches [][]prompt, requests [][]engine.Request, what string) (suite.Sample, error) {
	what = fmt.Sprintf("%s, %s, %s", w.name, s.label, what)
	return r.rig.RepeatAs(ctx, what, requests, func(o *engine.Options) {
		o.Cache, o.Attention = s.cache, s.attention
		o.CacheTokens = r.poolTokens(batches)
		o.MaxContext = min(o.MaxContext, o.CacheTokens)
		o.MaxSequences = max(w.sequences, 1)
		o.QueueRequests = max(w.sequences, 1024)
	}, r.progress)
}

// poolTokens is --cache-tokens, or room for the whole workload.
func (r *runner) poolTokens(batches [][]prompt) int {
	if r.flags.CacheTokens > 0 {
		return r.flags.CacheTokens
	}
	return r.roomTokens(batches)
}

func (r *runner) roomTokens(batches [][]prompt) int {
	block := r.rig.Details().KVBlockTokens
	return max(poolBlocks(batches, r.settings.Output, block)*block, r.settings.Warmup+4*block)
}

// answers are the token ids of a sample.
func answers(s suite.Sample) [][]int32 {
	var all [][]int32
	for _, result := range s.Results() {
		all = append(all, result.Tokens)
	}
	return all
}
