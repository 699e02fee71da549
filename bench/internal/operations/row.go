package operations

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/quire-llm/quire/internal/stats"
	"github.com/quire-llm/quire/internal/sysinfo"
	"github.com/quire-llm/quire/kernels"
)

// machine is what a row was measured on, and with.
type machine struct {
	Device      string              `json:"device"`
	DeviceName  string              `json:"device_name"`
	Driver      string              `json:"driver,omitempty"` // of a GPU
	KernelSet   string              `json:"kernel_set"`
	Images      string              `json:"images,omitempty"` // hash of a GPU's kernels
	CuBLASLt    string              `json:"cublaslt,omitempty"`
	Products    string              `json:"products"`
	Threads     int                 `json:"threads,omitempty"`
	Environment sysinfo.Environment `json:"environment"`
	Command     string              `json:"command"`
	Date        string              `json:"date"`
}

func (m *machine) print(w io.Writer) {
	fmt.Fprintf(w, "Device: %s, %s, kernel set %s, %s\n", m.Device, m.DeviceName, m.KernelSet, m.Driver)
	fmt.Fprintf(w, "Build: %s, %s\n", m.Environment.Build.Commit, m.Environment.Go)
}

// row is an object of results_kernels.json.
type row struct {
	Shape     string `json:"shape"`
	Op        string `json:"op"`
	Rows      int    `json:"rows"`                // of the batch
	Sequences int    `json:"sequences,omitempty"` // of attention
	Context   int    `json:"context,omitempty"`   // tokens of each
	KV        string `json:"kv,omitempty"`

	Micros       float64       `json:"us"` // of a call: the median over runs
	MicrosSpread stats.Summary `json:"us_runs"`
	Calls        int           `json:"calls"`      // of a run, one after another
	Copies       int           `json:"copies"`     // of the weights or the cache, which calls meet in turn
	Bytes        float64       `json:"bytes"`      // that a call must read and write at least
	Operations   float64       `json:"operations"` // of a call; a multiply-add is two
	BytesPerSec  float64       `json:"bytes_per_sec"`
	PerSec       float64       `json:"operations_per_sec"`
	ReadShare    float64       `json:"share_of_read"` // of the read bandwidth
	PeakShare    float64       `json:"share_of_peak"` // of the peak of the products' arithmetic
	LimitMicros  float64       `json:"limit_us"`      // the longer of what bytes and operations take at the machine's limits
	LimitShare   float64       `json:"share_of_limit"`
	Bound        string        `json:"bound"` // "memory" or "arithmetic": which of the two it is
	ReadRoof     float64       `json:"roof_read_bytes_per_sec"`
	PeakRoof     float64       `json:"roof_operations_per_sec"`
	Settings     settings      `json:"settings"`
	machine
}

// limits are the machine's.
type limits struct{ read, peak float64 }

// limitsOf are the better of two measurements, in bytes and operations a second.
func limitsOf(a, b kernels.Roofs, products string) limits {
	peak := func(r kernels.Roofs) float64 {
		if products == "bf16" {
			return r.BF16PerSec()
		}
		return r.FMAPerSec()
	}
	return limits{read: max(a.ReadBytesPerSec(), b.ReadBytesPerSec()), peak: max(peak(a), peak(b))}
}

// seconds is what a job takes at the limits, and which of them it meets.
func (l limits) seconds(j *job) (seconds float64, bound string) {
	seconds, bound = j.bytes/l.read, "memory"
	if l.peak > 0 && j.operations/l.peak > seconds {
		seconds, bound = j.operations/l.peak, "arithmetic"
	}
	return seconds, bound
}

// setShares compares with the machine's limits.
func (r *row) setShares(j *job, l limits) {
	limit, bound := l.seconds(j)
	seconds := r.Micros / 1e6
	r.Bytes, r.Operations, r.Bound = j.bytes, j.operations, bound
	r.BytesPerSec, r.PerSec = j.bytes/seconds, j.operations/seconds
	r.ReadRoof, r.PeakRoof, r.LimitMicros, r.LimitShare = l.read, l.peak, 1e6*limit, limit/seconds
	r.ReadShare = r.BytesPerSec / l.read
	if l.peak > 0 {
		r.PeakShare = r.PerSec / l.peak
	}
}

// setTimes takes the runs of so many calls each.
func (r *row) setTimes(took []time.Duration, calls int) {
	micros := make([]float64, len(took))
	for i, t := range took {
		micros[i] = float64(t.Nanoseconds()) / 1e3 / float64(calls)
	}
	r.MicrosSpread, r.Calls = stats.Summarize(micros), calls
	r.Micros = r.MicrosSpread.P50
}

func printHeading(w io.Writer, name string, l limits) {
	fmt.Fprintf(w, "\n%s: memory reads %.0f GB/s, products reach %.1f TFLOP/s in loops beside it\n", name, l.read/1e9, l.peak/1e12)
	fmt.Fprintf(w, "%-10s %14s %5s | %10s %10s %10s | %9s %9s | %6s %s\n", "op", "rows", "kv", "us", "min", "max", "GB/s", "TFLOP/s", "limit", "bound by")
}

func printRow(w io.Writer, r row) {
	fmt.Fprintf(w, "%-10s %14s %5s | %10.2f %10.2f %10.2f | %9.1f %9.2f | %4.0f %% %s\n", r.Op, r.size(), r.KV,
		r.Micros, r.MicrosSpread.Min, r.MicrosSpread.Max, r.BytesPerSec/1e9, r.PerSec/1e12, 100*r.LimitShare, r.Bound)
}

// size is the rows, or sequences x context.
func (r *row) size() string {
	if r.Sequences > 0 {
		return fmt.Sprintf("%d x %d", r.Sequences, r.Context)
	}
	return fmt.Sprint(r.Rows)
}

// writeBenchfmt writes a line of Go's benchmark format for each row. https://go.dev/design/14313-benchmark-format
func writeBenchfmt(w io.Writer, rows []row) error {
	var text strings.Builder
	for i, r := range rows {
		if i == 0 {
			fmt.Fprintf(&text, "goos: %s\ngoarch: %s\ncpu: %s\ndevice: %s\n", r.Environment.OS, r.Environment.Arch, r.Environment.CPU, r.DeviceName)
			fmt.Fprintf(&text, "# %s, commit %s, kernel set %s\nUnit GB/s better=higher\nUnit TFLOP/s better=higher\nUnit limit-share better=higher\n",
				r.Environment.Go, r.Environment.Build.Commit, r.KernelSet)
		}
		name := fmt.Sprintf("BenchmarkKernels/shape=%s/op=%s/rows=%s", r.Shape, r.Op, strings.ReplaceAll(r.size(), " ", ""))
		if r.KV != "" {
			name += "/kv=" + r.KV
		}
		fmt.Fprintf(&text, "%s %d %.0f ns/op %.2f GB/s %.3f TFLOP/s %.3f limit-share\n", name, r.Calls, 1e3*r.Micros, r.BytesPerSec/1e9, r.PerSec/1e12, r.LimitShare)
	}
	_, err := io.WriteString(w, text.String())
	return err
}
