package fair

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
)

// report is what a run has found.
type report struct {
	details suite.Details
	notes   []string // what was scaled or left out
	rows    []row
}

// columns are the table's, in text, Markdown and HTML.
var columns = []string{
	"strategy", "tok/s", "× standard", "TTFT p50", "TTFT p99", "ITL p50", "ITL p99", "computed", "expected", "reused", "KV peak", "answers",
}

// cells are a row of the table.
func (r *row) cells() []string {
	answers := "same"
	if !r.SameOutput {
		answers = "OTHER"
	}
	count := "computed = expected"
	switch {
	case !r.ExpectationHolds:
		count = "not checked: small pool"
	case !r.AsExpected:
		count = fmt.Sprintf("WRONG: expected %d", r.TokensExpected)
	}
	millis := func(seconds float64) string { return fmt.Sprintf("%.1f ms", 1000*seconds) }
	return []string{
		r.Method, fmt.Sprintf("%.0f", r.ThroughputTokensPerSec),
		fmt.Sprintf("%.2f (%.2f to %.2f)", r.Speedup.Median, r.Speedup.Min, r.Speedup.Max),
		millis(r.TimeToFirstToken.P50), millis(r.TimeToFirstToken.P99), millis(r.InterTokenLatency.P50), millis(r.InterTokenLatency.P99),
		fmt.Sprint(r.TokensComputed), count, fmt.Sprint(r.TokensReused), suite.FormatSize(r.KVBytesPeak), answers,
	}
}

func (r *report) printHead(w io.Writer, s *settings) {
	suite.PrintMachine(w, r.details)
	fmt.Fprintf(w, "Model: %s\n", r.details.Model)
	fmt.Fprintf(w, "Every strategy: the same tokens, pool and seeds (%d), temperature %g, %d tokens out; %d repeats in turns, the one with the median time is shown\n",
		s.Seed, s.Temperature, s.Output, s.Repeats)
	fmt.Fprintln(w, "tok/s counts input and output; computed counts rows of the forward pass; KV peak is bytes of blocks in use")
	for _, n := range r.notes {
		fmt.Fprintln(w, "Note: "+n)
	}
}

// printRows prints the table of one workload.
func printRows(w io.Writer, l *workload, rows []row) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s: %s\n", l.name, rows[0].summary())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(columns, "\t"))
	for i := range rows {
		fmt.Fprintln(t, strings.Join(rows[i].cells(), "\t"))
	}
	t.Flush()
}

// summary says what the row's workload is.
func (r *row) summary() string {
	return fmt.Sprintf("%s; %d x %d prompts, %d tokens in, %d out, pool %s", r.About, r.NumBatches, r.BatchSize, r.TotalInputTokens,
		r.TotalOutputTokens, suite.FormatSize(r.PoolBytes))
}

// byWorkload cuts the rows where another workload begins.
func (r *report) byWorkload() (groups [][]row) {
	for i := range r.rows {
		if i == 0 || r.rows[i].Workload != r.rows[i-1].Workload {
			groups = append(groups, nil)
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], r.rows[i])
	}
	return groups
}

// machine is one line on what was measured on.
func (r *report) machine() string {
	d := r.details
	return fmt.Sprintf("%s on %s (%s), kernel set %s, %d threads, build %s", d.Model, d.Device, d.Environment.CPU, d.KernelSet, d.Threads,
		d.Environment.Build.Commit)
}

func (r *report) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# KV-cache strategies on the same workloads\n\n%s.\n", r.machine())
	for _, n := range r.notes {
		fmt.Fprintf(&b, "\n- %s", n)
	}
	fmt.Fprintln(&b)
	for _, rows := range r.byWorkload() {
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n\n| %s |\n|%s\n", rows[0].Workload, rows[0].summary(), strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
		for i := range rows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(rows[i].cells(), " | "))
		}
	}
	return b.Bytes()
}

// publish writes the files.
func (r *runner) publish(report *report, stdout io.Writer) error {
	page, err := report.html()
	if err != nil {
		return err
	}
	rows := make([]any, len(report.rows))
	for i := range rows {
		rows[i] = report.rows[i]
	}
	if _, err := r.out.Publish(name, rows, stdout, report.benchfmt); err != nil {
		return err
	}
	for file, data := range map[string][]byte{"results_fair.md": report.markdown(), "results_fair.html": page} {
		path, err := r.out.WriteFile(file, data)
		if err != nil {
			return err
		}
		if text := r.out.Text(stdout); text != io.Discard {
			fmt.Fprintf(text, "Results saved to %s\n", path)
		}
	}
	return nil
}

// benchfmt writes a Go benchmark line for every repeat.
func (r *report) benchfmt(w io.Writer) error {
	suite.WriteConfig(w, r.details)
	fmt.Fprint(w, "Unit tok/s better=higher\nUnit ttft-ms better=lower\nUnit itl-p50-ms better=lower\nUnit kv-bytes better=lower\n")
	for i := range r.rows {
		row := &r.rows[i]
		name := strings.ReplaceAll(fmt.Sprintf("BenchmarkFair/%s/%s", row.Workload, strings.ReplaceAll(row.Method, ",", "")), " ", "_")
		for _, s := range row.Samples {
			if _, err := fmt.Fprintf(w, "%s 1 %.0f ns/op %.2f tok/s %.3f ttft-ms %.3f itl-p50-ms %d kv-bytes\n", name, 1e9*s.TimeSeconds,
				float64(row.TotalInputTokens+row.TotalOutputTokens)/s.TimeSeconds, 1000*s.TTFTSeconds, 1000*s.ITLSeconds, s.KVBytesPeak); err != nil {
				return err
			}
		}
	}
	return nil
}

// verdict is an error if a row's answers or counts are wrong.
func (r *report) verdict() error {
	var wrong []string
	for i := range r.rows {
		if row := &r.rows[i]; row.failed() {
			wrong = append(wrong, fmt.Sprintf("%s, %s", row.Workload, row.Method))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return &cli.Problem{
		Err:  fmt.Errorf("fair: %d of %d rows have other answers or counts than they must: %s", len(wrong), len(r.rows), strings.Join(wrong, "; ")),
		Hint: "the table says which", Exit: cli.Failed,
	}
}
