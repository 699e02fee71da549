package operations

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/kernels"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
)

func TestCrossover(t *testing.T) {
	dir := t.TempDir()
	var out, err bytes.Buffer
	args := []string{"-device", "cpu", "-shape", "tiny", "-prefixes", "64,200", "-groups", "2,5", "-own", "20", "-rows", "3", "-runs", "2", "-out", dir}
	exit := suite.ExecuteCommand(t.Context(), NewCrossoverCommand(), args, &out, &err)
	require.Equal(t, cli.OK, exit, err.String())
	data, failed := os.ReadFile(filepath.Join(dir, "results_cascade_table.json"))
	require.NoError(t, failed)
	var rows []crossRow
	require.NoError(t, json.Unmarshal(data, &rows))
	require.Len(t, rows, 4)
	for _, r := range rows {
		require.Positive(t, r.Ordinary)
		require.Positive(t, r.Shared)
		require.Equal(t, 2, r.SharedRuns.Count)
		require.InDelta(t, r.Ordinary/r.Shared, r.Speedup, 1e-9)
		require.Equal(t, 3, r.Settings.Rows)
	}
	table, failed := os.ReadFile(filepath.Join(dir, "cascade_table.md"))
	require.NoError(t, failed)
	require.Contains(t, out.String(), string(table))
	require.Equal(t, 5, strings.Count(string(table), " / "), "four points, and the heading")
}

// TestCrossoverTable: what is bold, and what the choices cost.
func TestCrossoverTable(t *testing.T) {
	s := crossing{Shape: "tiny", KV: "bf16", Groups: []int{2, 4}, Own: 9, Rows: 1, Runs: 5}
	table := crossTable([]crossRow{
		{Prefix: 64, Group: 2, Ordinary: 2, Shared: 3, Chosen: true, Settings: s, Layers: 7},
		{Prefix: 64, Group: 4, Ordinary: 3, Shared: 3, Settings: s},
	})
	require.Contains(t, table, "| 64 | **2.0 / 3.0** | 3.0 / 3.0 |\n")
	require.Contains(t, table, "takes 25.0 % more on average and 50 % at worst; sharing always, 25.0 %")
}

func TestCrossoverMistakes(t *testing.T) {
	for _, args := range [][]string{{"-rows", "9", "-own", "8"}, {"-groups", "0"}, {"-prefixes", ""}} {
		var out, err bytes.Buffer
		require.Equal(t, cli.Usage, suite.ExecuteCommand(t.Context(), NewCrossoverCommand(), args, &out, &err), err.String())
	}
}

// TestCostModelFitsTheTable: what was measured on a GPU says that the cost model chooses well.
func TestCostModelFitsTheTable(t *testing.T) {
	data, err := os.ReadFile("../../results/h200/crossover.json")
	require.NoError(t, err)
	var rows []crossRow
	require.NoError(t, json.Unmarshal(data, &rows))
	require.Len(t, rows, 72)
	config, err := configOf("qwen3-0.6b")
	require.NoError(t, err)
	sum := 0.0
	for i := range rows {
		r := &rows[i]
		plan, err := r.Settings.plan(r.Prefix, r.Group)
		require.NoError(t, err)
		plan.Share(attention.Auto, shapeOf(config, kernels.KVBF16, r.Device))
		took := r.Ordinary
		if r.Chosen = plan.Shares(); r.Chosen {
			took = r.Shared
		}
		loss := took/min(r.Ordinary, r.Shared) - 1
		require.Less(t, loss, 0.1, "%d sequences that share %d tokens", r.Group, r.Prefix)
		sum += loss
	}
	require.Less(t, sum/float64(len(rows)), 0.01)
}
