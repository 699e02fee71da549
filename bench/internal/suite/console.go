package suite

import (
	"fmt"
	"io"
	"strings"
)

// The first lines of everything printed here are the original's; ours follow.

func (s *session) printHeader(w io.Writer) {
	sizes := make([]string, len(s.settings.BatchSizes))
	for i, n := range s.settings.BatchSizes {
		sizes[i] = fmt.Sprint(n)
	}
	d := s.details
	fmt.Fprintf(w, "Model: %s\n", d.Model)
	fmt.Fprintf(w, "Batch sizes: [%s]\n", strings.Join(sizes, ", "))
	fmt.Fprintf(w, "Max input length: %d\n", s.settings.MaxInputTokens)
	fmt.Fprintf(w, "Max output length: %d\n", s.settings.MaxOutputTokens)
	printDevice(w, d)
	fmt.Fprintf(w, "Weights: %s\n", s.settings.Weights)
	fmt.Fprintf(w, "KV cache: %s, %s, blocks of %d tokens, %d bytes a token\n", d.Strategy, s.settings.KV, d.KVBlockTokens, d.KVBytesPerToken)
	fmt.Fprintf(w, "Repeats: %d, each on an empty cache; the one with the median time is shown. Seed %d\n", s.settings.Repeats, s.settings.Seed)
	printModelAndBuild(w, d)
}

func printDevice(w io.Writer, d Details) {
	if d.Device == "cuda" {
		fmt.Fprintf(w, "Device: %s, kernel set %s (%s, %s)\n", d.Device, d.KernelSet, d.DeviceName, d.Driver)
	} else {
		fmt.Fprintf(w, "Device: %s, kernel set %s, %d threads (%s)\n", d.Device, d.KernelSet, d.Threads, d.Environment.CPU)
	}
	if d.CuBLASLt != "" {
		fmt.Fprintf(w, "cuBLASLt: %s, for products that it is faster at\n", d.CuBLASLt)
	}
	if d.KernelReason != "" {
		fmt.Fprintf(w, "Kernel set: %s\n", d.KernelReason)
	}
}

func printModelAndBuild(w io.Writer, d Details) {
	if d.Synthetic {
		fmt.Fprintln(w, "Synthetic: the weights are made up; speed means something, text does not")
	}
	if d.TokenIDsModulo > 0 {
		fmt.Fprintf(w, "Token ids: drawn from 0..%d, taken modulo the model's %d ordinary tokens\n", maxDrawnID, d.TokenIDsModulo)
	}
	build := d.Environment.Build
	modified := ""
	if build.Modified {
		modified = ", with changes"
	}
	fmt.Fprintf(w, "Build: %s%s, %s %s/%s\n", build.Commit, modified, d.Environment.Go, d.Environment.OS, d.Environment.Arch)
}

func printPointHeading(w io.Writer, b Benchmark, p Point) {
	fmt.Fprintf(w, "\n--- Testing %s ---\n", p.Label)
	fmt.Fprintf(w, "=== %s ===\n", b.Heading)
}

func printPoint(w io.Writer, b Benchmark, p Point, m Measured) {
	s, d := m.Sample, m.Details
	if p.Ahead != nil {
		for _, line := range p.Ahead(m) {
			fmt.Fprintln(w, line)
		}
	}
	fmt.Fprintf(w, "\nMethod: %s\n", b.Method)
	fmt.Fprintf(w, "Time: %.2fs\n", s.TimeSeconds)
	fmt.Fprintf(w, "Throughput: %.2f tokens/s\n", s.PerSecond(b.Counted(s)))
	fmt.Fprintf(w, "Memory used: %s\n", FormatSize(d.KVBytesPeak))
	if p.Lines != nil {
		for _, line := range p.Lines(m) {
			fmt.Fprintln(w, line)
		}
	}
	fmt.Fprintf(w, "Time to first token: p50 %s, p99 %s\n", milliseconds(d.TimeToFirstToken.P50), milliseconds(d.TimeToFirstToken.P99))
	fmt.Fprintf(w, "Inter-token latency: p50 %s, p90 %s, p99 %s\n",
		milliseconds(d.InterTokenLatency.P50), milliseconds(d.InterTokenLatency.P90), milliseconds(d.InterTokenLatency.P99))
	fmt.Fprintf(w, "Prefill: %.2f tokens/s; decode: %.2f tokens/s\n", d.PrefillTokensPerSec, d.DecodeTokensPerSec)
	fmt.Fprintf(w, "Tokens: %d in, %d out; %d computed, %d reused\n", s.InputTokens, s.OutputTokens, s.TokensComputed, s.TokensReused)
	fmt.Fprintf(w, "KV blocks at peak: %d of %d tokens; RSS %s\n", d.KVBlocksPeak, d.KVBlockTokens, FormatSize(d.RSSBytes))
	if m.Standard != nil {
		fmt.Fprintln(w, m.Standard.line(s))
	}
	if m.Deviation != nil {
		fmt.Fprintln(w, m.Deviation.line())
	}
	fmt.Fprintf(w, "Spread of %d repeats: %.3fs to %.3fs\n", len(d.Samples), d.TimeSpread.Min, d.TimeSpread.Max)
	if d.Incomplete {
		fmt.Fprintf(w, "Incomplete: %s\n", d.Error)
	}
}

func milliseconds(seconds float64) string { return fmt.Sprintf("%.2f ms", 1000*seconds) }
