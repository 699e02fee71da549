// Command rivals measures this engine and llama.cpp on the same shape, taking turns: a call of ours, one of theirs for
// each kind of weights, and again. Where llama.cpp is not installed it says so and does nothing. See README.md.
//
//	go run . -llama DIR
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

func main() { os.Exit(suite.MainCommand(newCommand(), os.Args[1:], os.Stdout, os.Stderr)) }

// settings are what a result depends on besides model and machine.
type settings struct {
	Llama   string   `json:"-"` // folder
	GGUF    string   `json:"-"` // folder
	Types   []string `json:"types"`
	Rows    []string `json:"rows"`
	Repeats int      `json:"repeats"`
}

func newCommand() *cobra.Command {
	s := settings{Llama: ".", GGUF: os.TempDir(), Types: []string{"bf16", "q8_0"}, Repeats: 3}
	for _, c := range cases {
		s.Rows = append(s.Rows, c.Name)
	}
	flags, out := cli.EngineFlags{Model: "synthetic:qwen3-0.6b"}, suite.Output{}
	short := "Measure this engine and llama.cpp on the same shape, taking turns"
	command := &cobra.Command{
		Use: "rivals", Short: short, Long: suite.LongHelp(short + "."), Args: suite.NoArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			return execute(command.Context(), s, flags, out, command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	f := command.Flags()
	f.SortFlags = false
	f.StringVarP(&flags.Model, "model", "m", flags.Model, "`name` of a dense Qwen3 model")
	f.StringVar(&s.Llama, "llama", s.Llama, "`folder` in whose node_modules llama.cpp is")
	f.StringVar(&s.GGUF, "gguf", s.GGUF, "`folder` where the model is written for llama.cpp, unless it is there already")
	f.StringSliceVar(&s.Types, "types", s.Types, "kinds of weights for llama.cpp: bf16, f16, q8_0")
	f.StringSliceVar(&s.Rows, "rows", s.Rows, "what to measure")
	f.IntVar(&s.Repeats, "repeats", s.Repeats, "repeats of each row; medians are shown, all are recorded")
	flags.RegisterDevice(f)
	flags.RegisterCache(f)
	out.Register(f)
	return command
}

// rival is llama.cpp with one kind of weights.
type rival struct {
	kind  string
	llama *llama
}

// execute finds llama.cpp, measures, and writes the file.
func execute(ctx context.Context, s settings, flags cli.EngineFlags, out suite.Output, stdout, stderr io.Writer) (err error) {
	chosen, kinds, err := s.choose()
	if err != nil {
		return err
	}
	addon, err := findLlama(s.Llama)
	if errors.Is(err, errAbsent) {
		fmt.Fprintf(stderr, "skipped: %v; `npm install --prefix DIR @node-llama-cpp/linux-x64` and -llama DIR, see README.md\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	if err := out.MakeFolder(); err != nil {
		return err
	}
	common := suite.Settings{WarmupPrompt: "Benchmark warmup", WarmupTokens: 4, Repeats: s.Repeats, IgnoreEOS: true, TouchCache: true, MaxInputTokens: longestPrompt(chosen), MaxOutputTokens: longestOutput}
	if flags.CacheTokens == 0 {
		flags.CacheTokens = 4096
	}
	rig, err := suite.OpenRig(ctx, kvcache.Standard{}, common, flags, stderr)
	if err != nil {
		return err
	}
	defer rig.Close()
	var rivals []rival
	defer func() {
		for _, r := range rivals {
			r.llama.close()
		}
	}()
	for _, kind := range kinds {
		gguf, err := ggufFile(s.GGUF, rig.Checkpoint(), kind)
		if err != nil {
			return err
		}
		l, err := startLlama(ctx, addon, gguf)
		if err != nil {
			return err
		}
		rivals = append(rivals, rival{kind.name, l})
	}
	probe, err := kernels.NewProbe(rig.Device(), kernels.ProbeOptions{LoopTime: 40 * time.Millisecond})
	if err != nil {
		return err
	}
	defer probe.Close()

	b := &bench{settings: s, rig: rig, rivals: rivals, probe: probe, progress: out.Progress(stderr)}
	text := out.Text(stdout)
	suite.PrintMachine(text, rig.Details())
	fmt.Fprintf(text, "llama.cpp: %s\n\n", rivals[0].llama.system)
	rows, failed := b.measureAll(ctx, chosen, text)
	if len(rows) == 0 {
		return failed
	}
	all := make([]any, len(rows))
	for i := range rows {
		all[i] = rows[i]
	}
	path, err := out.Publish("rivals", all, stdout, func(w io.Writer) error { return writeBenchfmt(w, rows) })
	if failed != nil {
		fmt.Fprintf(stderr, "note: %d of %d rows are in %s\n", len(rows), len(chosen), path)
	}
	return errors.Join(failed, err)
}

// choose finds the rows and the kinds of weights that were asked for.
func (s *settings) choose() (chosen []testCase, kinds []weightType, err error) {
	for _, name := range s.Rows {
		found := false
		for _, c := range cases {
			if c.Name == name {
				chosen, found = append(chosen, c), true
			}
		}
		if !found {
			return nil, nil, cli.UsageError("see --help", "no row %q", name)
		}
	}
	for _, name := range s.Types {
		found := false
		for _, k := range weightTypes {
			if k.name == name {
				kinds, found = append(kinds, k), true
			}
		}
		if !found {
			return nil, nil, cli.UsageError("take bf16, f16 or q8_0", "no kind of weights %q", name)
		}
	}
	if s.Repeats < 1 || len(chosen) == 0 || len(kinds) == 0 {
		return nil, nil, cli.UsageError("leave a flag out for its default", "at least one repeat, one row and one kind of weights are needed; got %d repeats, rows %q, types %q",
			s.Repeats, strings.Join(s.Rows, ","), strings.Join(s.Types, ","))
	}
	return chosen, kinds, nil
}
