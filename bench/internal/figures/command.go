// Package figures is the program that prints the table of speeds on a GPU from the files that bench/gpu.sh leaves.
package figures

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/internal/stats"
)

// NewCommand is the program.
func NewCommand() *cobra.Command {
	const short = "Print the table of speeds on a GPU, in Markdown, from the results of bench/gpu.sh"
	return &cobra.Command{
		Use: "table FOLDER", Short: short,
		Long: suite.LongHelp(short + ". Files that are not there leave their rows out."),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.UsageError("name the folder of the results, as bench/results/h200", "want one folder, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			r, err := read(os.DirFS(args[0]))
			if err != nil {
				return err
			}
			return r.print(c.OutOrStdout())
		},
	}
}

// call is what the table needs of a row of results_throughput.json.
type call struct {
	Workload      string  `json:"workload"`
	Model         string  `json:"model"`
	Batch         int     `json:"batch"`
	Input         int     `json:"input"`
	Output        int     `json:"output"`
	Prefix        int     `json:"prefix"`
	Variant       string  `json:"variant"`
	InputTokens   int     `json:"total_input_tokens"`
	OutputTokens  int     `json:"total_output_tokens"`
	TimeSeconds   float64 `json:"time_seconds"`
	PerSec        float64 `json:"throughput_tokens_per_sec"`
	PrefillPerSec float64 `json:"prefill_tokens_per_sec"`
	DecodePerSec  float64 `json:"decode_tokens_per_sec"`
	ReadRoof      float64 `json:"roof_read_bytes_per_sec"`
	PeakRoof      float64 `json:"roof_bf16_per_sec"`
	Prefill       phase   `json:"prefill"`
	Decode        phase   `json:"decode"`
	Settings      struct {
		KV string `json:"kv"`
	} `json:"settings"`
	Host struct {
		StepMicros stats.Summary `json:"decode_step_us"`
		HostMicros float64       `json:"host_us"`
		WaitMicros float64       `json:"wait_us"`
	} `json:"host"`
	Versus *struct {
		Variant string        `json:"variant"`
		Speedup stats.Summary `json:"speedup"`
		Decode  stats.Summary `json:"decode_speedup"`
	} `json:"versus"`
	Warm *struct {
		Cold stats.Summary `json:"cold_ttft_seconds"`
		Warm stats.Summary `json:"warm_ttft_seconds"`
	} `json:"warm"`
	machine
}

// phase is the work that cannot be left out, and how long it took.
type phase struct {
	Seconds    float64 `json:"seconds"`
	Tokens     int     `json:"tokens"`
	Bytes      float64 `json:"bytes"`
	Operations float64 `json:"operations"`
}

// operation is what the table needs of a row of results_kernels.json.
type operation struct {
	Shape       string  `json:"shape"`
	Op          string  `json:"op"`
	Sequences   int     `json:"sequences"`
	Context     int     `json:"context"`
	KV          string  `json:"kv"`
	Micros      float64 `json:"us"`
	BytesPerSec float64 `json:"bytes_per_sec"`
	ReadShare   float64 `json:"share_of_read"`
	machine
}

// begin is the row of results_start.json.
type begin struct {
	FirstToken stats.Summary `json:"first_token_seconds"`
}

// machine is on what a row was measured.
type machine struct {
	DeviceName  string `json:"device_name"`
	Driver      string `json:"driver"`
	Images      string `json:"images"`
	Environment struct {
		Build struct {
			Commit string `json:"commit"`
		} `json:"build"`
	} `json:"environment"`
}

// results are a folder's.
type results struct {
	calls      []call
	operations []operation
	begins     []begin
}

// files of calls that bench/gpu.sh makes.
var callFiles = []string{"decode", "models", "nano", "nano_fp8", "prefill", "prefill_1", "prefill_16", "shared", "shared_long", "alone", "warm"}

// read reads what there is.
func read(folder fs.FS) (*results, error) {
	r := &results{}
	for _, name := range callFiles {
		if err := readRows(folder, name, &r.calls); err != nil {
			return nil, err
		}
	}
	if err := readRows(folder, "kernels", &r.operations); err != nil {
		return nil, err
	}
	if err := readRows(folder, "start", &r.begins); err != nil {
		return nil, err
	}
	if len(r.calls)+len(r.operations)+len(r.begins) == 0 {
		return nil, cli.UsageError("run bench/gpu.sh FOLDER first", "the folder holds no results")
	}
	return r, nil
}

// readRows appends the rows of a file, if there is one.
func readRows[T any](folder fs.FS, name string, to *[]T) error {
	data, err := fs.ReadFile(folder, name+".json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("table: reading results: %w", err)
	}
	var rows []T
	if err := json.Unmarshal(data, &rows); err != nil {
		return fmt.Errorf("table: reading %s.json: %w", name, err)
	}
	*to = append(*to, rows...)
	return nil
}

// machineLine says what the figures are of.
func (r *results) machineLine() string {
	var m machine
	switch {
	case len(r.calls) > 0:
		m = r.calls[0].machine
	case len(r.operations) > 0:
		m = r.operations[0].machine
	}
	reads, peaks := 0.0, 0.0
	for _, c := range r.calls {
		reads, peaks = max(reads, c.ReadRoof), max(peaks, c.PeakRoof)
	}
	return fmt.Sprintf("One %s, %s, commit %s, images %.12s: memory reads %.2f TB/s and the tensor cores do %.0f TFLOP/s in loops beside the calls.\n"+
		"The column of nano-vllm is %s; must and wanted were set for that machine. "+
		"Limits are this machine's, of the bytes and operations that a row cannot do without.\n",
		m.DeviceName, m.Driver, m.Environment.Build.Commit, m.Images, reads/1e12, peaks/1e12, peerMachine)
}

func (r *results) print(w io.Writer) error {
	var text strings.Builder
	text.WriteString(r.machineLine())
	text.WriteString("\n| workload | nano-vllm | must | wanted | here | this machine's limit | share of it |\n|---|---|---|---|---|---|---|\n")
	for _, line := range append(r.callLines(), r.otherLines()...) {
		text.WriteString("| " + strings.Join(line[:], " | ") + " |\n")
	}
	if lines := r.modelLines(); len(lines) > 0 {
		text.WriteString("\n| shape | requests | tok/s | while decoding | this machine's limit | share of it |\n|---|---|---|---|---|---|\n")
		for _, line := range lines {
			text.WriteString("| " + strings.Join(line, " | ") + " |\n")
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}
