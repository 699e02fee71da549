package suite

import (
	"fmt"
	"io"
	"strings"
)

// writeBenchfmt writes every repeat as a line of Go's benchmark format, so that benchstat can compare two runs.
// https://go.dev/design/14313-benchmark-format
func writeBenchfmt(w io.Writer, b Benchmark, points []Point, measured []Measured) error {
	var text strings.Builder
	for i, m := range measured {
		d := m.Details
		if i == 0 {
			writeConfig(&text, d)
			text.WriteString("Unit tok/s better=higher\nUnit ttft-ms better=lower\nUnit itl-p50-ms better=lower\nUnit kv-bytes better=lower\n")
		}
		name := strings.ReplaceAll("Benchmark"+strings.ToUpper(b.Name[:1])+b.Name[1:]+"/"+points[i].Name, " ", "_")
		for _, s := range m.Details.Samples {
			if s.Incomplete {
				continue
			}
			ttft, itl := s.latencies()
			fmt.Fprintf(&text, "%s 1 %.0f ns/op %.2f tok/s %.3f ttft-ms %.3f itl-p50-ms %d kv-bytes\n", name, 1e9*s.TimeSeconds,
				s.PerSecond(b.Counted(s)), 1000*ttft.P50, 1000*itl.P50, s.KVBytesPeak)
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// writeConfig writes what a result belongs to. Keys keep results apart in benchstat; what one may want to compare (kernel
// sets, commits) is only a comment.
func writeConfig(w io.Writer, d Details) {
	e := d.Environment
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\ncpu: %s\n", e.OS, e.Arch, e.CPU)
	fmt.Fprintf(w, "model: %s\nsynthetic: %t\ndevice: %s\n", d.Model, d.Synthetic, d.Device)
	fmt.Fprintf(w, "# %s, commit %s, kernel set %s, %d threads\n", e.Go, e.Build.Commit, d.KernelSet, d.Threads)
}
