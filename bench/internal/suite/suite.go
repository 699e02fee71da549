// Package suite runs the benchmarks of the bench folder: each of them is a [Benchmark] value that says what to ask and
// what to call the answer; this package has the settings, the measuring, the console text and the results file.
//
// A point (a batch size, for one) is run several times, every time on an engine of its own with an empty cache, so repeats
// do not help each other. Model and device are opened once.
package suite

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/kvcache"
)

// Benchmark is one script of the suite.
type Benchmark struct {
	Name     string // "standard": the results go to results_standard.json
	Short    string // one line for --help
	Method   string // the rows' "method"
	Heading  string // printed before each point, between ===
	Strategy kvcache.Strategy
	// Counted is what the throughput counts: input and output tokens, or output alone, as the original script has it.
	Counted func(Sample) int
	// Points lists what to measure, drawing from prompts in the original's order.
	Points func(s Settings, prompts *Prompts) []Point
}

// Point is one row of the results.
type Point struct {
	Label   string             // "batch size: 4", for the console
	Name    string             // "batch=4", for the Go benchmark line
	Batches [][]engine.Request // answered one after another
	// Row is the row for the results file: the original's keys first, then Details.
	Row func(m Measured) any
	// Lines are the console lines of this benchmark after the original's four. Nil: none.
	Lines func(m Measured) []string
}

// Measured is a point with its figures.
type Measured struct {
	Sample  Sample // the one whose time is the median
	Details Details
}

// Main runs a benchmark as a program and returns its exit code.
func Main(b Benchmark, args []string, stdout, stderr io.Writer) int {
	return MainCommand(newCommand(b), args, stdout, stderr)
}

// Execute is Main with a context that interrupts it: what was measured until then is kept, marked incomplete.
func Execute(ctx context.Context, b Benchmark, args []string, stdout, stderr io.Writer) cli.Exit {
	return ExecuteCommand(ctx, newCommand(b), args, stdout, stderr)
}

func newCommand(b Benchmark) *cobra.Command {
	settings, flags, out := DefaultSettings(), cli.EngineFlags{}, Output{}
	command := &cobra.Command{
		Use:   b.Name,
		Short: b.Short,
		Long:  LongHelp(b.Short + "."),
		Args:  NoArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := settings.check(); err != nil {
				return err
			}
			return execute(command.Context(), b, settings, flags, out, command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	f := command.Flags()
	f.SortFlags = false
	flags.RegisterModel(f)
	settings.register(f)
	flags.RegisterDevice(f)
	flags.RegisterCache(f)
	out.Register(f)
	return command
}

// execute measures all points and writes the file.
func execute(ctx context.Context, b Benchmark, settings Settings, flags cli.EngineFlags, out Output, stdout, stderr io.Writer) error {
	if err := out.MakeFolder(); err != nil {
		return err
	}
	s, err := open(ctx, b, settings, flags, stderr)
	if err != nil {
		return err
	}
	defer s.close()
	text := out.Text(stdout)
	s.progress = out.Progress(stderr)
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
	path, err := out.Publish(b.Name, rows, stdout, func(w io.Writer) error { return writeBenchfmt(w, b, points, measured) })
	if failed != nil {
		fmt.Fprintf(stderr, "note: %d of %d points are in %s, the last one incomplete\n", len(measured), len(points), path)
	}
	return errors.Join(failed, err)
}

// measureAll measures point after point. What it returns together with an error ends with the point that was cut short.
func (s *session) measureAll(ctx context.Context, points []Point, text io.Writer) ([]Measured, error) {
	defer s.progress.Clear()
	var all []Measured
	for _, p := range points {
		printPointHeading(text, s.benchmark, p)
		m, err := s.measure(ctx, p)
		all = append(all, m)
		s.progress.Clear()
		printPoint(text, s.benchmark, p, m)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}
