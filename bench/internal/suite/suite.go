// Package suite runs the benchmarks of the bench folder: each of them is a [Benchmark] value that says what to ask and
// what to call the answer; this package has the settings, the processes, the measuring, the console text and the files.
//
// A point (a batch size, for one) is measured in a process of its own, several times, every time on an engine of its own
// with an empty cache, so repeats do not help each other. A strategy that shares answers each point beside the standard one:
// what it saves is measured, and so is whether the answers are the same.
package suite

import (
	"github.com/spf13/pflag"

	"github.com/quire-llm/quire/engine"
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
	// Flags adds flags of the benchmark's own. Nil: it has none.
	Flags func(*pflag.FlagSet, *Settings)
	// WarmupPrompt is what an engine answers before it is measured. "": the settings' two words.
	WarmupPrompt string
	// Warmup makes a request of that prompt. Nil: the prompt alone.
	Warmup func(p *Prompts, prompt string) engine.Request
	// Cold leaves the warm-up out, as one of the original scripts does.
	Cold bool
	// Independent is the same benchmark with chunks that are computed alone: -mode independent. Nil: there is none.
	Independent *Benchmark
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
	// Ahead are console lines before the original's four, Lines those after them. Nil: none.
	Ahead, Lines func(m Measured) []string
}

// Measured is a point with its figures.
type Measured struct {
	Sample  Sample // the one whose time is the median
	Details Details
	// Standard is the same requests under the standard strategy. Nil: the benchmark's strategy is that one, or it did not
	// come to it.
	Standard *Comparison
	// Deviation says how far from exact an approximate strategy is. Nil: not at all.
	Deviation *Deviation
}
