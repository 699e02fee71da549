package throughput

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
)

// Strategies take turns on requests that share a prefix: cascade computes it once, and all give the same answers.
func TestSharedOnTiny(t *testing.T) {
	dir := t.TempDir()
	exit, stdout, stderr := run(t.Context(), dir, "-workload", "shared", "-batch", "3", "-prefix", "64", "-input", "10", "-output", "4", "-repeats", "2",
		"-variants", "standard,cascade,cascade:ordinary", "-temperature", "0")
	require.Equal(t, cli.OK, exit, stderr)
	require.Contains(t, stdout, "cascade, prefix 64, ")
	rows := readRows(t, dir)
	require.Len(t, rows, 3)
	for i, want := range []struct {
		variant, strategy, attention string
		computed                     int64
	}{
		{"standard", "standard", "auto", 3 * (64 + 10 + 3)},
		{"cascade", "cascade", "auto", 64 + 3*(10+3)},
		{"cascade:ordinary", "cascade", "ordinary", 64 + 3*(10+3)},
	} {
		r := rows[i]
		require.Equal(t, want.variant, r.Variant)
		require.Equal(t, want.strategy, r.Strategy)
		require.Equal(t, want.attention, r.Attention)
		require.Equal(t, want.computed, r.TokensComputed)
		require.Equal(t, rows[0].OutputSHA256, r.OutputSHA256)
		require.Equal(t, 64, r.Prefix)
		require.Equal(t, 3*74, r.TotalInputTokens)
		require.Positive(t, r.Host.StepMicros.P50)
		require.Positive(t, r.Host.GapMicros.Count)
		require.Equal(t, i > 0, r.Versus != nil)
		if i > 0 {
			require.Equal(t, 2, r.Versus.Speedup.Count)
			require.Equal(t, "standard", r.Versus.Variant)
		}
	}
}

func TestWarmOnTiny(t *testing.T) {
	dir := t.TempDir()
	exit, stdout, stderr := run(t.Context(), dir, "-workload", "warm", "-prefix", "32,64", "-input", "8", "-output", "2", "-repeats", "1")
	require.Equal(t, cli.OK, exit, stderr)
	require.Contains(t, stdout, "ms warm (")
	rows := readRows(t, dir)
	require.Len(t, rows, 2)
	for i, prefix := range []int{32, 64} {
		require.Equal(t, "reuse", rows[i].Strategy)
		require.Equal(t, 1, rows[i].Warm.ColdSeconds.Count)
		require.Equal(t, warmCalls, rows[i].Warm.WarmSeconds.Count)
		require.Equal(t, int64(prefix*warmCalls), rows[i].TokensReused)
	}
}

// TestEvictedOnTiny: each of two prefixes drives the other out of the cache. One variant computes them again, the other brings them
// back, all but at most two blocks of them.
func TestEvictedOnTiny(t *testing.T) {
	dir := t.TempDir()
	exit, stdout, stderr := run(t.Context(), dir, "-workload", "evicted", "-prefix", "64,160", "-input", "8", "-output", "2", "-repeats", "1")
	require.Equal(t, cli.OK, exit, stderr)
	require.Contains(t, stdout, "ms evicted (")
	rows := readRows(t, dir)
	require.Len(t, rows, 4)
	for i, r := range rows {
		require.Equal(t, []string{recomputed, fromHost}[i%2], r.Variant)
		require.Equal(t, 2, r.Warm.ColdSeconds.Count)
		require.Equal(t, 2*warmCalls, r.Warm.WarmSeconds.Count)
		require.Equal(t, rows[i-i%2].OutputSHA256, r.OutputSHA256)
		if r.Variant == fromHost {
			require.Equal(t, int64(2*warmCalls*r.Prefix), r.TokensReused)
		} else {
			require.LessOrEqual(t, r.TokensReused, int64(2*warmCalls*2*16), "what was left in the cache")
		}
	}
	exit, _, stderr = run(t.Context(), dir, "-workload", "evicted", "-variants", "reuse")
	require.Equal(t, cli.Usage, exit)
	require.Contains(t, stderr, "--variants means nothing to --workload evicted")
}

func TestSeveralModels(t *testing.T) {
	dir := t.TempDir()
	exit, _, stderr := run(t.Context(), dir, "-model", "tiny,tiny", "-batch", "1", "-input", "8", "-output", "2", "-depth", "0", "-repeats", "1")
	require.Equal(t, cli.OK, exit, stderr)
	require.Len(t, readRows(t, dir), 2)
}

func TestHostOf(t *testing.T) {
	start := time.Unix(1000, 0)
	step := func(at, took, prompts int) engine.StepInfo {
		return engine.StepInfo{Start: start.Add(time.Duration(at) * time.Microsecond), Duration: time.Duration(took) * time.Microsecond, PrefillTokens: prompts}
	}
	h := hostOf([]engine.StepInfo{step(0, 100, 5), step(150, 40, 0), step(200, 60, 0), step(250, 50, 0)}, &suite.Sample{Steps: 4, TimeSeconds: 0.01, WaitSeconds: 0.008})
	require.Equal(t, 3, h.StepMicros.Count)
	require.InDelta(t, 50, h.StepMicros.P50, 1e-9)
	require.Equal(t, 2, h.GapMicros.Count, "after a step that decodes")
	require.InDelta(t, 10, h.GapMicros.Max, 1e-9)
	require.Zero(t, h.GapMicros.Min, "steps overlap")
	require.InDelta(t, 500, h.HostMicros, 1e-9)
	require.InDelta(t, 2000, h.WaitMicros, 1e-9)
}
