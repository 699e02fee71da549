package start

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/model"
)

// TestStart starts the program on two layers that it has written.
func TestStart(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "quire")
	built, err := exec.Command("go", "build", "-o", program, "github.com/quire-llm/quire/cmd/quire").CombinedOutput()
	require.NoError(t, err, string(built))
	var stdout, stderr bytes.Buffer
	exit := suite.ExecuteCommand(t.Context(), NewCommand(), []string{"-model", "tiny", "-device", "cpu", "-quire", program, "-repeats", "2", "-out", dir}, &stdout, &stderr)
	require.Equal(t, cli.OK, exit, stderr.String())
	require.Contains(t, stdout.String(), "2 starts")
	data, err := os.ReadFile(filepath.Join(dir, "results_start.json"))
	require.NoError(t, err)
	var rows []row
	require.NoError(t, json.Unmarshal(data, &rows))
	require.Len(t, rows, 1)
	require.Equal(t, 2, rows[0].FirstTokenSeconds.Count)
	require.Positive(t, rows[0].FirstTokenSeconds.Min)
	require.LessOrEqual(t, rows[0].FirstTokenSeconds.P50, rows[0].WallSeconds.P50)
}

// What was written is the model.
func TestWriteModel(t *testing.T) {
	checkpoint, err := (&cli.EngineFlags{Model: "tiny"}).OpenModel(func(string) {})
	require.NoError(t, err)
	defer checkpoint.Close()
	dir := t.TempDir()
	require.NoError(t, writeModel(dir, checkpoint))
	again, err := model.Open(dir, model.ResolveOptions{})
	require.NoError(t, err)
	defer again.Close()
	require.Equal(t, checkpoint.Config, again.Config)
	require.Equal(t, checkpoint.Names(), again.Names())
}
