package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/kvcache"
)

// small is a benchmark of two points with a request of three tokens each.
func small() Benchmark {
	type row struct {
		Point string `json:"point"`
		Details
	}
	return Benchmark{
		Name: "small", Short: "Test", Method: "Small", Heading: "Small", Strategy: kvcache.Standard{},
		Counted: func(s Sample) int { return s.OutputTokens },
		Points: func(s Settings, prompts *Prompts) []Point {
			var points []Point
			for _, name := range []string{"one", "two"} {
				request := s.Request(0)
				request.Tokens = prompts.IDs(3)
				points = append(points, Point{
					Label: "point " + name, Name: name,
					Batches: [][]engine.Request{{request}},
					Row:     func(m Measured) any { return row{name, m.Details} },
				})
			}
			return points
		},
	}
}

func flags(dir string, more ...string) []string {
	return append([]string{"-model", "tiny", "-max-output", "3", "-warmup=1", "--repeats", "2", "-out", dir, "-one-process"}, more...)
}

func readRows(t *testing.T, dir string) []map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "results_small.json"))
	require.NoError(t, err)
	var rows []map[string]any
	require.NoError(t, json.Unmarshal(data, &rows))
	return rows
}

// onlyFile fails if the folder holds anything but the results.
func onlyFile(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, "results_small.json", entries[0].Name())
}

func TestOutputs(t *testing.T) {
	for _, c := range []struct {
		name, flag string
		check      func(t *testing.T, stdout, path string)
	}{
		{"text", "--quiet=false", func(t *testing.T, stdout, path string) {
			require.Regexp(t, `(?s)^Model: tiny\nBatch sizes: \[1, 2, 4\]\nMax input length: 256\nMax output length: 3\n`, stdout)
			require.Regexp(t, `(?s)\n--- Testing point two ---\n=== Small ===\n\nMethod: Small\nTime: \d+\.\d\ds\nThroughput: \d+\.\d\d tokens/s\nMemory used: 64\.00 KB\n`, stdout)
			require.True(t, strings.HasSuffix(stdout, "\nResults saved to "+path+"\n"), stdout)
		}},
		{"quiet", "-quiet", func(t *testing.T, stdout, path string) { require.Equal(t, path+"\n", stdout) }},
		{"json", "-json", func(t *testing.T, stdout, path string) {
			file, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(file), stdout)
		}},
		{"benchfmt", "-benchfmt", func(t *testing.T, stdout, _ string) {
			require.Contains(t, stdout, "model: tiny\nsynthetic: false\ndevice: cpu\n# go1.")
			require.Contains(t, stdout, "Unit tok/s better=higher\n")
			require.Equal(t, 2, strings.Count(stdout, "\nBenchmarkSmall/one 1 "), "a line for each repeat")
			require.Regexp(t, `(?m)^BenchmarkSmall/two 1 \d+ ns/op \d+\.\d\d tok/s \d+\.\d{3} ttft-ms \d+\.\d{3} itl-p50-ms 65536 kv-bytes$`, stdout)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "made", "here")
			var stdout, stderr bytes.Buffer
			exit := Execute(t.Context(), small(), flags(dir, c.flag), &stdout, &stderr)
			require.Equal(t, cli.OK, exit, stderr.String())
			require.Empty(t, stderr.String())
			onlyFile(t, dir)
			require.Len(t, readRows(t, dir), 2)
			c.check(t, stdout.String(), filepath.Join(dir, "results_small.json"))
		})
	}
}

func TestInterrupted(t *testing.T) {
	for _, c := range []struct {
		name       string
		interrupt  func(b *Benchmark, cancel func())
		incomplete []bool // of each row
	}{
		{"before the first point", func(b *Benchmark, cancel func()) {
			points := b.Points
			b.Points = func(s Settings, p *Prompts) []Point { cancel(); return points(s, p) }
		}, []bool{true}},
		{"after the first point", func(b *Benchmark, cancel func()) {
			points := b.Points
			b.Points = func(s Settings, p *Prompts) []Point {
				all := points(s, p)
				all[0].Lines = func(Measured) []string { cancel(); return nil }
				return all
			}
		}, []bool{false, true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			b := small()
			c.interrupt(&b, cancel)
			dir := t.TempDir()
			var stdout, stderr bytes.Buffer
			require.Equal(t, cli.Interrupted, Execute(ctx, b, flags(dir), &stdout, &stderr))
			require.Contains(t, stderr.String(), "the last one incomplete")
			require.Contains(t, stdout.String(), "Incomplete: ")
			onlyFile(t, dir)
			rows := readRows(t, dir)
			require.Len(t, rows, len(c.incomplete))
			for i, want := range c.incomplete {
				_, got := rows[i]["incomplete"]
				require.Equal(t, want, got, "row %d", i)
			}
		})
	}
}

// Ids are reduced to what the model has, which a tokenizer says, if there is one that is the model's own.
func TestOrdinaryVocabularies(t *testing.T) {
	for model, want := range map[string]int{"tiny": 2039, "synthetic:qwen3-0.6b:layers=1": 0, "../../../model/testdata/goldens/qwen3-tied-gqa2": 320} {
		t.Run(model, func(t *testing.T) {
			dir := t.TempDir()
			var stdout, stderr bytes.Buffer
			require.Equal(t, cli.OK, Execute(t.Context(), small(), flags(dir, "-model", model, "-repeats=1"), &stdout, &stderr), stderr.String())
			modulo, given := readRows(t, dir)[0]["token_ids_modulo"]
			require.Equal(t, want > 0, given)
			if given {
				require.EqualValues(t, want, modulo)
			}
		})
	}
}

// A point that fails does not take those before it with it, and the exit code says that it failed.
func TestAPointFails(t *testing.T) {
	b := small()
	points := b.Points
	b.Points = func(s Settings, p *Prompts) []Point {
		all := points(s, p)
		all[1].Batches[0][0].Tokens[0] = 9999
		return all
	}
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	require.Equal(t, cli.Usage, Execute(t.Context(), b, flags(dir), &stdout, &stderr))
	require.Contains(t, stderr.String(), "outside the vocabulary")
	rows := readRows(t, dir)
	require.Len(t, rows, 2)
	require.NotContains(t, rows[0], "error")
	require.Equal(t, true, rows[1]["incomplete"])
	require.Contains(t, rows[1]["error"], "outside the vocabulary")
}

// A request that is cut off in its middle leaves what it had produced.
func TestInterruptedInTheMiddle(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := open(t.Context(), small(), Settings{MaxInputTokens: 3, MaxOutputTokens: 2000, MaxContext: 4096, IgnoreEOS: true, Repeats: 1}, cli.EngineFlags{Model: "tiny"}, &bytes.Buffer{})
	require.NoError(t, err)
	defer s.close()
	s.progress = cli.NewProgress(nil)
	steps := 0
	s.options.Observer.StepDone = func(engine.StepInfo) {
		if steps++; steps == 5 {
			cancel()
		}
	}
	m, err := s.measure(ctx, small().Points(s.settings, s.prompts)[0])
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, m.Details.Incomplete)
	require.Len(t, m.Details.Samples, 1)
	require.True(t, m.Sample.Incomplete)
	require.GreaterOrEqual(t, m.Sample.OutputTokens, 5)
	require.Less(t, m.Sample.OutputTokens, 2000)
	require.Positive(t, m.Sample.TokensComputed)
}

func TestRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, c := range []struct {
		name string
		args []string
		exit cli.Exit
		says string
	}{
		{"all bad values at once", []string{"-repeats", "0", "-max-output", "0", "-batch-sizes", "0", "-temperature=-1"}, cli.Usage, "--max-output must be at least 1, got 0; --repeats must be at least 1, got 0; --batch-sizes must be at least 1, got 0; --temperature"},
		{"unknown flag", []string{"-bacth-sizes", "1"}, cli.Usage, "did you mean --batch-sizes?"},
		{"argument", []string{"tiny"}, cli.Usage, `unexpected argument "tiny"`},
		{"too long for the model", []string{"-max-input", "4000", "-max-output", "97"}, cli.Usage, "do not fit the model's context of 4096"},
		{"cache too small for a request", []string{"-cache-tokens", "16", "-max-input", "32"}, cli.Usage, "a cache of 16 tokens does not hold"},
		{"misspelt model", []string{"-model", "tinny"}, cli.NotFound, "tiny"},
		{"kernel set", []string{"-kernel-set", "mmx"}, cli.Usage, "mmx"},
		{"device", []string{"-device", "tpu"}, cli.Usage, "tpu"},
		{"folder that is a file", []string{"-out", filepath.Join(file, "x")}, cli.Failed, "file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			var stdout, stderr bytes.Buffer
			b := small()
			b.Points = func(s Settings, p *Prompts) []Point {
				request := s.Request(0)
				request.Tokens = p.IDs(s.MaxInputTokens)
				return []Point{{Batches: [][]engine.Request{{request}}, Row: func(Measured) any { return nil }}}
			}
			exit := Execute(t.Context(), b, flags(dir, c.args...), &stdout, &stderr)
			require.Equal(t, c.exit, exit, stderr.String())
			require.Contains(t, stderr.String(), c.says)
			require.Equal(t, 2, strings.Count(stderr.String(), "\n"), "want an error and a hint: %q", stderr.String())
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, entries, "something was written")
		})
	}
}

func TestPrompts(t *testing.T) {
	whole := NewPrompts(42, 151643)
	require.Zero(t, whole.Modulo)
	small := NewPrompts(42, 2039)
	require.Equal(t, 2039, small.Modulo)
	for _, want := range []int{128, 237, 141, 216, 204, 113, 211} {
		drawn, reduced := whole.Draw(256), small.Draw(256)
		require.Len(t, drawn, want)
		require.Len(t, reduced, want)
		for i, id := range drawn {
			require.Equal(t, id%2039, reduced[i])
		}
	}
	require.Len(t, NewPrompts(1, 100).Draw(7), 7)
	require.Equal(t, 10000, NewPrompts(1, 10000).Modulo, "id 10000 is drawn")
	require.Zero(t, NewPrompts(1, 10001).Modulo)
}

func TestSampleOfAHandMadeTrace(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(ms ...int) []time.Time {
		var times []time.Time
		for _, m := range ms {
			times = append(times, start.Add(time.Duration(m)*time.Millisecond))
		}
		return times
	}
	results := []engine.Result{
		{Tokens: []int32{1, 2, 3}, At: at(100, 140, 180), Exact: true, Usage: engine.Usage{PromptTokens: 10}},
		{Tokens: []int32{4, 5}, At: at(150, 250), Exact: true, Usage: engine.Usage{PromptTokens: 20}},
	}
	var s Sample
	s.add(make([]engine.Request, 2), results, start, 0.3)
	require.Equal(t, 30, s.InputTokens)
	require.Equal(t, 5, s.OutputTokens)
	require.InDeltaSlice(t, []float64{0.1, 0.15}, s.TTFTSeconds, 1e-9)
	require.InDeltaSlice(t, []float64{0.04, 0.04, 0.1}, s.ITLSeconds, 1e-9)
	require.InDelta(t, 0.15, s.PrefillSeconds, 1e-9)
	require.InDelta(t, 0.1, s.DecodeSeconds, 1e-9)
	require.Equal(t, 2, s.DecodeTokens, "tokens after 150 ms")
	require.InDelta(t, 200, s.PrefillTokensPerSec(), 1e-6)
	require.InDelta(t, 20, s.DecodeTokensPerSec(), 1e-6)
	require.False(t, s.Inexact)
}

func TestFormatSize(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0.00 B", 1023: "1023.00 B", 1024: "1.00 KB", 1 << 20: "1.00 MB", 7340032: "7.00 MB", 3 << 29: "1.50 GB", 5 << 40: "5.00 TB",
	} {
		require.Equal(t, want, FormatSize(bytes))
	}
}

func TestWithoutHome(t *testing.T) {
	t.Setenv("HOME", "/home/somebody")
	require.Equal(t, "~/huggingface/Qwen3-0.6B/", withoutHome("/home/somebody/huggingface/Qwen3-0.6B/"))
	require.Equal(t, "/home/somebodyelse/x", withoutHome("/home/somebodyelse/x"))
	require.Equal(t, "tiny", withoutHome("tiny"))
}

func TestWriteFileLeavesNothingOnFailure(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "taken")
	require.NoError(t, os.MkdirAll(filepath.Join(target, "full"), 0o700)) // a folder cannot be replaced by a file
	require.Error(t, writeFile(target, []byte("x")))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}
