package scripts

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
)

// The original settings draw the questions and contexts that Python's stream draws, and the registry's counts follow.
func TestChunkedOfTheOriginalSettings(t *testing.T) {
	s := suite.DefaultSettings()
	points := chunkedPoints(chunkedMethod, "exact", s, suite.NewPrompts(s.Seed, 2039))
	require.Len(t, points, 3)
	for i, c := range []struct {
		contexts     []int // of each question
		hits, misses int
	}{{[]int{2}, 7, 6}, {[]int{2, 1}, 10, 7}, {[]int{2, 2, 1, 0}, 16, 9}} {
		var contexts []int
		for _, r := range points[i].Batches[0] {
			contexts = append(contexts, len(r.Chunks)-2)
		}
		require.Equal(t, c.contexts, contexts)
		row := points[i].Row(suite.Measured{}).(chunkedRow)
		require.Equal(t, []int{c.hits, c.misses, c.misses}, []int{row.CacheHits, row.CacheMisses, row.NumUniqueChunks})
	}
}

func TestReuseOfTheOriginalSettings(t *testing.T) {
	s := suite.DefaultSettings()
	s.Batches = 5
	points := reusePoints(reuseMethod, "exact", s, suite.NewPrompts(s.Seed, 2039))
	require.Len(t, points, 3)
	for i, c := range []struct {
		hits   []int // after each batch
		misses int
		rate   float64
	}{
		{[]int{2, 4, 6, 8, 13}, 13, .500}, {[]int{6, 14, 21, 27, 37}, 18, .673}, {[]int{11, 24, 38, 53, 67}, 28, .705},
	} {
		require.Len(t, points[i].Batches, 5)
		row := points[i].Row(suite.Measured{}).(reuseRow)
		var hits []int
		for _, b := range row.BatchStats {
			hits = append(hits, b.CacheHits)
		}
		require.Equal(t, c.hits, hits)
		last := row.BatchStats[4]
		require.Equal(t, []int{c.misses, c.misses, c.hits[4]}, []int{last.CacheMisses, row.NumUniqueChunks, row.TotalCacheHits})
		require.InDelta(t, c.rate, last.HitRate, 5e-4)
	}
}

// Chunks are cut from the chat that the model's template makes, and say nothing of their own beside it.
func TestChunkedOnTiny(t *testing.T) {
	for _, c := range []struct {
		name, file, mode string
		benchmark        suite.Benchmark
		args             []string
	}{
		{"exact", "results_chunked.json", "exact", Chunked(), nil},
		{"independent", "results_chunked_independent.json", "independent", Chunked(), []string{"-mode", "independent"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			var stdout, stderr bytes.Buffer
			require.Equal(t, cli.OK, suite.Execute(t.Context(), c.benchmark, small(dir, "1,3", append(c.args, "-one-process")...), &stdout, &stderr), stderr.String())
			require.Contains(t, stdout.String(), "\nCache hits: 7\nUnique chunks: 6\n")
			own := append([]string{"cache_misses", "total_input_tokens"}, chunkedOwnKeys...)
			if c.mode == "independent" {
				own = append(own, "deviation")
			}
			rows := readRows[chunkedRow](t, dir, c.file, chunkedKeys, own, ourKeys)
			require.Len(t, rows, 2)
			for i, n := range []int{1, 3} {
				r := rows[i]
				require.Equal(t, []int{n, n, 5 * n}, []int{r.BatchSize, r.NumSequences, r.TotalOutputTokens})
				require.Equal(t, []string{c.mode, "chat"}, []string{r.Mode, r.PromptForm})
				require.Equal(t, int64(r.TotalInputTokens+4*n), r.Standard.TokensComputed)
				require.Equal(t, r.Standard.TokensComputed-r.TokensReused, r.TokensComputed)
				require.Equal(t, n > 1, r.TokensReused > 0)
				require.InDelta(t, 1-float64(r.KVBytesPeak)/float64(r.Standard.KVBytesPeak), r.MemorySavingsRatio, 1e-9)
				require.Equal(t, c.mode == "exact", r.Exact)
				if r.Exact {
					require.True(t, r.Standard.SameOutput)
					require.Nil(t, r.Deviation)
				} else {
					require.Equal(t, 5*n, r.Deviation.Tokens)
					require.Positive(t, r.Deviation.MeanLogprob, "independent chunks are not exact")
					require.Less(t, r.Deviation.MeanLogprob, 1.0)
				}
			}
		})
	}
}

func TestReuseOnTiny(t *testing.T) {
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	args := small(dir, "4", "-batches", "3", "-one-process")
	require.Equal(t, cli.OK, suite.Execute(t.Context(), ChunkedReuse(), args, &stdout, &stderr), stderr.String())
	require.Regexp(t, `\n  Batch 1: \d+\.\d\ds, Cache hits: \d+\n    \d+ tokens computed, \d+ reused\n  Batch 2: `, stdout.String())
	own := []string{"cache_misses", "total_input_tokens", "kv_blocks_kept", "kv_bytes_kept", "batches"}
	rows := readRows[reuseRow](t, dir, "results_chunked_reuse.json", reuseKeys, own, chunkedOwnKeys, ourKeys)
	require.Len(t, rows, 1)
	r := rows[0]
	require.Equal(t, []int{3, 12, 60}, []int{r.NumBatches, r.TotalSequences, r.TotalOutputTokens})
	require.True(t, r.Standard.SameOutput)
	require.Zero(t, r.Settings.WarmupTokens)
	require.Positive(t, r.KVBlocksKept)
	require.Equal(t, int64(r.KVBlocksKept*16*r.KVBytesPerToken), r.KVBytesKept)
	require.Len(t, r.Batches, 3)
	var seconds float64
	var computed, reused int64
	for _, b := range r.Batches {
		seconds, computed, reused = seconds+b.TimeSeconds, computed+b.TokensComputed, reused+b.TokensReused
	}
	require.InDelta(t, r.TimeSeconds, seconds, 1e-9)
	require.Equal(t, []int64{r.TokensComputed, r.TokensReused}, []int64{computed, reused})
	require.Greater(t, r.Batches[2].TokensReused, int64(0), "nothing was kept from one batch to the next")

	data, err := os.ReadFile(filepath.Join(dir, "results_chunked_reuse.json"))
	require.NoError(t, err)
	var raw []struct {
		Stats json.RawMessage `json:"batch_stats"`
	}
	require.NoError(t, json.Unmarshal(data, &raw))
	for _, names := range keys(t, raw[0].Stats) {
		require.Equal(t, statsKeys, names)
	}
}

func TestModesRefused(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, cli.Usage, suite.Execute(t.Context(), Chunked(), small(t.TempDir(), "1", "-mode", "fast"), &stdout, &stderr))
	require.True(t, strings.HasPrefix(stderr.String(), `error: no mode "fast"`), stderr.String())
}

func TestLedger(t *testing.T) {
	l := newLedger()
	require.Zero(t, l.snapshot().HitRate)
	l.register("a", 3)
	l.register("b", 4)
	l.register("a", 3)
	l.get(2)
	require.Equal(t, ledgerStats{
		TotalChunks: 2, MaxChunks: 1000, CacheHits: 3, CacheMisses: 2, HitRate: 0.6, TotalRegistered: 2, TotalTokens: 7,
		MemoryUsedMB: 7,
	}, l.snapshot().of(1<<20))
}
