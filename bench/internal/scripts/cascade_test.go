package scripts

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
)

// The prompts of the original settings have the lengths that Python's stream draws, and begin alike.
func TestCascadeOfTheOriginalSettings(t *testing.T) {
	want := []struct {
		n, prefix, input, unique int
		savings                  float64
	}{
		{1, 50, 0, 0, 0}, {1, 100, 0, 0, 0}, {1, 200, 0, 0, 0},
		{2, 50, 398, 348, .1256}, {2, 100, 482, 382, .2075}, {2, 200, 505, 305, .3960},
		{4, 50, 645, 495, .2326}, {4, 100, 929, 629, .3229}, {4, 200, 1013, 413, .5923},
	}
	s := suite.DefaultSettings()
	s.Prefixes = []int{50, 100, 200}
	points := cascadePoints(s, suite.NewPrompts(s.Seed, 2039))
	require.Len(t, points, len(want))
	for i, w := range want {
		requests := points[i].Batches[0]
		require.Len(t, requests, w.n)
		input := 0
		for _, r := range requests {
			require.Equal(t, requests[0].Tokens[:w.prefix], r.Tokens[:w.prefix])
			input += len(r.Tokens)
		}
		row := points[i].Row(suite.Measured{Sample: suite.Sample{InputTokens: input}}).(cascadeRow)
		require.InDelta(t, w.savings, row.OriginalSavingsRatio, 5e-5, "%s", points[i].Label)
		if w.n > 1 {
			require.Equal(t, w.input, row.TotalInputTokens)
			require.Equal(t, w.unique, row.UniqueInputTokens)
		}
	}
}

// What is reported as saved is what the pool and the forward pass had to do with and without sharing.
func TestCascadeOnTiny(t *testing.T) {
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	require.Equal(t, cli.OK, suite.Execute(t.Context(), Cascade(), small(dir, "1,3", "-prefixes", "16,40", "-one-process"), &stdout, &stderr), stderr.String())
	require.Contains(t, stdout.String(), "--- Testing batch size: 3, prefix length: 40 ---\n=== Cascade Attention (Prefix Sharing) ===\n")
	rows := readRows[cascadeRow](t, dir, "results_cascade.json", cascadeKeys, []string{"memory_savings_ratio_original", "standard"}, ourKeys)
	require.Len(t, rows, 4)
	for i, c := range []struct{ n, prefix, blocks, standardBlocks int }{
		// A prompt of 60 and four of the answer's five tokens are four blocks of 16, of which 1 or 2 lie in the prefix.
		{1, 16, 4, 4}, {1, 40, 4, 4}, {3, 16, 10, 12}, {3, 40, 8, 12},
	} {
		r, shared := rows[i], c.prefix/16*16*(c.n-1)
		require.Equal(t, cascadeMethod, r.Method)
		require.Equal(t, []int{c.n, c.prefix}, []int{r.BatchSize, r.SharedPrefixLen})
		require.Equal(t, int64(64*c.n), r.Standard.TokensComputed)
		require.Equal(t, int64(64*c.n-shared), r.TokensComputed)
		require.Equal(t, int64(shared), r.TokensReused)
		require.Equal(t, c.blocks, r.KVBlocksPeak)
		require.Equal(t, c.standardBlocks, r.Standard.KVBlocksPeak)
		require.InDelta(t, 1-float64(c.blocks)/float64(c.standardBlocks), r.MemorySavingsRatio, 1e-9)
		require.True(t, r.Standard.SameOutput)
		require.True(t, r.Exact)
	}
}

func TestPrefixesRefused(t *testing.T) {
	for _, prefixes := range []string{"60", "0"} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, cli.Usage, suite.Execute(t.Context(), Cascade(), small(t.TempDir(), "1", "-prefixes", prefixes), &stdout, &stderr))
		require.Contains(t, stderr.String(), "--prefixes must be ")
	}
}
