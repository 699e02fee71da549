package throughput

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/model"
)

// run runs the program on the built-in model with a small probe.
func run(ctx context.Context, dir string, more ...string) (exit cli.Exit, stdout, stderr string) {
	var out, err bytes.Buffer
	exit = suite.ExecuteCommand(ctx, NewCommand(), append([]string{"-model", "tiny", "-probe-mib", "8", "-probe-ms", "2", "-warmup", "1", "-out", dir}, more...), &out, &err)
	return exit, out.String(), err.String()
}

func readRows(t *testing.T, dir string) []row {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "results_throughput.json"))
	require.NoError(t, err)
	var rows []row
	require.NoError(t, json.Unmarshal(data, &rows))
	return rows
}

func TestGridOnTiny(t *testing.T) {
	dir := t.TempDir()
	exit, stdout, stderr := run(t.Context(), dir, "-batch", "1,3", "-input", "20", "-output", "5", "-depth", "0,30", "-repeats", "2")
	require.Equal(t, cli.OK, exit, stderr)
	require.Contains(t, stdout, "batch  input output  depth |   time s out tok/s | prefill/s")
	require.Contains(t, stdout, "GFLOP/s:")

	ck, err := (&cli.EngineFlags{Model: "tiny"}).OpenModel(func(string) {})
	require.NoError(t, err)
	defer ck.Close()
	weights := ck.WeightBytes()

	rows := readRows(t, dir)
	require.Len(t, rows, 4)
	for i, want := range []struct{ batch, depth int }{{1, 0}, {3, 0}, {1, 30}, {3, 30}} {
		r := rows[i]
		n, prompt := want.batch, want.depth+20
		require.Equal(t, want.batch, r.Batch)
		require.Equal(t, want.depth, r.Depth)
		require.Equal(t, 20, r.Input)
		require.Equal(t, 5, r.Output)
		require.Equal(t, prompt*n, r.TotalInputTokens)
		require.Equal(t, 5*n, r.TotalOutputTokens)
		require.Equal(t, int64((prompt+5-1)*n), r.TokensComputed, "the last token of an answer is not computed on")
		require.Zero(t, r.TokensReused)
		require.InDelta(t, float64(5*n)/r.TimeSeconds, r.ThroughputTokensPerSec, 1e-6)

		// Prompts this short are read in one step, so all answers go on side by side.
		require.Equal(t, prompt*n, r.Prefill.Tokens)
		require.Equal(t, 4, r.Decode.Steps)
		require.Equal(t, 4*n, r.Decode.Tokens)
		kv := float64(n*(4*prompt+1+2+3+4)) * float64(r.KVBytesPerToken)
		require.InEpsilon(t, kv+4*float64(weights), r.Decode.Bytes, 0.01, "all weights but the norms are read in each step")
		require.InDelta(t, r.DecodeTokensPerSec, float64(r.Decode.Tokens)/r.Decode.Seconds, 1e-3)

		require.Len(t, r.Samples, 2)
		require.Len(t, r.Roofs, 2)
		for _, around := range r.Roofs {
			require.Positive(t, around.Before.ReadBytesPerSec())
			require.Positive(t, around.After.FMAPerSec())
			require.Len(t, around.Before.Read, 4)
		}
		chosen := r.Roofs[r.MedianRepeat]
		require.Equal(t, max(chosen.Before.ReadBytesPerSec(), chosen.After.ReadBytesPerSec()), r.ReadBytesPerSec)
		require.InDelta(t, r.Decode.Bytes/r.Decode.Seconds/r.ReadBytesPerSec, r.DecodeReadShare, 1e-9)
		require.InDelta(t, r.Prefill.Operations/r.Prefill.Seconds/r.peakPerSec(), r.PrefillPeakShare, 1e-9)
		require.Equal(t, suite.SchemaVersion, r.SchemaVersion)
		require.Equal(t, counts{1, 3}, r.Settings.Batch)
		require.NotEmpty(t, r.Environment.Arch)
		require.False(t, r.Incomplete)
	}
}

func TestNanoOnTiny(t *testing.T) {
	dir := t.TempDir()
	exit, stdout, stderr := run(t.Context(), dir, "-workload", "nano", "-requests", "1")
	require.Equal(t, cli.OK, exit, stderr)
	require.Contains(t, stdout, "256 requests, 142827 prompt and 133966 output tokens; the first 1 of them are run\n")
	rows := readRows(t, dir)
	require.Len(t, rows, 1)
	p, err := drawNano(suite.NewPrompts(0, nanoAnyVocab), 0)
	require.NoError(t, err)
	require.Equal(t, p.prompts[0], rows[0].TotalInputTokens)
	require.Equal(t, p.outputs[0], rows[0].TotalOutputTokens)
	require.Equal(t, 1, rows[0].Repeats)
	require.Equal(t, nanoContext, rows[0].Settings.MaxContext)
}

func TestNanoWorkload(t *testing.T) {
	all, err := drawNano(suite.NewPrompts(0, nanoAnyVocab), 0)
	require.NoError(t, err)
	require.Len(t, all.prompts, 256)
	require.Equal(t, 142_827, total(all.prompts))
	require.Equal(t, 133_966, total(all.outputs))

	_, err = drawNano(suite.NewPrompts(1, nanoAnyVocab), 0)
	require.ErrorContains(t, err, "want 142827 and 133966")
	_, err = drawNano(suite.NewPrompts(1, nanoAnyVocab), 1)
	require.NoError(t, err, "only seed 0 has published totals")

	s := defaults()
	few := all.first(3)
	requests := few.requests(&s, suite.NewPrompts(0, 2039))
	require.Len(t, requests, 3)
	for i, r := range requests {
		require.Len(t, r.Tokens, all.prompts[i])
		require.Equal(t, all.outputs[i], r.MaxTokens)
		require.Equal(t, uint64(i), r.Sampling.Seed)
		for k, id := range r.Tokens {
			require.Equal(t, all.tokens[i][k]%2039, id)
		}
	}
}

func TestInterruptedGridKeepsWhatWasMeasured(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := defaults()
	s.Batch, s.Input, s.Output, s.Depth, s.Repeats, s.Warmup, s.ProbeMiB, s.ProbeMillis = counts{1, 2}, counts{8}, counts{4}, counts{0}, 1, 0, 8, 2
	shapes, err := s.shapes()
	require.NoError(t, err)
	b, err := openBench(ctx, s, shapes, cli.EngineFlags{Model: "tiny"}, io.Discard)
	require.NoError(t, err)
	defer b.close()
	b.progress = cli.NewProgress(nil)
	rows, err := b.measureAll(ctx, shapes, cancelAfterRow{cancel})
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, rows, 2)
	require.False(t, rows[0].Incomplete)
	require.Equal(t, 4, rows[0].TotalOutputTokens)
	require.True(t, rows[1].Incomplete)
	require.Contains(t, rows[1].Error, "canceled")

	dir := t.TempDir()
	exit, _, stderr := run(ctx, dir, "-batch", "1,2")
	require.Equal(t, cli.Interrupted, exit)
	require.Contains(t, stderr, "1 of 4 points are in")
	require.True(t, readRows(t, dir)[0].Incomplete)
}

// cancelAfterRow cancels when the first row of figures is printed.
type cancelAfterRow struct{ cancel func() }

func (c cancelAfterRow) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p), "    1 ") {
		c.cancel()
	}
	return len(p), nil
}

// Two answers, of which the second gets its first token later; what is computed until then is the prompts' share.
func TestWorkOfAHandMadeTrace(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(ms ...int) []time.Time {
		var times []time.Time
		for _, m := range ms {
			times = append(times, start.Add(time.Duration(m)*time.Millisecond))
		}
		return times
	}
	c := modelCost{layerParameters: 10, headParameters: 3, stepBytes: 1000, kvBytes: 7, pairOperations: 2}
	prefill, decode := c.work([]engine.Result{
		{At: at(100, 150, 200, 300), Usage: engine.Usage{PromptTokens: 4}},
		{At: at(150, 200), Usage: engine.Usage{PromptTokens: 6}},
		{}, // cut short before its first token
	}, start, 0)
	require.InDelta(t, 0.15, prefill.Seconds, 1e-9)
	require.Equal(t, 10, prefill.Tokens)
	// Prompts of 4 and 6, then the first answer's second token, which sees 5; the head for three rows.
	require.Equal(t, float64(2*10*(4+6+1)+2*(10+21+5)+2*3*3), prefill.Operations)
	require.InDelta(t, 0.15, decode.Seconds, 1e-9)
	require.Equal(t, 2, decode.Steps)
	require.Equal(t, 3, decode.Tokens)
	require.Equal(t, float64(2*1000+7*(6+7+7)), decode.Bytes)
	require.Equal(t, float64(3*(2*10+2*3)+2*(6+7+7)), decode.Operations)

	prefill, decode = c.work([]engine.Result{
		{At: at(100, 200), Usage: engine.Usage{PromptTokens: 4}},
		{At: at(100, 200), Usage: engine.Usage{PromptTokens: 6}},
	}, start, 3)
	require.Equal(t, float64(2*10*(4+3)+2*(10+21-6)+2*3*2), prefill.Operations, "three tokens are computed once")
	require.Equal(t, float64(1000+7*(3+2+4)), decode.Bytes, "and read once a step")
}

func TestCostOfQwen3(t *testing.T) {
	ck, err := (&cli.EngineFlags{Model: "synthetic:qwen3-0.6b"}).OpenModel(func(string) {})
	require.NoError(t, err)
	defer ck.Close()
	c := costOf(ck.Config, kernels.BF16, ck.Config.KVBytesPerToken(kernels.KVBF16))
	require.Equal(t, 440_401_920.0, c.layerParameters)
	require.Equal(t, 155_582_464.0, c.headParameters)
	require.InDelta(t, 1_192e6, c.stepBytes, 1e6)
	require.InDelta(t, 614.6e6, costOf(ck.Config, kernels.Int8, 114_688).stepBytes, 1e5) // 1 + 4/128 bytes each
	require.Equal(t, 114_688.0, c.kvBytes)
	require.Equal(t, 4.0*16*128*28, c.pairOperations)

	require.Zero(t, costOf(model.Config{MoE: model.MoE{Experts: 8}}, kernels.BF16, 64), "which experts are read is not known")
}

func TestCounts(t *testing.T) {
	for text, want := range map[string]counts{
		"1": {1}, "1,8": {1, 8}, "1-64*4": {1, 4, 16, 64}, "128-512+128": {128, 256, 384, 512}, "2-4": {2, 3, 4}, "0,100-300+100": {0, 100, 200, 300},
	} {
		var got counts
		require.NoError(t, got.Set(text), text)
		require.Equal(t, want, got, text)
	}
	for text, says := range map[string]string{
		"": "no count", "a": "no count", "1-b": "no number", "1-4*x": "no number", "1-4*1": "does not grow", "0-4*2": "does not grow", "1-9999": "more than 1000",
	} {
		var got counts
		require.ErrorContains(t, got.Set(text), says, text)
	}
	list := counts{1, 2}
	require.Equal(t, "1,2", list.String())
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		says string
	}{
		{"all bad values at once", []string{"-batch", "0", "-output", "0", "-workload", "x"}, "--workload must be grid, nano, shared, warm or evicted, got \"x\"; --batch must be at least 1, got 0; --output must be at least 1"},
		{"too many requests", []string{"-requests", "257"}, "at most 256"},
		{"too long for the model", []string{"-depth", "5000"}, "do not fit the model's context of 4096"},
		{"argument", []string{"tiny"}, "unexpected argument"},
		{"bad list", []string{"-batch", "1-x"}, "no number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			exit, _, stderr := run(t.Context(), dir, c.args...)
			require.Equal(t, cli.Usage, exit)
			require.Contains(t, stderr, c.says)
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, entries)
		})
	}
}

func TestBenchmarkLines(t *testing.T) {
	exit, stdout, stderr := run(t.Context(), t.TempDir(), "-batch", "2", "-input", "8", "-output", "3", "-depth", "0", "-repeats", "2", "-benchfmt")
	require.Equal(t, cli.OK, exit, stderr)
	require.Contains(t, stdout, "Unit decode-tok/s better=higher\n")
	require.Equal(t, 2, strings.Count(stdout, "\nBenchmarkThroughput/workload=grid/batch=2/input=8/output=3/depth=0 1 "), "a line for each repeat")
	require.Regexp(t, `(?m)^BenchmarkThroughput\S+ 1 \d+ ns/op \d+\.\d\d tok/s \d+\.\d\d prefill-tok/s \d+\.\d\d decode-tok/s \d+\.\d\d roof-GB/s$`, stdout)
}

// TestPromptsAlone: answers of one token have no decode phase, and nothing is said of one.
func TestPromptsAlone(t *testing.T) {
	dir := t.TempDir()
	exit, stdout, stderr := run(t.Context(), dir, "-batch", "2", "-input", "40", "-output", "1", "-depth", "0", "-repeats", "2", "-benchfmt")
	require.Equal(t, cli.OK, exit, stderr)
	require.Regexp(t, `(?m)^BenchmarkThroughput\S+ 1 \d+ ns/op \d+\.\d\d tok/s \d+\.\d\d prefill-tok/s \d+\.\d\d roof-GB/s$`, stdout)
	rows := readRows(t, dir)
	require.Len(t, rows, 1)
	require.Equal(t, 80, rows[0].Prefill.Tokens)
	require.Positive(t, rows[0].PrefillTokensPerSec)
	require.Zero(t, rows[0].Decode)
	require.Zero(t, rows[0].DecodeTokensPerSec)
	require.True(t, rows[0].Settings.TouchCache)
}
