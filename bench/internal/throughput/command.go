// Package throughput is the program that measures speed over a grid of shapes, on nano-vllm's workload, and where requests
// share tokens.
package throughput

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
)

const (
	name  = "throughput"
	short = "Measure speed over a grid of shapes or on nano-vllm's workload, as shares of the machine's limits"
)

// settings are what a result depends on besides model and machine.
type settings struct {
	Workload    string   `json:"workload"` // "grid", "nano", "shared", "warm" or "evicted"
	Batch       counts   `json:"batch"`
	Input       counts   `json:"input"`
	Output      counts   `json:"output"`
	Depth       counts   `json:"depth"`
	Prefix      counts   `json:"prefix,omitempty"` // of shared, warm and evicted
	Variants    []string `json:"variants"`
	Requests    int      `json:"requests"` // of nano's 256
	Temperature float64  `json:"temperature"`
	Repeats     int      `json:"repeats"`
	Warmup      int      `json:"warmup_tokens"`
	ProbeMiB    int      `json:"probe_mib"`
	ProbeMillis int      `json:"probe_ms"`
	Seed        int64    `json:"-"` // in the row itself

	// As the engine took them.
	MaxContext  int    `json:"max_model_len"`
	Weights     string `json:"weights"`
	KV          string `json:"kv"`
	BlockTokens int    `json:"block_tokens"`
	TouchCache  bool   `json:"touch_cache"` // all of the cache's memory was there when the clock started
	CacheTokens int    `json:"cache_tokens"`
}

// defaults are a few minutes on two cores with the 0.6B.
func defaults() settings {
	return settings{
		Workload: "grid", Batch: counts{1, 8}, Input: counts{128}, Output: counts{64}, Depth: counts{0, 384}, Prefix: counts{256}, Variants: []string{"standard"},
		Requests: nanoRequests, Temperature: 0.6, Repeats: 3, Warmup: 10, ProbeMiB: 512, ProbeMillis: 60,
	}
}

func (s *settings) register(f *pflag.FlagSet) {
	f.StringVar(&s.Workload, "workload", s.Workload, "`what` to measure: grid (batch × input × output × depth), nano (nano-vllm's own benchmark), shared (requests that share --prefix tokens and have --input of their own), warm (time to first token where --prefix tokens are in the cache) or evicted (where they had to leave the cache for another request: computed again, and brought back from the host's memory)")
	f.Var(&s.Batch, "batch", "`counts` of requests in one call: 1,8 or 1-64*2 or 4-16+4")
	f.Var(&s.Input, "input", "`counts` of prompt tokens")
	f.Var(&s.Output, "output", "`counts` of tokens generated for each prompt; 1 measures the reading of prompts alone")
	f.Var(&s.Depth, "depth", "`counts` of tokens that are in the context before the prompt's")
	f.Var(&s.Prefix, "prefix", "`counts` of tokens that all prompts share (shared), or that the cache holds (warm) or held (evicted)")
	f.StringSliceVar(&s.Variants, "variants", s.Variants, "cache `strategies` that take turns on the same requests, a row each: standard, cascade, reuse; cascade:ordinary is that with --attention ordinary. Ratios are to the first one (warm: reuse; evicted: its own two)")
	f.IntVar(&s.Requests, "requests", s.Requests, "run so many of nano's 256 requests, the first ones")
	f.Float64Var(&s.Temperature, "temperature", s.Temperature, "sampling temperature; 0 is greedy")
	f.Int64Var(&s.Seed, "seed", s.Seed, "seed of the prompts, as Python's random.seed takes it, and of the sampling")
	f.IntVar(&s.Repeats, "repeats", s.Repeats, "repeats of each point, all recorded; the one with the median time is reported (nano: 1)")
	f.IntVar(&s.Warmup, "warmup", s.Warmup, "tokens generated before each repeat to warm up (nano: 64)")
	f.IntVar(&s.ProbeMiB, "probe-mib", s.ProbeMiB, "`MiB` that are read to measure the memory; more than the last cache holds")
	f.IntVar(&s.ProbeMillis, "probe-ms", s.ProbeMillis, "`milliseconds` for which each loop that measures the machine is tried")
}

// check says what is wrong with the settings, all at once.
func (s *settings) check() error {
	var wrong []string
	atLeast := func(flag string, value, least int) {
		if value < least {
			wrong = append(wrong, fmt.Sprintf("--%s must be at least %d, got %d", flag, least, value))
		}
	}
	if !slices.Contains([]string{"grid", "nano", "shared", "warm", "evicted"}, s.Workload) {
		wrong = append(wrong, fmt.Sprintf("--workload must be grid, nano, shared, warm or evicted, got %q", s.Workload))
	}
	if _, err := s.variants(); err != nil {
		wrong = append(wrong, "--variants: "+err.Error())
	}
	for _, list := range []struct {
		flag   string
		values counts
		least  int
	}{{"batch", s.Batch, 1}, {"input", s.Input, 1}, {"output", s.Output, 1}, {"depth", s.Depth, 0}, {"prefix", s.Prefix, 1}} {
		for _, n := range list.values {
			atLeast(list.flag, n, list.least)
		}
	}
	atLeast("requests", s.Requests, 1)
	atLeast("repeats", s.Repeats, 1)
	atLeast("warmup", s.Warmup, 0)
	atLeast("probe-mib", s.ProbeMiB, 1)
	atLeast("probe-ms", s.ProbeMillis, 1)
	if s.Requests > nanoRequests {
		wrong = append(wrong, fmt.Sprintf("--requests must be at most %d, got %d", nanoRequests, s.Requests))
	}
	if s.Temperature < 0 {
		wrong = append(wrong, fmt.Sprintf("--temperature must be at least 0, got %v", s.Temperature))
	}
	if len(wrong) == 0 {
		return nil
	}
	return cli.UsageError("leave a flag out for its default", "%s", strings.Join(wrong, "; "))
}

// NewCommand is the program.
func NewCommand() *cobra.Command {
	s, flags, out := defaults(), cli.EngineFlags{}, suite.Output{}
	command := &cobra.Command{
		Use: name, Short: short, Args: suite.NoArguments,
		Long: suite.LongHelp(short + ".\n\nLists are counts with commas between them; a-b*m and a-b+m are those from a to b, each m times or m more than the last."),
		RunE: func(command *cobra.Command, _ []string) error {
			given := command.Flags().Changed
			if s.Workload == "warm" && !given("variants") {
				s.Variants = []string{"reuse"}
			}
			if s.Workload == "evicted" {
				if given("variants") {
					return cli.UsageError("leave it out", "--variants means nothing to --workload evicted")
				}
				s.Variants = []string{recomputed, fromHost}
			}
			if s.Workload == "nano" {
				if !given("repeats") {
					s.Repeats = 1
				}
				if !given("warmup") {
					s.Warmup = nanoWarmupTokens
				}
			}
			if err := s.check(); err != nil {
				return err
			}
			return execute(command.Context(), s, flags, out, command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	f := command.Flags()
	f.SortFlags = false
	flags.RegisterModel(f)
	s.register(f)
	flags.RegisterDevice(f)
	flags.RegisterCache(f)
	out.Register(f)
	return command
}

// execute measures all points and writes the file.
func execute(ctx context.Context, s settings, flags cli.EngineFlags, out suite.Output, stdout, stderr io.Writer) error {
	if err := out.MakeFolder(); err != nil {
		return err
	}
	shapes, err := s.shapes()
	if err != nil {
		return err
	}
	models := strings.Split(flags.Model, ",") // the default model's name is ""
	var rows []row
	var failed error
	for _, name := range models {
		flags.Model = name
		var some []row
		if some, failed = measureModel(ctx, s, shapes, flags, out, stdout, stderr); failed != nil && len(some) == 0 && len(rows) == 0 {
			return failed
		}
		if rows = append(rows, some...); failed != nil {
			break
		}
	}
	if failed != nil && ctx.Err() == nil && len(rows) <= 1 {
		return failed // nothing was measured that would be worth a file
	}
	all := make([]any, len(rows))
	for i := range rows {
		all[i] = rows[i]
	}
	path, err := out.Publish(name, all, stdout, func(w io.Writer) error { return writeBenchfmt(w, rows) })
	if failed != nil {
		fmt.Fprintf(stderr, "note: %d of %d points are in %s, the last one incomplete\n", len(rows), len(shapes)*len(s.Variants)*len(models), path)
	}
	return errors.Join(failed, err)
}

// measureModel measures all points of one model.
func measureModel(ctx context.Context, s settings, shapes []shape, flags cli.EngineFlags, out suite.Output, stdout, stderr io.Writer) ([]row, error) {
	b, err := openBench(ctx, s, shapes, flags, stderr)
	if err != nil {
		return nil, err
	}
	defer b.close()
	b.progress = out.Progress(stderr)
	text := out.Text(stdout)
	b.printHeader(text)
	return b.measureAll(ctx, shapes, text)
}
