package main

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

func TestSkippedWhereLlamaIsAbsent(t *testing.T) {
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	require.Equal(t, cli.OK, suite.ExecuteCommand(t.Context(), newCommand(), []string{"-llama", dir, "-out", dir}, &stdout, &stderr))
	require.Empty(t, stdout.String())
	require.Contains(t, stderr.String(), "skipped: ")
	require.Contains(t, stderr.String(), "npm install")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestRefused(t *testing.T) {
	for says, args := range map[string][]string{
		`no row "decode"`:               {"-rows", "decode"},
		`no kind of weights "q4"`:       {"-types", "q4"},
		"at least one repeat":           {"-repeats", "0"},
		`unexpected argument "anybody"`: {"anybody"},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, cli.Usage, suite.ExecuteCommand(t.Context(), newCommand(), args, &stdout, &stderr))
		require.Contains(t, stderr.String(), says)
	}
}

func TestTakingTurnsOnTiny(t *testing.T) {
	llama := os.Getenv("QUIRE_LLAMA")
	if llama == "" {
		t.Skip("set QUIRE_LLAMA to the folder with llama.cpp's node_modules; see README.md")
	}
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	exit := suite.ExecuteCommand(t.Context(), newCommand(), []string{
		"-model", "tiny", "-llama", llama, "-gguf", dir, "-out", dir, "-types", "f16", "-rows", "prefill-512,decode-8x128", "-repeats", "2",
	}, &stdout, &stderr)
	require.Equal(t, cli.OK, exit, stderr.String())
	data, err := os.ReadFile(filepath.Join(dir, "results_rivals.json"))
	require.NoError(t, err)
	var rows []row
	require.NoError(t, json.Unmarshal(data, &rows))
	require.Len(t, rows, 2)
	for i, r := range rows {
		require.Equal(t, []string{"prefill-512", "decode-8x128"}[i], r.Name)
		require.Len(t, r.Contestants, 3)
		for k, c := range r.Contestants {
			require.Equal(t, []string{"quire bf16", "llama.cpp f16", "llama.cpp f16 flash"}[k], c.Name)
			require.Len(t, c.Samples, 2)
			require.Positive(t, c.TokensPerSec)
		}
		require.Len(t, r.ReadBytesPerSec, 3, "before each round and after the last")
		require.Len(t, r.Samples, 2)
		require.Equal(t, int64(r.Sequences*(r.Prompt+r.Output-1)), r.TokensComputed)
		require.NotEmpty(t, r.LlamaSystem)
	}
}
