package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
)

// originalKeys are those of the script that this one follows, in its order. Tools read them by name and people by place.
var originalKeys = []string{
	"method", "num_sequences", "total_input_tokens", "total_output_tokens", "total_tokens", "time_seconds",
	"throughput_tokens_per_sec", "memory_used_bytes", "memory_used_formatted", "batch_size",
}

var ourKeys = []string{
	"schema_version", "model", "synthetic", "strategy", "exact", "device", "kernel_set", "products", "threads", "environment", "settings",
	"seed", "token_ids_modulo", "median_repeat", "repeats", "samples", "tokens_computed", "tokens_reused",
	"time_to_first_token", "inter_token_latency", "time_seconds_repeats", "prefill_tokens_per_sec", "decode_tokens_per_sec",
	"kv_blocks_peak", "kv_block_tokens", "kv_bytes_per_token", "kv_bytes_peak", "rss_bytes", "peak_rss_bytes", "output_sha256",
}

// keys lists the keys of the objects in an array, in order.
func keys(t *testing.T, data []byte) [][]string {
	t.Helper()
	var objects []json.RawMessage
	require.NoError(t, json.Unmarshal(data, &objects))
	var all [][]string
	for _, object := range objects {
		var names []string
		decoder := json.NewDecoder(bytes.NewReader(object))
		_, err := decoder.Token()
		require.NoError(t, err)
		for decoder.More() {
			name, err := decoder.Token()
			require.NoError(t, err)
			names = append(names, name.(string))
			var value json.RawMessage
			require.NoError(t, decoder.Decode(&value))
		}
		all = append(all, names)
	}
	return all
}

func TestStandardOnTiny(t *testing.T) {
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	exit := suite.Execute(t.Context(), benchmark(), []string{
		"-model", "tiny", "-batch-sizes", "1,3", "-max-input", "20", "-max-output", "5", "-repeats", "2", "-warmup", "2", "-out", dir,
	}, &stdout, &stderr)
	require.Equal(t, cli.OK, exit, stderr.String())
	require.Contains(t, stdout.String(), "--- Testing batch size: 3 ---\n=== Standard KV Cache (No Sharing) ===\n\nMethod: Standard KV Cache\nTime: ")

	data, err := os.ReadFile(filepath.Join(dir, "results_standard.json"))
	require.NoError(t, err)
	for _, names := range keys(t, data) {
		require.Equal(t, originalKeys, names[:len(originalKeys)])
		ours := names[len(originalKeys):]
		ours = slices.DeleteFunc(ours, func(name string) bool { return name == "kernel_set_reason" }) // only without compiled kernels
		require.Equal(t, ourKeys, ours)
	}

	var rows []row
	require.NoError(t, json.Unmarshal(data, &rows))
	require.Len(t, rows, 2)
	for i, n := range []int{1, 3} {
		r := rows[i]
		require.Equal(t, method, r.Method)
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
	for _, p := range points(s, suite.NewPrompts(s.Seed, 2039)) {
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

func TestHelpNamesEveryFlag(t *testing.T) {
	var stdout bytes.Buffer
	require.Equal(t, cli.OK, suite.Execute(t.Context(), benchmark(), []string{"-help"}, &stdout, io.Discard))
	for _, flag := range []string{"model", "batch-sizes", "max-input", "max-output", "temperature", "seed", "repeats", "warmup", "out", "threads", "kernel-set", "kv", "block-tokens", "cache-tokens", "device", "quiet", "json", "benchfmt"} {
		require.Contains(t, stdout.String(), "--"+flag+" ")
	}
}
