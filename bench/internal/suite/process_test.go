package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/kvcache"
)

// TestMain lets this test program be the process that measures a point.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == pointArgument {
		os.Exit(MainAll(hosted(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// hosted are the benchmarks that such a process knows: two that work, and two that fail at their second point, one with an
// error and one without a word.
func hosted() []Benchmark {
	sharing, failing, dying := small(), small(), small()
	sharing.Name, sharing.Method, sharing.Strategy = "sharing", "Sharing", kvcache.Cascade{}
	failing.Name = "failing"
	failing.Points = func(s Settings, prompts *Prompts) []Point {
		points := small().Points(s, prompts)
		points[1].Batches[0][0].Tokens[0] = 9999
		return points
	}
	dying.Name = "dying"
	dying.Points = func(s Settings, prompts *Prompts) []Point {
		points := small().Points(s, prompts)
		points[1].Row = func(Measured) any { os.Exit(7); return nil }
		return points
	}
	return []Benchmark{small(), sharing, failing, dying}
}

func pick(names ...string) []Benchmark {
	var picked []Benchmark
	for _, name := range names {
		b, err := find(hosted(), name)
		if err != nil {
			panic(err)
		}
		picked = append(picked, b)
	}
	return picked
}

func read(t *testing.T, dir, file string) []map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, file))
	require.NoError(t, err)
	var rows []map[string]any
	require.NoError(t, json.Unmarshal(data, &rows))
	return rows
}

func runFlags(dir string, more ...string) []string {
	return append([]string{"-model", "tiny", "-max-output", "3", "-repeats=1", "-pause", "10ms", "-out", dir}, more...)
}

// Each point has a process of its own and gives what it gives in a common one. The files of an earlier run are replaced.
func TestProcesses(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(t.TempDir()) // wherever it is started
	require.NoError(t, os.WriteFile(filepath.Join(dir, "results_small.json"), []byte("stale"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, summaryName), []byte("stale"), 0o600))
	var stdout, stderr bytes.Buffer
	require.Equal(t, cli.OK, ExecuteAll(t.Context(), pick("small", "sharing"), runFlags(dir), &stdout, &stderr), stderr.String())
	require.Empty(t, stderr.String())
	text := stdout.String()
	require.Equal(t, 2, strings.Count(text, "\nModel: tiny\n"), "a header for each benchmark")
	require.Equal(t, 4, strings.Count(text, "\nMemory given back: process at most "))
	require.Contains(t, text, "\nCompleted 2/2 benchmarks successfully.\n")

	var alone bytes.Buffer
	require.Equal(t, cli.OK, Execute(t.Context(), small(), runFlags(".", "-one-process", "-quiet"), &alone, &stderr), stderr.String())
	want, got := read(t, ".", "results_small.json"), read(t, dir, "results_small.json")
	require.Len(t, got, 2)
	for i := range want {
		require.Equal(t, want[i]["output_sha256"], got[i]["output_sha256"])
		require.Equal(t, want[i]["tokens_computed"], got[i]["tokens_computed"])
	}
	summary := read(t, dir, summaryName)
	require.Equal(t, append(got, read(t, dir, "results_sharing.json")...), summary)
}

// A point that fails costs the others nothing, is reported, and sets the exit code. What was not measured is not summed up.
func TestPointsFail(t *testing.T) {
	for _, c := range []struct {
		name, says string
		exit       cli.Exit
		rows       int // of the failing benchmark
	}{
		{"failing", "outside the vocabulary", cli.Usage, 2},
		{"dying", "exit status 7", cli.Failed, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			var stdout, stderr bytes.Buffer
			require.Equal(t, c.exit, ExecuteAll(t.Context(), pick(c.name, "small"), runFlags(dir), &stdout, &stderr), stderr.String())
			require.Contains(t, stderr.String(), "ERROR running "+c.name+", point two: exit status")
			require.Contains(t, stderr.String(), c.says)
			require.Contains(t, stderr.String(), "error: suite: 1 of 4 points failed: "+c.name+", point two")
			require.Contains(t, stdout.String(), "WARNING: "+c.name+" failed!\n")
			require.Contains(t, stdout.String(), "\nCompleted 1/2 benchmarks successfully.\n")
			rows := read(t, dir, "results_"+c.name+".json")
			require.Len(t, rows, c.rows)
			require.NotContains(t, rows[0], "incomplete")
			if len(rows) == 2 {
				require.Equal(t, true, rows[1]["incomplete"])
				require.Contains(t, stdout.String(), "(incomplete)")
			}
			require.Len(t, read(t, dir, summaryName), c.rows+2)
		})
	}
}

// Where nothing at all could be measured no file is written, and one of an earlier run is neither touched nor summed up.
func TestNothingMeasured(t *testing.T) {
	for _, c := range []struct {
		name       string
		benchmarks []Benchmark
		args       []string
		exit       cli.Exit
		processes  int
	}{
		{"processes that say why", pick("small", "sharing"), []string{"-kernel-set", "mmx"}, cli.Usage, 1},
		{"no such model", pick("small", "sharing"), []string{"-model", "tinny"}, cli.NotFound, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			old := filepath.Join(dir, "results_small.json")
			require.NoError(t, os.WriteFile(old, []byte("[]"), 0o600))
			var stdout, stderr bytes.Buffer
			require.Equal(t, c.exit, ExecuteAll(t.Context(), c.benchmarks, runFlags(dir, c.args...), &stdout, &stderr))
			require.Equal(t, c.processes, strings.Count(stderr.String(), "ERROR running"), stderr.String())
			data, err := os.ReadFile(old)
			require.NoError(t, err)
			require.Equal(t, "[]", string(data))
			require.NoFileExists(t, filepath.Join(dir, summaryName))
		})
	}
}

// Processes do not start processes, whatever program this is.
func TestNoProcessStartsAnother(t *testing.T) {
	t.Setenv(pointVariable, "1")
	var stdout, stderr bytes.Buffer
	require.Equal(t, cli.Failed, Execute(t.Context(), small(), runFlags(t.TempDir()), &stdout, &stderr))
	require.Contains(t, stderr.String(), "starts no other")
}

// writerFunc is called for each write.
type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// An interrupted run ends the process that measures, keeps what that had, and starts no other.
func TestProcessInterrupted(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout := writerFunc(func(p []byte) {
		if bytes.Contains(p, []byte("--- Testing point one")) {
			time.AfterFunc(300*time.Millisecond, cancel)
		}
	})
	var stderr bytes.Buffer
	exit := ExecuteAll(ctx, pick("small", "sharing"), runFlags(dir, "-max-output", "3000", "-repeats=50"), stdout, &stderr)
	require.Equal(t, cli.Interrupted, exit, stderr.String())
	require.Contains(t, stderr.String(), "note: 1 of 2 points are in "+filepath.Join(dir, "results_small.json"))
	rows := read(t, dir, summaryName)
	require.Len(t, rows, 1)
	require.Equal(t, true, rows[0]["incomplete"])
}

func TestSummaryTable(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, printSummary(&out, []json.RawMessage{
		[]byte(`{"method":"Standard KV Cache","batch_size":4,"time_seconds":1.234,"throughput_tokens_per_sec":56.78,"memory_used_formatted":"5.00 MB"}`),
		[]byte(`{"method":"M","num_sequences":2,"shared_prefix_len":50,"incomplete":true,"memory_used_formatted":"0.00 B"}`),
		[]byte(`{"method":"M"}`),
	}))
	rule := strings.Repeat("=", 80)
	require.Equal(t, "\n"+rule+"\nBENCHMARK SUMMARY\n"+rule+"\n"+
		"Method                                  Batch   Time (s)    Throughput     Memory\n"+strings.Repeat("-", 90)+"\n"+
		"Standard KV Cache                       4       1.23        56.8 tok/s     5.00 MB\n"+
		"M (50 tok) (incomplete)                 2       0.00        0.0 tok/s      0.00 B\n"+
		"M                                       N/A     0.00        0.0 tok/s\n", out.String())
}

func TestPause(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		name          string
		before, after memory
		want          bool
	}{
		{"as before", memory{available: 9 * gib}, memory{available: 9 * gib}, true},
		{"a little is missing", memory{available: 9 * gib}, memory{available: 9*gib - memorySlack}, true},
		{"much is missing", memory{available: 9 * gib}, memory{available: 8 * gib}, false},
		{"nobody tells", memory{}, memory{}, false},
		{"a GPU as before", memory{available: gib, gpu: true, gpuUsed: 5}, memory{available: gib, gpu: true, gpuUsed: 5}, true},
		{"a GPU still in use", memory{available: gib, gpu: true}, memory{available: gib, gpu: true, gpuUsed: gib}, false},
		{"a GPU of which nobody tells", memory{available: gib, gpu: true, gpuUsed: -1}, memory{available: gib, gpu: true, gpuUsed: -1}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, c.after.givenBack(c.before), fmt.Sprint(c.before, c.after))
		})
	}
	never := memory{available: 1 << 60}
	_, waited := pause{longest: 20 * time.Millisecond}.wait(t.Context(), never)
	require.GreaterOrEqual(t, waited, 20*time.Millisecond, "memory that does not come back is waited for")
	now := readMemory(t.Context())
	now.available, now.gpu = max(now.available-gib, 1), false
	_, waited = pause{longest: 20 * time.Millisecond, full: true}.wait(t.Context(), now)
	require.GreaterOrEqual(t, waited, 20*time.Millisecond, "the whole pause was asked for")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, waited = pause{longest: time.Hour}.wait(cancelled, never)
	require.Less(t, waited, time.Hour)
}

// What a strategy saves and whether it answers alike are made of what was counted.
func TestCompare(t *testing.T) {
	require.Nil(t, compare(Sample{}, []Sample{{}}, nil))
	ours := []Sample{
		{TimeSeconds: 1, TokensComputed: 60, KVBytesPeak: 75, OutputSHA256: "a", InputTokens: 80, TokensReused: 40},
		{TimeSeconds: 2, TokensComputed: 60, KVBytesPeak: 75, OutputSHA256: "a"},
	}
	standard := []Sample{
		{TimeSeconds: 4, TokensComputed: 100, KVBlocksPeak: 9, KVBytesPeak: 100, OutputSHA256: "a"},
		{TimeSeconds: 4, TokensComputed: 100, KVBlocksPeak: 9, KVBytesPeak: 100, OutputSHA256: "a"},
	}
	c := compare(ours[0], ours, standard)
	require.True(t, c.SameOutput)
	require.InDelta(t, 0.25, c.SavedKVRatio, 1e-9)
	require.InDelta(t, 0.4, c.SavedTokensRatio, 1e-9)
	require.InDelta(t, 0.5, c.ReusedPerInputToken, 1e-9)
	require.InDeltaSlice(t, []float64{2, 3, 4}, []float64{c.SpeedupMin, c.SpeedupMedian, c.SpeedupMax}, 1e-9)
	ours[1].OutputSHA256 = "b"
	require.False(t, compare(ours[0], ours, standard).SameOutput, "one repeat answered otherwise")
}
