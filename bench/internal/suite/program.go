package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/internal/cli"
)

// What run_all measures is chosen by a flag that all of its suites have.
const (
	SuiteFlag     = "suite"
	SuiteHelp     = "`what` to measure: original, each strategy with its own script's workload, or fair, the same workloads for all of them (see --suite fair --help)"
	OriginalSuite = "original"
)

// Main runs a benchmark as a program and returns its exit code.
func Main(b Benchmark, args []string, stdout, stderr io.Writer) int {
	return start(args, []Benchmark{b}, stdout, stderr, func() *cobra.Command { return newCommand(b) })
}

// MainAll runs all benchmarks as one program, which also writes a summary, and returns its exit code.
func MainAll(benchmarks []Benchmark, args []string, stdout, stderr io.Writer) int {
	return start(args, benchmarks, stdout, stderr, func() *cobra.Command { return newCommandOfAll(benchmarks) })
}

// start runs the command, or measures the one point that another process of this program asks for.
func start(args []string, benchmarks []Benchmark, stdout, stderr io.Writer, command func() *cobra.Command) int {
	if len(args) == 1 && args[0] == pointArgument {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return int(measurePoint(ctx, benchmarks, os.Stdin, stdout, stderr))
	}
	return MainCommand(command(), args, stdout, stderr)
}

// Execute is Main with a context that interrupts it: what was measured until then is kept, marked incomplete.
func Execute(ctx context.Context, b Benchmark, args []string, stdout, stderr io.Writer) cli.Exit {
	return ExecuteCommand(ctx, newCommand(b), args, stdout, stderr)
}

// ExecuteAll is MainAll with a context that interrupts it.
func ExecuteAll(ctx context.Context, benchmarks []Benchmark, args []string, stdout, stderr io.Writer) cli.Exit {
	return ExecuteCommand(ctx, newCommandOfAll(benchmarks), args, stdout, stderr)
}

func newCommand(b Benchmark) *cobra.Command {
	p, oneProcess, mode := plan{settings: DefaultSettings()}, false, "exact"
	command := p.command(b.Name, b.Short)
	command.RunE = func(command *cobra.Command, _ []string) error {
		switch {
		case mode == "independent" && b.Independent != nil:
			b = *b.Independent
		case mode != "exact":
			return cli.UsageError("take exact or independent", "no mode %q", mode)
		}
		p.benchmarks = []Benchmark{b}
		p.stdout, p.stderr = command.OutOrStdout(), command.ErrOrStderr()
		if err := p.settings.check(); err != nil {
			return err
		}
		if oneProcess {
			return p.runHere(command.Context(), b)
		}
		return p.run(command.Context())
	}
	f := command.Flags()
	if b.Independent != nil {
		f.StringVar(&mode, "mode", mode, "how chunks are computed: exact, in their context, or independent, each alone (an approximation; its results go to a file of their own)")
	}
	p.register(command, []Benchmark{b})
	f.BoolVar(&oneProcess, "one-process", false, "measure all points in this process, without pauses: for profilers and debuggers")
	return command
}

func newCommandOfAll(benchmarks []Benchmark) *cobra.Command {
	p := plan{settings: DefaultSettings(), benchmarks: benchmarks, summary: true}
	command := p.command("run_all", "Measure all KV-cache strategies, each point in a process of its own, and sum them up")
	which := OriginalSuite
	command.Flags().StringVar(&which, SuiteFlag, which, SuiteHelp)
	command.RunE = func(command *cobra.Command, _ []string) error {
		if which != OriginalSuite {
			return cli.UsageError("take original or fair", "no suite %q", which)
		}
		p.stdout, p.stderr = command.OutOrStdout(), command.ErrOrStderr()
		if err := p.settings.check(); err != nil {
			return err
		}
		return p.run(command.Context())
	}
	p.register(command, benchmarks)
	return command
}

// command is a command without what it does.
func (p *plan) command(name, short string) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, Long: LongHelp(short + "."), Args: NoArguments}
	c.Flags().SortFlags = false
	return c
}

func (p *plan) register(command *cobra.Command, benchmarks []Benchmark) {
	f := command.Flags()
	p.flags.RegisterModel(f)
	p.settings.register(f)
	for _, b := range benchmarks {
		if b.Flags != nil {
			b.Flags(f, &p.settings)
		}
	}
	p.flags.RegisterDevice(f)
	p.flags.RegisterCache(f)
	p.pause.register(f)
	p.out.Register(f)
}

// runHere measures all points of a benchmark in this process and writes the file.
func (p *plan) runHere(ctx context.Context, b Benchmark) error {
	if err := p.out.MakeFolder(); err != nil {
		return err
	}
	s, err := open(ctx, b, p.settings, p.flags, p.stderr)
	if err != nil {
		return err
	}
	defer s.close()
	text := p.out.Text(p.stdout)
	s.progress = p.out.Progress(p.stderr)
	s.printHeader(text)
	points := b.Points(s.settings, s.prompts)
	measured, failed := s.measureAll(ctx, points, text)
	if failed != nil && ctx.Err() == nil && len(measured) == 1 {
		return failed // nothing was measured that would be worth a file
	}
	rows := make([]any, len(measured))
	for i, m := range measured {
		rows[i] = points[i].Row(m)
	}
	path, err := p.out.Publish(b.Name, rows, p.stdout, func(w io.Writer) error { return writeBenchfmt(w, b, points, measured) })
	if failed != nil {
		fmt.Fprintf(p.stderr, "note: %d of %d points are in %s, the last one incomplete\n", len(measured), len(points), path)
	}
	return errors.Join(failed, err)
}

// measureAll measures point after point. What it returns together with an error ends with the point that was cut short.
func (s *session) measureAll(ctx context.Context, points []Point, text io.Writer) ([]Measured, error) {
	var all []Measured
	for _, p := range points {
		m, err := s.measureOne(ctx, p, text)
		all = append(all, m)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// measureOne measures a point and prints it.
func (s *session) measureOne(ctx context.Context, p Point, text io.Writer) (Measured, error) {
	printPointHeading(text, s.benchmark, p)
	m, err := s.measure(ctx, p)
	s.progress.Clear()
	printPoint(text, s.benchmark, p, m)
	return m, err
}
