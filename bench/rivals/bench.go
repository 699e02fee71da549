package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/internal/stats"
	"github.com/quire-llm/quire/kernels"
)

// testCase is a row: sequences of one prompt each, and how many tokens follow. A row of one token measures the prompt.
type testCase struct {
	Name      string `json:"row"`
	Sequences int    `json:"sequences"`
	Prompt    int    `json:"prompt_tokens"`
	Output    int    `json:"output_tokens"`
}

const longestOutput = 128

// cases are the rows that can be asked for.
var cases = []testCase{
	{"decode-128", 1, 128, longestOutput},
	{"decode-1024", 1, 1024, 64},
	{"decode-8x128", 8, 128, 64},
	{"prefill-512", 1, 512, 1},
	{"prefill-2048", 1, 2048, 1},
}

func longestPrompt(chosen []testCase) int {
	longest := 0
	for _, c := range chosen {
		longest = max(longest, c.Prompt)
	}
	return longest
}

// row is an object of results_rivals.json.
type row struct {
	testCase
	Contestants []contestant `json:"contestants"` // ours first
	// ReadBytesPerSec is the machine's read bandwidth before each round and after the last.
	ReadBytesPerSec []float64 `json:"roof_read_bytes_per_sec"`
	LlamaSystem     string    `json:"llama_system"`
	Settings        settings  `json:"settings"` // in place of the suite's
	suite.Details
}

// contestant is one engine with one kind of weights and one setting.
type contestant struct {
	Name         string    `json:"name"`
	Samples      []float64 `json:"tokens_per_sec_repeats"` // decoded, or of the prompt in a row that measures it
	TokensPerSec float64   `json:"tokens_per_sec"`         // the median
}

// bench is a measurement under way.
type bench struct {
	settings settings
	rig      *suite.Rig
	rivals   []rival
	probe    *kernels.Probe
	progress *cli.Progress
}

// measureAll measures row after row. Together with an error it returns the rows that are whole.
func (b *bench) measureAll(ctx context.Context, chosen []testCase, text io.Writer) ([]row, error) {
	defer b.progress.Clear()
	var rows []row
	for _, c := range chosen {
		r, err := b.measure(ctx, c)
		if err != nil {
			return rows, err
		}
		rows = append(rows, r)
		b.progress.Clear()
		printRow(text, r)
	}
	return rows, nil
}

// measure lets everybody take turns.
func (b *bench) measure(ctx context.Context, c testCase) (row, error) {
	r := row{testCase: c, LlamaSystem: b.rivals[0].llama.system, Settings: b.settings, Details: b.rig.Details()}
	prompt := b.rig.Prompts().IDs(c.Prompt)
	turns := b.turns(c, prompt)
	r.Contestants = make([]contestant, len(turns))
	var samples []suite.Sample
	for round := range b.settings.Repeats {
		if err := b.readRoof(ctx, &r); err != nil {
			return r, err
		}
		for i, t := range turns {
			what := fmt.Sprintf("%s, round %d of %d, %s", c.Name, round+1, b.settings.Repeats, t.name)
			b.progress.Show("%s", what)
			rate, sample, err := t.run(ctx, what)
			if err != nil {
				return r, err
			}
			if sample != nil {
				samples = append(samples, *sample)
			}
			r.Contestants[i].Name = t.name
			r.Contestants[i].Samples = append(r.Contestants[i].Samples, rate)
		}
	}
	for i := range r.Contestants {
		r.Contestants[i].TokensPerSec = stats.Median(r.Contestants[i].Samples)
	}
	r.Details = b.rig.Sum(samples).Details
	return r, b.readRoof(ctx, &r)
}

func (b *bench) readRoof(ctx context.Context, r *row) error {
	roofs, err := b.probe.Measure(ctx)
	r.ReadBytesPerSec = append(r.ReadBytesPerSec, roofs.ReadBytesPerSec())
	return err
}

// turn is what one contestant does in a round: it returns tokens a second, and our own sample if it is us.
type turn struct {
	name string
	run  func(ctx context.Context, what string) (rate float64, sample *suite.Sample, err error)
}

// turns are those of a row: ours, then each rival with and without its fused attention.
func (b *bench) turns(c testCase, prompt []int32) []turn {
	all := []turn{{"quire " + b.rig.Weights().String(), func(ctx context.Context, what string) (float64, *suite.Sample, error) {
		requests := make([]engine.Request, c.Sequences)
		for i := range requests {
			requests[i] = engine.Request{Tokens: prompt, MaxTokens: c.Output, IgnoreEOS: true}
		}
		s, err := b.rig.Repeat(ctx, what, requests, nil, b.progress)
		if c.Output == 1 {
			return s.PrefillTokensPerSec(), &s, err
		}
		return s.DecodeTokensPerSec(), &s, err
	}}}
	threads := b.rig.Device().Info().Threads
	for _, r := range b.rivals {
		for _, flash := range []bool{false, true} {
			name := "llama.cpp " + r.kind
			if flash {
				name += " flash"
			}
			all = append(all, turn{name, func(ctx context.Context, _ string) (float64, *suite.Sample, error) {
				a, err := r.llama.call(llamaCall{Sequences: c.Sequences, Prompt: prompt, Output: c.Output, Threads: threads, Flash: flash})
				if ctx.Err() != nil { // which ends the process, too
					return 0, nil, context.Cause(ctx)
				}
				if err != nil {
					return 0, nil, err
				}
				if c.Output == 1 {
					return float64(c.Prompt*c.Sequences) / a.PrefillSeconds, nil, nil
				}
				return float64((c.Output-1)*c.Sequences) / a.DecodeSeconds, nil, nil
			}})
		}
	}
	return all
}

func printRow(w io.Writer, r row) {
	low, high := r.ReadBytesPerSec[0], r.ReadBytesPerSec[0]
	for _, x := range r.ReadBytesPerSec {
		low, high = min(low, x), max(high, x)
	}
	fmt.Fprintf(w, "%s (read bandwidth %.1f to %.1f GB/s)\n", r.Name, low/1e9, high/1e9)
	ours := r.Contestants[0].TokensPerSec
	for i, c := range r.Contestants {
		spread := stats.Summarize(c.Samples)
		fmt.Fprintf(w, "  %-24s %8.2f tok/s  (%.2f to %.2f)", c.Name, c.TokensPerSec, spread.Min, spread.Max)
		if i > 0 && c.TokensPerSec > 0 {
			fmt.Fprintf(w, "  ours is %.2f times that", ours/c.TokensPerSec)
		}
		fmt.Fprintln(w)
	}
}

// writeBenchfmt writes every repeat as a line of Go's benchmark format. https://go.dev/design/14313-benchmark-format
func writeBenchfmt(w io.Writer, rows []row) error {
	var text strings.Builder
	for i, r := range rows {
		if i == 0 {
			suite.WriteConfig(&text, r.Details)
			text.WriteString("Unit tok/s better=higher\n")
		}
		for _, c := range r.Contestants {
			for _, rate := range c.Samples {
				fmt.Fprintf(&text, "BenchmarkRivals/row=%s/engine=%s 1 %.2f tok/s\n", r.Name, strings.ReplaceAll(c.Name, " ", "_"), rate)
			}
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}
