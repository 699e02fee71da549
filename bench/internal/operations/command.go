// Package operations is the program that measures the device operations one by one.
package operations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/internal/sysinfo"
	"github.com/quire-llm/quire/kernels"
)

const short = "Measure the device operations one by one, as shares of the machine's limits"

// settings are what a result depends on besides the machine.
type settings struct {
	Shapes      []string `json:"shapes"`
	Ops         []string `json:"ops"`
	Rows        []int    `json:"rows"`     // of the products and the sampler
	Contexts    []string `json:"contexts"` // of attention: sequences x tokens
	Prompts     []string `json:"prompts"`
	KV          []string `json:"kv"`
	Runs        int      `json:"runs"`
	RunMillis   float64  `json:"run_ms"`
	RotateMiB   int      `json:"rotate_mib"`
	ProbeMiB    int      `json:"probe_mib"`
	ProbeMillis int      `json:"probe_ms"`
	BlockTokens int      `json:"block_tokens"`

	device kernels.Options
}

func defaults() settings {
	return settings{
		Shapes: []string{"qwen3-0.6b", "qwen3-8b"}, Ops: opNames(), Rows: []int{1, 8, 32, 64, 128, 256, 512, 2048, 8192},
		Contexts: []string{"256x1024", "64x4096", "1x32768", "1x1024"}, Prompts: []string{"16x1024", "1x4000", "1x16000"}, KV: []string{"bf16", "fp8"},
		Runs: 5, RunMillis: 1, RotateMiB: 256, ProbeMiB: 1024, ProbeMillis: 60, BlockTokens: 16,
	}
}

func (s *settings) register(f *pflag.FlagSet) {
	f.StringSliceVar(&s.Shapes, "shapes", s.Shapes, "`models` whose shapes are measured; qwen3-0.6b is short for synthetic:qwen3-0.6b")
	f.StringSliceVar(&s.Ops, "ops", s.Ops, "`operations` to measure")
	f.IntSliceVar(&s.Rows, "rows", s.Rows, "rows of the products, the rotation and the sampler; the head and the sampler have at most 512")
	f.StringSliceVar(&s.Contexts, "contexts", s.Contexts, "sequences x `tokens` that attention of single rows reads")
	f.StringSliceVar(&s.Prompts, "prompts", s.Prompts, "sequences x `tokens` of prompts that attention reads as a whole")
	f.StringSliceVar(&s.KV, "kv", s.KV, "element `types` of the KV cache; those that the device has not are left out")
	f.IntVar(&s.Runs, "runs", s.Runs, "times that each measurement is taken; the median is shown, all are recorded")
	f.Float64Var(&s.RunMillis, "run-ms", s.RunMillis, "`milliseconds` that the calls of a measurement take about, all together")
	f.IntVar(&s.RotateMiB, "rotate-mib", s.RotateMiB, "`MiB` of weights and keys that calls meet before any comes again; more than the last cache holds")
	f.IntVar(&s.ProbeMiB, "probe-mib", s.ProbeMiB, "`MiB` that are read to measure the memory")
	f.IntVar(&s.ProbeMillis, "probe-ms", s.ProbeMillis, "`milliseconds` for which each loop that measures the machine is tried")
	f.IntVar(&s.BlockTokens, "block-tokens", s.BlockTokens, "tokens in a block of the KV cache")
	f.StringVar(&s.device.Device, "device", "", "`device`: cpu or cuda (default: cuda where a GPU can be used)")
	f.IntVar(&s.device.Threads, "threads", 0, "CPU worker threads (default: one for each core)")
	f.StringVar(&s.device.KernelSet, "kernel-set", "", "kernels to take (default: the best that the device runs)")
}

// check says what is wrong with the settings, all at once.
func (s *settings) check() error {
	var wrong []string
	atLeast := func(flag string, value, least int) {
		if value < least {
			wrong = append(wrong, fmt.Sprintf("--%s must be at least %d, got %d", flag, least, value))
		}
	}
	for _, op := range s.Ops {
		if !slices.Contains(opNames(), op) {
			wrong = append(wrong, fmt.Sprintf("--ops: no operation %q, there are %s", op, strings.Join(opNames(), ", ")))
		}
	}
	for _, n := range s.Rows {
		atLeast("rows", n, 1)
	}
	for _, list := range []struct {
		flag string
		text []string
	}{{"contexts", s.Contexts}, {"prompts", s.Prompts}} {
		for _, text := range list.text {
			if _, _, err := parseContext(text); err != nil {
				wrong = append(wrong, fmt.Sprintf("--%s: %v", list.flag, err))
			}
		}
	}
	for _, name := range s.KV {
		if _, err := cli.ParseKV(name); err != nil {
			wrong = append(wrong, fmt.Sprintf("--kv: %v", err))
		}
	}
	atLeast("runs", s.Runs, 1)
	atLeast("rotate-mib", s.RotateMiB, 1)
	atLeast("probe-mib", s.ProbeMiB, 1)
	atLeast("probe-ms", s.ProbeMillis, 1)
	atLeast("block-tokens", s.BlockTokens, 1)
	if s.RunMillis <= 0 {
		wrong = append(wrong, fmt.Sprintf("--run-ms must be above 0, got %v", s.RunMillis))
	}
	if len(wrong) == 0 {
		return nil
	}
	return cli.UsageError("leave a flag out for its default", "%s", strings.Join(wrong, "; "))
}

// parseContext reads "64x4096".
func parseContext(text string) (sequences, tokens int, err error) {
	var rest string
	if n, _ := fmt.Sscanf(text+" ", "%dx%d%s", &sequences, &tokens, &rest); n != 2 || sequences < 1 || tokens < 1 {
		return 0, 0, fmt.Errorf("%q is not like 64x4096, sequences x tokens", text)
	}
	return sequences, tokens, nil
}

// NewCommand is the program.
func NewCommand() *cobra.Command {
	s, out := defaults(), suite.Output{}
	command := &cobra.Command{
		Use: "kernels", Short: short, Args: suite.NoArguments,
		Long: suite.LongHelp(short + ". Operations: " + strings.Join(opNames(), ", ") + "."),
		RunE: func(command *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			return execute(command.Context(), s, out, command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	f := command.Flags()
	f.SortFlags = false
	s.register(f)
	out.Register(f)
	return command
}

// execute measures everything and writes the file.
func execute(ctx context.Context, s settings, out suite.Output, stdout, stderr io.Writer) error {
	if err := out.MakeFolder(); err != nil {
		return err
	}
	device, err := kernels.Open(s.device)
	if err != nil {
		return err
	}
	defer device.Close()
	info := device.Info()
	m := machine{
		Device: info.Kind, DeviceName: info.Name, Driver: info.Driver, KernelSet: info.KernelSet, Images: info.Images, CuBLASLt: info.CuBLASLt, Products: info.Products, Threads: info.Threads,
		Environment: sysinfo.Collect(ctx), Command: strings.Join(append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...), " "), Date: time.Now().UTC().Format(time.DateOnly),
	}
	text, progress := out.Text(stdout), out.Progress(stderr)
	defer progress.Clear()
	m.print(text)
	var rows []row
	var failed error
	for _, name := range s.Shapes {
		var some []row
		if some, failed = measureShape(ctx, device, s, name, m, text, progress); failed != nil {
			failed = fmt.Errorf("kernels: measuring the shapes of %s: %w", name, failed)
		}
		if rows = append(rows, some...); failed != nil {
			break
		}
	}
	if failed != nil && len(rows) == 0 {
		return failed
	}
	all := make([]any, len(rows))
	for i := range rows {
		all[i] = rows[i]
	}
	progress.Clear()
	_, err = out.Publish("kernels", all, stdout, func(w io.Writer) error { return writeBenchfmt(w, rows) })
	return errors.Join(failed, err)
}
