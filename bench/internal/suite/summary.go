package suite

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// The summary's table is the original's: a title ruled by 80 signs, columns of 40, 8, 12, 15 and 15. The first one is wider
// here where a method does not fit it.
const (
	ruleWidth   = 80
	methodWidth = 40
	tableWidth  = 8 + 12 + 15 + 15
	summaryName = "benchmark_summary.json"
)

// head is what the summary shows of a row.
type head struct {
	Method              string  `json:"method"`
	SharedPrefixLen     int     `json:"shared_prefix_len"`
	BatchSize           int     `json:"batch_size"`
	NumSequences        int     `json:"num_sequences"`
	TimeSeconds         float64 `json:"time_seconds"`
	Throughput          float64 `json:"throughput_tokens_per_sec"`
	MemoryUsedFormatted string  `json:"memory_used_formatted"`
	PeakRSSBytes        int64   `json:"peak_rss_bytes"`
	Incomplete          bool    `json:"incomplete"`
}

func headOf(row json.RawMessage) (h head, err error) {
	err = json.Unmarshal(row, &h)
	return h, err
}

// sumUp writes all rows of this run to one file and prints them as a table.
func (p *plan) sumUp(rows []json.RawMessage, text io.Writer) error {
	if len(rows) == 0 {
		p.warnOfOld(summaryName)
		return nil
	}
	if err := printSummary(text, rows); err != nil {
		return err
	}
	_, err := p.publish(summaryName, rows, true)
	return err
}

func printSummary(w io.Writer, rows []json.RawMessage) error {
	heads, width := make([]head, len(rows)), methodWidth
	for i, row := range rows {
		h, err := headOf(row)
		if err != nil {
			return fmt.Errorf("suite: reading a row for the summary: %w", err)
		}
		if h.SharedPrefixLen > 0 {
			h.Method += fmt.Sprintf(" (%d tok)", h.SharedPrefixLen)
		}
		if h.Incomplete {
			h.Method += " (incomplete)"
		}
		heads[i], width = h, max(width, len(h.Method)+1)
	}
	rule := strings.Repeat("=", ruleWidth)
	fmt.Fprintf(w, "\n%s\nBENCHMARK SUMMARY\n%s\n", rule, rule)
	line := func(method, batch, seconds, throughput, memory string) {
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%-*s%-8s%-12s%-15s%-15s", width, method, batch, seconds, throughput, memory), " "))
	}
	line("Method", "Batch", "Time (s)", "Throughput", "Memory")
	fmt.Fprintln(w, strings.Repeat("-", width+tableWidth))
	for _, h := range heads {
		line(h.Method, h.batch(), fmt.Sprintf("%.2f", h.TimeSeconds), fmt.Sprintf("%.1f tok/s", h.Throughput), h.MemoryUsedFormatted)
	}
	return nil
}

// batch is the row's batch size, or what stands for it.
func (h head) batch() string {
	for _, n := range []int{h.BatchSize, h.NumSequences} {
		if n > 0 {
			return fmt.Sprint(n)
		}
	}
	return "N/A"
}
