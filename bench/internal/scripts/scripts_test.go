package scripts

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

// TestMain lets this test program be the processes that run_all starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "measure-point" {
		os.Exit(suite.MainAll(All(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// The keys of the scripts that these follow, in their order. Tools read them by name and people by place.
var (
	standardKeys = []string{
		"method", "num_sequences", "total_input_tokens", "total_output_tokens", "total_tokens", "time_seconds",
		"throughput_tokens_per_sec", "memory_used_bytes", "memory_used_formatted", "batch_size",
	}
	cascadeKeys = []string{
		"method", "shared_prefix_len", "num_sequences", "total_input_tokens", "unique_input_tokens", "memory_savings_ratio",
		"total_output_tokens", "total_tokens", "time_seconds", "throughput_tokens_per_sec", "memory_used_bytes",
		"memory_used_formatted", "batch_size",
	}
	chunkedKeys = []string{
		"method", "num_sequences", "num_unique_chunks", "cache_hits", "total_output_tokens", "time_seconds",
		"throughput_tokens_per_sec", "memory_used_bytes", "memory_used_formatted", "chunk_memory_mb", "batch_size",
	}
	reuseKeys = []string{
		"method", "num_batches", "batch_size", "total_sequences", "num_unique_chunks", "total_cache_hits", "total_output_tokens",
		"time_seconds", "throughput_tokens_per_sec", "memory_used_bytes", "memory_used_formatted", "chunk_memory_mb", "batch_stats",
	}
	statsKeys = []string{
		"total_chunks", "max_chunks", "cache_hits", "cache_misses", "hit_rate", "evictions", "total_registered",
		"memory_used_mb", "total_tokens",
	}
	chunkedOwnKeys = []string{"mode", "prompt_form", "memory_savings_ratio", "standard"}
)

var ourKeys = []string{
	"schema_version", "model", "synthetic", "strategy", "exact", "device", "device_name", "kernel_set", "products", "threads", "environment", "settings",
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

// requireKeys compares the keys of all objects in an array with the original's and then ours.
func requireKeys(t *testing.T, data []byte, original []string, ours ...[]string) {
	t.Helper()
	want := slices.Concat(original, slices.Concat(ours...))
	for _, names := range keys(t, data) {
		names = slices.DeleteFunc(names, func(name string) bool { return name == "kernel_set_reason" }) // only without compiled kernels
		require.Equal(t, want, names)
	}
}

// small are settings of a second or so.
func small(dir, batchSizes string, more ...string) []string {
	return append([]string{
		"-model", "tiny", "-batch-sizes", batchSizes, "-max-input", "60", "-max-output", "5", "-repeats", "1", "-warmup", "2", "-out", dir,
	}, more...)
}

// readRows reads a results file, checks its keys and gives its rows.
func readRows[R any](t *testing.T, dir, file string, original []string, ours ...[]string) []R {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, file))
	require.NoError(t, err)
	requireKeys(t, data, original, ours...)
	var rows []R
	require.NoError(t, json.Unmarshal(data, &rows))
	return rows
}

// run_all writes every file and one of all rows, in the original's order.
func TestRunAll(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(t.TempDir())
	var stdout, stderr bytes.Buffer
	args := small(dir, "1,2,4", "-prefixes", "16,20,40", "-batches", "2")
	require.Equal(t, cli.OK, suite.ExecuteAll(t.Context(), All(), args, &stdout, &stderr), stderr.String())
	require.Contains(t, stdout.String(), "\nCompleted 4/4 benchmarks successfully.\n")
	data, err := os.ReadFile(filepath.Join(dir, "benchmark_summary.json"))
	require.NoError(t, err)
	var rows []map[string]any
	require.NoError(t, json.Unmarshal(data, &rows))
	var got []any
	for _, r := range rows {
		got = append(got, r["method"], r["batch_size"])
		if standard, sharing := r["standard"]; sharing {
			require.Equal(t, true, standard.(map[string]any)["same_output"], "%v", r["method"])
		}
	}
	var want []any
	add := func(method string, batches ...float64) {
		for _, n := range batches {
			want = append(want, method, n)
		}
	}
	add(standardMethod, 1, 2, 4)
	add(cascadeMethod, 1, 1, 1, 2, 2, 2, 4, 4, 4)
	add(chunkedMethod, 1, 2, 4)
	add(reuseMethod, 1, 2, 4)
	require.Equal(t, want, got)
	require.Equal(t, 18, len(rows))
	for file, rows := range map[string]int{"standard": 3, "cascade": 9, "chunked": 3, "chunked_reuse": 3} {
		data, err := os.ReadFile(filepath.Join(dir, "results_"+file+".json"))
		require.NoError(t, err)
		require.Len(t, keys(t, data), rows, file)
	}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	require.Empty(t, entries, "something was left where the program was started")
}

func TestHelpNamesEveryFlag(t *testing.T) {
	var stdout bytes.Buffer
	require.Equal(t, cli.OK, suite.Execute(t.Context(), ChunkedReuse(), []string{"-help"}, &stdout, io.Discard))
	for _, flag := range []string{"model", "batch-sizes", "max-input", "max-output", "temperature", "seed", "repeats", "warmup", "out", "threads", "kernel-set", "kv", "block-tokens", "cache-tokens", "device", "quiet", "json", "benchfmt", "pause", "pause-full", "mode", "batches", "one-process"} {
		require.Contains(t, stdout.String(), "--"+flag+" ")
	}
}
