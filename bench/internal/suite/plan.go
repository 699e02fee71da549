package suite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/quire-llm/quire/internal/cli"
)

// plan is what a program was asked to measure, one process after another.
type plan struct {
	benchmarks []Benchmark
	summary    bool // of all rows, in a file and a table
	settings   Settings
	flags      cli.EngineFlags
	out        Output
	pause      pause

	stdout, stderr io.Writer
	points         int      // measured so far, in as many processes
	failures       []error  // of those that failed, with the point's name
	exit           cli.Exit // of the first that failed
}

// errHopeless ends a run whose other points would fail for the same reason.
var errHopeless = errors.New("suite: nothing can be measured")

// run measures all points of all benchmarks, each in a process of its own, and writes the files.
func (p *plan) run(ctx context.Context) error {
	if err := p.out.MakeFolder(); err != nil {
		return err
	}
	if err := p.checkModel(); err != nil {
		return err
	}
	text := p.out.Text(p.stdout)
	var all []json.RawMessage
	complete := 0
	for _, b := range p.benchmarks {
		before := len(p.failures)
		if p.summary {
			fmt.Fprintf(text, "\n%s\nRunning %s\n%s\n", strings.Repeat("=", ruleWidth), b.Name, strings.Repeat("=", ruleWidth))
		}
		rows, err := p.runBenchmark(ctx, b, text)
		all = append(all, rows...)
		switch {
		case errors.Is(err, errHopeless):
			return p.verdict(ctx)
		case err != nil:
			return err
		case len(p.failures) > before:
			fmt.Fprintf(text, "WARNING: %s failed!\n", b.Name)
		case ctx.Err() == nil:
			complete++
		}
		if ctx.Err() != nil {
			break
		}
	}
	if p.summary {
		fmt.Fprintf(text, "\nCompleted %d/%d benchmarks successfully.\n", complete, len(p.benchmarks))
		if err := p.sumUp(all, text); err != nil {
			return err
		}
	}
	return p.verdict(ctx)
}

// checkModel finds the model, and says at once what no process could measure.
func (p *plan) checkModel() error {
	s := session{benchmark: p.benchmarks[0], settings: p.settings}
	defer s.close()
	var err error
	if s.checkpoint, err = p.flags.OpenModel(func(line string) { fmt.Fprintln(p.stderr, "note: "+line) }); err != nil {
		return err
	}
	return s.setOptions(p.flags)
}

// runBenchmark measures a benchmark's points and writes its file. It returns the rows; those of points that failed are
// marked incomplete, or missing.
func (p *plan) runBenchmark(ctx context.Context, b Benchmark, text io.Writer) ([]json.RawMessage, error) {
	points := b.Points(p.settings, unboundPrompts(p.settings.Seed)) // only their names count here
	var rows []json.RawMessage
	measured := 0
	for i, point := range points {
		if ctx.Err() != nil {
			break
		}
		r, err := p.runPoint(ctx, b, i, text)
		if r.Row != nil {
			rows = append(rows, r.Row)
		}
		switch {
		case err == nil || ctx.Err() != nil:
			measured++
		default:
			p.failures = append(p.failures, fmt.Errorf("%s, %s: %w", b.Name, point.Label, err))
			fmt.Fprintf(p.stderr, "ERROR running %s, %s: %v\n", b.Name, point.Label, err)
			if p.exit == cli.OK {
				p.exit = max(r.Exit, cli.Failed)
			}
			if p.points == 1 && slices.Contains([]cli.Exit{cli.Usage, cli.NotFound, cli.BadModel}, r.Exit) {
				return nil, errHopeless
			}
		}
	}
	if measured == 0 || len(rows) == 0 {
		p.warnOfOld("results_" + b.Name + ".json")
		return nil, nil // nothing was measured that would be worth a file
	}
	path, err := p.publish("results_"+b.Name+".json", rows, !p.summary)
	if ctx.Err() != nil {
		fmt.Fprintf(p.stderr, "note: %d of %d points are in %s, the last one incomplete\n", len(rows), len(points), path)
	}
	return rows, err
}

// runPoint measures a point in a process of its own, and pauses until its memory was given back.
func (p *plan) runPoint(ctx context.Context, b Benchmark, i int, text io.Writer) (reply, error) {
	p.points++
	before := readMemory(ctx)
	r, err := job{
		Benchmark: b.Name, Point: i, Settings: p.settings, Engine: p.flags,
		Header: i == 0, Text: text != io.Discard, Benchfmt: p.out.benchfmt, Quiet: p.out.quiet,
	}.start(ctx, p.stdout, p.stderr)
	after, waited := p.pause.wait(ctx, before)
	if h, bad := headOf(r.Row); bad == nil {
		fmt.Fprintln(text, memoryLine(before, after, h.PeakRSSBytes, waited))
	}
	return r, err
}

// publish writes rows to a file and says so; print asks for what goes to stdout instead of text.
func (p *plan) publish(name string, rows []json.RawMessage, print bool) (string, error) {
	values := make([]any, len(rows))
	for i := range rows {
		values[i] = rows[i]
	}
	return p.out.publish(name, values, print, p.stdout, func(io.Writer) error { return nil }) // each process printed its own lines
}

// warnOfOld says that a file of the results' name is not of this run.
func (p *plan) warnOfOld(name string) {
	if _, err := os.Stat(p.out.path(name)); err == nil {
		fmt.Fprintf(p.stderr, "note: %s is of an earlier run and was left alone\n", p.out.path(name))
	}
}

// verdict is the error of a run whose points did not all succeed. Their own errors were printed when they came.
func (p *plan) verdict(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(p.failures) == 0 {
		return nil
	}
	return &cli.Problem{
		Err:  fmt.Errorf("suite: %d of %d points failed: %w", len(p.failures), p.points, errors.Join(p.failures...)),
		Hint: "what was wrong with each is printed above",
		Exit: p.exit,
	}
}
