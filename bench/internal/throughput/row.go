package throughput

import (
	"fmt"
	"io"
	"strings"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/stats"
	"github.com/quire-llm/quire/kernels"
)

// row is an object of results_throughput.json.
type row struct {
	Workload               string        `json:"workload"`
	Batch                  int           `json:"batch"`
	Input                  int           `json:"input,omitempty"`
	Output                 int           `json:"output,omitempty"`
	Depth                  int           `json:"depth"`
	Prefix                 int           `json:"prefix,omitempty"` // tokens that all prompts share, or that were in the cache
	Variant                string        `json:"variant"`
	Attention              string        `json:"attention"`
	TotalInputTokens       int           `json:"total_input_tokens"`
	TotalOutputTokens      int           `json:"total_output_tokens"`
	TimeSeconds            float64       `json:"time_seconds"`
	ThroughputTokensPerSec float64       `json:"throughput_tokens_per_sec"` // output over the time of the whole call
	ThroughputSpread       stats.Summary `json:"throughput_tokens_per_sec_repeats"`

	// Roofs are what the machine could do just before and just after each repeat. Shares are told of the better of the two.
	Roofs           []roofs `json:"roofs"`
	ReadBytesPerSec float64 `json:"roof_read_bytes_per_sec"`
	FMAPerSec       float64 `json:"roof_fma_per_sec,omitempty"`
	BF16PerSec      float64 `json:"roof_bf16_per_sec,omitempty"`

	Prefill          phase    `json:"prefill"`
	Decode           phase    `json:"decode"`
	PrefillPeakShare float64  `json:"prefill_share_of_peak"` // operations of prompts over time, of the peak that products has
	DecodeReadShare  float64  `json:"decode_share_of_read"`  // bytes that must be read over time, of the read bandwidth
	DecodePeakShare  float64  `json:"decode_share_of_peak"`  // operations of decoding over time, of the same peak
	Settings         settings `json:"settings"`              // in place of the suite's
	Host             host     `json:"host"`
	Versus           *versus  `json:"versus,omitempty"`
	Warm             *warm    `json:"warm,omitempty"`
	suite.Details

	shape       shape
	throughputs []float64
}

// setShares compares a repeat with the machine's limits around it.
func (r *row) setShares(one repeat) {
	before, after := one.roofs.Before, one.roofs.After
	r.ReadBytesPerSec = max(before.ReadBytesPerSec(), after.ReadBytesPerSec())
	r.FMAPerSec = max(before.FMAPerSec(), after.FMAPerSec())
	r.BF16PerSec = max(before.BF16PerSec(), after.BF16PerSec())
	r.PrefillPeakShare = share(one.prefill.Operations, one.prefill.Seconds, r.peakPerSec())
	r.DecodeReadShare = share(one.decode.Bytes, one.decode.Seconds, r.ReadBytesPerSec)
	r.DecodePeakShare = share(one.decode.Operations, one.decode.Seconds, r.peakPerSec())
}

// peakPerSec is the peak of the arithmetic that the kernel set's products are made of.
func (r *row) peakPerSec() float64 {
	if r.Products == "bf16" {
		return r.BF16PerSec
	}
	return r.FMAPerSec
}

// peakOf is the same of one measurement.
func (r *row) peakOf(roofs kernels.Roofs) float64 {
	if r.Products == "bf16" {
		return roofs.BF16PerSec()
	}
	return roofs.FMAPerSec()
}

// share is work over time as a part of what is possible; 0 where either is not known.
func share(work, seconds, roof float64) float64 {
	if seconds <= 0 || roof <= 0 {
		return 0
	}
	return work / seconds / roof
}

func (b *bench) printHeader(w io.Writer) {
	d := b.rig.Details()
	fmt.Fprintf(w, "Model: %s\n", d.Model)
	suite.PrintMachine(w, d)
	fmt.Fprintf(w, "Weights: %s, %.1f MB read in a step\n", b.settings.Weights, b.cost.stepBytes/1e6)
	fmt.Fprintf(w, "KV cache: %s, %s, %d tokens in blocks of %d, %d bytes a token\n", d.Strategy, b.settings.KV, b.settings.CacheTokens, d.KVBlockTokens, d.KVBytesPerToken)
	touched := ""
	if b.settings.TouchCache {
		touched = " whose memory is all there"
	}
	fmt.Fprintf(w, "Repeats: %d, each on an empty cache%s; the one with the median time is shown. Seed %d\n", b.settings.Repeats, touched, b.settings.Seed)
	if b.settings.Workload == "nano" && b.settings.Seed == 0 {
		fmt.Fprintf(w, "nano-vllm's workload: %d requests, %d prompt and %d output tokens; the first %d of them are run\n",
			nanoRequests, nanoInputTokens, nanoOutputTokens, b.settings.Requests)
	}
}

const (
	headingFormat = "%5s %6s %6s %6s | %8s %9s | %9s %5s | %8s %6s %5s | %11s %13s\n"
	rowFormat     = "%5d %6s %6s %6d | %8.2f %9.2f | %9.2f %5s | %8s %6s %5s | %5.4g %5.4g %6.0f %6.0f\n"
)

func printHeading(w io.Writer) {
	fmt.Fprintln(w)
	fmt.Fprintf(w, headingFormat, "batch", "input", "output", "depth", "time s", "out tok/s", "prefill/s", "peak", "decode/s", "GB/s", "read", "roof GB/s", "GFLOP/s")
}

func printRow(w io.Writer, r row) {
	roof := r.Roofs[r.MedianRepeat]
	rate, read := "-", "-" // nothing is decoded where an answer is one token
	if r.Decode.Tokens > 0 {
		rate = fmt.Sprintf("%.2f", r.DecodeTokensPerSec)
		read = fmt.Sprintf("%.1f", perSecond(r.Decode.Bytes, r.Decode.Seconds)/1e9)
	}
	fmt.Fprintf(w, rowFormat, r.Batch, orMixed(r.Input), orMixed(r.Output), r.Depth,
		r.TimeSeconds, r.ThroughputTokensPerSec,
		r.PrefillTokensPerSec, percent(r.PrefillPeakShare),
		rate, read, percent(r.DecodeReadShare),
		roof.Before.ReadBytesPerSec()/1e9, roof.After.ReadBytesPerSec()/1e9,
		r.peakOf(roof.Before)/1e9, r.peakOf(roof.After)/1e9)
	printVariant(w, r)
	if r.Workload == "nano" || r.Incomplete {
		fmt.Fprintf(w, "%d prompt and %d output tokens, %d computed, %d preemptions\n", r.TotalInputTokens, r.TotalOutputTokens, r.TokensComputed, r.Samples[r.MedianRepeat].Preemptions)
	}
	if r.Incomplete {
		fmt.Fprintf(w, "Incomplete: %s\n", r.Error)
	}
}

// printFoot says what the columns are and how the peaks of arithmetic stood.
func printFoot(w io.Writer, rows []row) {
	fma, bf16, loops := 0.0, 0.0, ""
	for _, r := range rows {
		fma, bf16, loops = max(fma, r.FMAPerSec), max(bf16, r.BF16PerSec), r.Roofs[0].Before.Set
	}
	fmt.Fprintf(w, "\nout tok/s: output tokens over the whole call. prefill/s: prompt tokens until the last first token; decode/s: what came after.\n")
	fmt.Fprintf(w, "peak, read: share of the arithmetic peak of the products and of the read bandwidth, the better of before and after the call, which the last four columns show.\n")
	fmt.Fprintf(w, "Best of %s loops, in GFLOP/s:", loops)
	for _, peak := range []struct {
		name      string
		perSecond float64
	}{{"float32", fma}, {"bfloat16", bf16}} {
		if peak.perSecond > 0 {
			fmt.Fprintf(w, " %.0f %s", peak.perSecond/1e9, peak.name)
		}
	}
	fmt.Fprintln(w)
}

func orMixed(n int) string {
	if n == 0 {
		return "mixed"
	}
	return fmt.Sprint(n)
}

// percent writes a share; a dash where it is not known.
func percent(share float64) string {
	if share == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", 100*share)
}

func perSecond(work, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return work / seconds
}

// writeBenchfmt writes every repeat as a line of Go's benchmark format. https://go.dev/design/14313-benchmark-format
func writeBenchfmt(w io.Writer, rows []row) error {
	var text strings.Builder
	for i, r := range rows {
		if i == 0 {
			suite.WriteConfig(&text, r.Details)
			text.WriteString("Unit tok/s better=higher\nUnit prefill-tok/s better=higher\nUnit decode-tok/s better=higher\nUnit roof-GB/s better=higher\n")
		}
		for k, s := range r.Samples {
			if s.Incomplete {
				continue
			}
			roof := max(r.Roofs[k].Before.ReadBytesPerSec(), r.Roofs[k].After.ReadBytesPerSec())
			fmt.Fprintf(&text, "BenchmarkThroughput/%s 1 %.0f ns/op %.2f tok/s %.2f prefill-tok/s ", r.shape.name(),
				1e9*s.TimeSeconds, s.PerSecond(s.OutputTokens), s.PrefillTokensPerSec())
			if s.DecodeTokens > 0 {
				fmt.Fprintf(&text, "%.2f decode-tok/s ", s.DecodeTokensPerSec())
			}
			fmt.Fprintf(&text, "%.2f roof-GB/s\n", roof/1e9)
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}
