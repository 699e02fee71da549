// Command quality measures what independent chunks cost in quality: answers, distributions and tokens computed, beside those
// of exact chunks over the same questions.
//
//	go run ./bench/quality
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/kvcache"
)

func main() { os.Exit(suite.MainCommand(newCommand(), os.Args[1:], os.Stdout, os.Stderr)) }

const (
	name  = "quality"
	short = "Measure what chunks that are read apart cost in quality, and what computing their first tokens again buys"
)

// settings are what a result depends on besides model and machine.
type settings struct {
	Questions      int   `json:"questions"` // of each set, the first ones; 0: all
	Rounds         int   `json:"rounds"`    // times that each question is asked
	Chunks         []int `json:"chunks"`    // documents in a chunk
	RecomputeFirst []int `json:"recompute_first"`
	HeadGaps       []int `json:"head_gaps"`
	Timed          int   `json:"timed_questions"` // of each set, the first ones
	MaxOutput      int   `json:"max_output_len"`
	Seed           int64 `json:"-"` // in the row itself

	models []string
	data   string
	redraw string // results file whose plots are drawn; nothing is measured
}

// farHead is so far from the head that tiny takes no chunk for the first one, and the ordinary model reads as well as alone:
// bench/results/cpu-2core-zen4/quality_head_gap.json
const farHead = kvcache.DefaultHeadGap

func defaults() settings {
	return settings{Rounds: 2, Chunks: []int{1, 4, 8}, RecomputeFirst: []int{0, 1, 2, 4, 8, 16}, HeadGaps: []int{0, farHead}, Timed: 32, MaxOutput: 200, Seed: 42}
}

func (s *settings) register(f *pflag.FlagSet) {
	f.StringSliceVarP(&s.models, "models", "m", nil, "`names` of models, each a directory, owner/name in the Hugging Face cache, or tiny\n(default: tiny, and tiny-qwen3-plain in the data folder)")
	f.StringVar(&s.data, "data", "", "`folder` with evals/ and tiny-qwen3-plain/ (default: model/testdata, here or in a folder above)")
	f.IntVar(&s.Questions, "questions", s.Questions, "ask so many questions of each set, the first ones (default: all)")
	f.IntVar(&s.Rounds, "rounds", s.Rounds, "times that each question is asked, first with its chunks in the file's order and then shuffled")
	f.IntSliceVar(&s.Chunks, "chunks", s.Chunks, "`counts` of documents in a chunk")
	f.IntSliceVar(&s.RecomputeFirst, "recompute", s.RecomputeFirst, "`counts` of tokens at the beginning of chunks to compute again in their context")
	f.IntSliceVar(&s.HeadGaps, "head-gaps", s.HeadGaps, "`counts` of positions between the head and chunks that are read after it")
	f.IntVar(&s.Timed, "timed", s.Timed, "measure the time to the first token of so many questions of each set, the first ones")
	f.IntVar(&s.MaxOutput, "max-output", s.MaxOutput, "most tokens of an answer")
	f.StringVar(&s.redraw, "redraw", "", "draw the plots of an earlier results `file`, and measure nothing")
	f.Int64Var(&s.Seed, "seed", s.Seed, "seed of the orders and of the examples that are drawn")
}

// check says what is wrong with the settings, all at once.
func (s *settings) check() error {
	var wrong []string
	atLeast := func(flag string, least int, values ...int) {
		for _, value := range values {
			if value < least {
				wrong = append(wrong, fmt.Sprintf("--%s must be at least %d, got %d", flag, least, value))
			}
		}
	}
	atLeast("questions", 0, s.Questions)
	atLeast("rounds", 1, s.Rounds)
	atLeast("chunks", 1, s.Chunks...)
	atLeast("recompute", 0, s.RecomputeFirst...)
	atLeast("head-gaps", 0, s.HeadGaps...)
	atLeast("timed", 1, s.Timed)
	atLeast("max-output", 1, s.MaxOutput)
	if len(wrong) == 0 {
		return nil
	}
	return cli.UsageError("leave a flag out for its default", "%s", strings.Join(wrong, "; "))
}

func newCommand() *cobra.Command {
	s, flags, out := defaults(), cli.EngineFlags{}, suite.Output{}
	command := &cobra.Command{
		Use: name, Short: short, Args: suite.NoArguments,
		Long: suite.LongHelp(short + `.

Questions over documents, and arithmetic with worked examples before it, are asked again and again: each time the same
chunks in another order. Each way of reading chunks is led along the answers of the exact way, so that distributions can be
compared token by token, and answers by itself where it would not have followed. Some are timed, one after another.`),
		RunE: func(command *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			return execute(command.Context(), s, flags, out, command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	f := command.Flags()
	f.SortFlags = false
	s.register(f)
	flags.RegisterDevice(f)
	flags.RegisterCache(f)
	out.Register(f)
	return command
}

// execute measures all models and writes the file and the plots.
func execute(ctx context.Context, s settings, flags cli.EngineFlags, out suite.Output, stdout, stderr io.Writer) error {
	if err := out.MakeFolder(); err != nil {
		return err
	}
	if s.redraw != "" {
		return redraw(s.redraw, &out)
	}
	if err := s.findData(); err != nil {
		return err
	}
	sets, err := readSets(s.data, s.Questions)
	if err != nil {
		return err
	}
	b := &bench{settings: s, sets: sets, progress: out.Progress(stderr), text: out.Text(stdout)}
	var failed error
	for _, model := range s.models {
		flags.Model = model
		if failed = b.measureModel(ctx, flags, stderr); failed != nil {
			break
		}
	}
	b.progress.Clear()
	if len(b.rows) == 0 {
		return failed
	}
	printFoot(b.text)
	if err := writePlots(&out, b.rows); err != nil {
		return errors.Join(failed, err)
	}
	all := make([]any, len(b.rows))
	for i := range b.rows {
		all[i] = b.rows[i]
	}
	path, err := out.Publish(name, all, stdout, func(w io.Writer) error { return writeBenchfmt(w, b.rows) })
	if failed != nil {
		fmt.Fprintf(stderr, "note: the %d rows that were done are in %s\n", len(b.rows), path)
	}
	return errors.Join(failed, err)
}
