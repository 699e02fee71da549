package scripts

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
)

func TestStandardOnTiny(t *testing.T) {
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	exit := suite.Execute(t.Context(), Standard(), []string{
		"-model", "tiny", "-batch-sizes", "1,3", "-max-input", "20", "-max-output", "5", "-repeats", "2", "-warmup", "2", "-out", dir, "-one-process",
	}, &stdout, &stderr)
	require.Equal(t, cli.OK, exit, stderr.String())
	require.Contains(t, stdout.String(), "--- Testing batch size: 3 ---\n=== Standard KV Cache (No Sharing) ===\n\nMethod: Standard KV Cache\nTime: ")

	data, err := os.ReadFile(filepath.Join(dir, "results_standard.json"))
	require.NoError(t, err)
	requireKeys(t, data, standardKeys, ourKeys)

	var rows []standardRow
	require.NoError(t, json.Unmarshal(data, &rows))
	require.Len(t, rows, 2)
	for i, n := range []int{1, 3} {
		r := rows[i]
		require.Equal(t, standardMethod, r.Method)
		require.Equal(t, n, r.BatchSize)
		require.Equal(t, n, r.NumSequences)
		require.Equal(t, 20*n, r.TotalInputTokens)
		require.Equal(t, 5*n, r.TotalOutputTokens)
		require.Equal(t, 25*n, r.TotalTokens)
		require.Equal(t, int64(20*n+5*n-n), r.TokensComputed, "the last token of an answer is not computed on")
		require.Zero(t, r.TokensReused)
		require.Positive(t, r.TimeSeconds)
		require.InDelta(t, float64(25*n)/r.TimeSeconds, r.ThroughputTokensPerSec, 1e-6)
		// 24 tokens of a sequence in blocks of 16: the last token of the answer needs no place.
		require.Equal(t, 2*n, r.KVBlocksPeak)
		require.Equal(t, 4*2*2*128*2, r.KVBytesPerToken)
		require.Equal(t, int64(2*n*16*r.KVBytesPerToken), r.KVBytesPeak)
		require.Equal(t, r.KVBytesPeak, r.MemoryUsedBytes)
		require.Equal(t, suite.FormatSize(r.KVBytesPeak), r.MemoryUsedFormatted)
		require.Equal(t, 2039, r.TokenIDsModulo)
		require.True(t, r.Exact)
		require.False(t, r.Incomplete)
		require.Equal(t, n, r.TimeToFirstToken.Count)
		require.Equal(t, 4*n, r.InterTokenLatency.Count)
		require.Len(t, r.Samples, 2)
		require.Equal(t, r.Samples[r.MedianRepeat].TimeSeconds, r.TimeSeconds)
		require.Equal(t, r.Samples[0].OutputSHA256, r.Samples[1].OutputSHA256, "repeats gave different answers")
		require.Equal(t, "standard", r.Strategy)
		require.Equal(t, int64(42), r.Seed)
		require.NotEmpty(t, r.KernelSet)
	}
}

// The suite's settings, without running it: lengths as Python's stream draws them.
func TestPointsOfTheOriginalSettings(t *testing.T) {
	s := suite.DefaultSettings()
	require.Equal(t, []int{1, 2, 4}, s.BatchSizes)
	require.Equal(t, 0.6, s.Temperature)
	require.True(t, s.IgnoreEOS)
	var lengths [][]int
	seeds := map[uint64]bool{}
	for _, p := range standardPoints(s, suite.NewPrompts(s.Seed, 2039)) {
		require.Len(t, p.Batches, 1)
		var batch []int
		for _, r := range p.Batches[0] {
			batch = append(batch, len(r.Tokens))
			require.Equal(t, 128, r.MaxTokens)
			require.Equal(t, 0.6, r.Sampling.Temperature)
			require.True(t, r.IgnoreEOS)
			seeds[r.Sampling.Seed] = true
		}
		lengths = append(lengths, batch)
	}
	require.Equal(t, [][]int{{128}, {237, 141}, {216, 204, 113, 211}}, lengths)
	require.Len(t, seeds, 4, "requests of a batch share a seed")
}
