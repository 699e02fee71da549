package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
)

func execQuality(ctx context.Context, args ...string) (exit cli.Exit, stdout, stderr string) {
	var out, err bytes.Buffer
	exit = suite.ExecuteCommand(ctx, newCommand(), args, &out, &err)
	return exit, out.String(), err.String()
}

func readRows(t *testing.T, dir string) []row {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "results_quality.json"))
	require.NoError(t, err)
	var rows []row
	require.NoError(t, json.Unmarshal(data, &rows))
	return rows
}

// requireSVG fails unless the file is well-formed and shows both a line and text.
func requireSVG(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	seen := map[string]int{}
	for decoder := xml.NewDecoder(bytes.NewReader(data)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if start, ok := token.(xml.StartElement); ok {
			seen[start.Name.Local]++
		}
	}
	require.Greater(t, seen["path"], 10)
	require.Greater(t, seen["text"], 10)
}

// A few questions to both models: what must hold of any number of them.
func TestBothModels(t *testing.T) {
	dir := t.TempDir()
	exit, stdout, stderr := execQuality(t.Context(), "-questions", "3", "-chunks", "1", "-recompute", "0,4,64", "-timed", "1", "-out", dir)
	require.Equal(t, cli.OK, exit, stderr)
	require.Contains(t, stdout, "--- tiny-qwen3-plain, documents-32..48: chunks of 1 documents, 3 questions asked 2 times")
	rows := readRows(t, dir)
	require.Len(t, rows, 2*3*6)
	exactOf := map[string]row{}
	for _, r := range rows {
		at := r.Model + r.Set
		require.Equal(t, 3, r.Questions)
		require.Equal(t, 6, r.Requests)
		require.Equal(t, int64(r.OutputTokens-6), r.TokensComputed-r.PromptTokensComputed)
		require.Equal(t, "chunked-reuse", r.Strategy)
		require.Equal(t, 3, r.FirstRoundTTFT.Count+2*r.LaterTTFT.Count, "one question in each of two rounds")
		require.Equal(t, r.OutputTokens, r.KL.Count)
		require.NotContains(t, r.Model, "/", "the place on this machine")
		want := exactOf[at]
		switch {
		case r.Mode == exact:
			exactOf[at] = r
			require.True(t, r.Exact)
			require.Equal(t, int64(r.PromptTokens), r.PromptTokensComputed+r.TokensReused)
			require.Zero(t, r.KL.Max)
			require.Equal(t, 1.0, r.GreedyMatch)
		case r.RecomputeFirst == 64 && r.Set != "arithmetic-few-shot": // longer than any document
			require.True(t, r.Exact)
			require.Zero(t, r.KL.Max)
			require.Equal(t, 1.0, r.GreedyMatch)
			require.Equal(t, want.PromptTokensComputed, r.PromptTokensComputed)
		default:
			require.False(t, r.Exact)
			require.Positive(t, r.KL.Max)
			require.Less(t, r.PromptTokensComputed, want.PromptTokensComputed+int64(4*r.PromptTokens/10))
		}
		if r.RecomputeFirst == 0 && r.Mode != exact {
			require.Equal(t, int64(r.PromptTokens), r.PromptTokensComputed+r.TokensReused)
			require.Greater(t, r.TokensReused, want.TokensReused)
		}
		if r.Model == "tiny" && r.RecomputeFirst == 0 && (r.Mode != afterHead || r.HeadGap == farHead) {
			require.Equal(t, 1.0, r.Accuracy, "%s, %s", r.Set, r.Mode)
		}
	}
	for _, f := range figures {
		requireSVG(t, filepath.Join(dir, f.file))
	}

	again := t.TempDir()
	exit, _, stderr = execQuality(t.Context(), "-redraw", filepath.Join(dir, "results_quality.json"), "-out", again)
	require.Equal(t, cli.OK, exit, stderr)
	for _, f := range figures {
		drawn, err := os.ReadFile(filepath.Join(dir, f.file))
		require.NoError(t, err)
		redrawn, err := os.ReadFile(filepath.Join(again, f.file))
		require.NoError(t, err)
		require.Equal(t, string(drawn), string(redrawn), f.file)
	}
}

func TestPrinted(t *testing.T) {
	few := []string{"-m", "tiny", "-questions", "1", "-rounds", "1", "-chunks", "8", "-recompute", "0", "-timed", "1"}
	dir := t.TempDir()
	exit, stdout, stderr := execQuality(t.Context(), append(few, "-quiet", "-out", dir)...)
	require.Equal(t, cli.OK, exit, stderr)
	require.Equal(t, filepath.Join(dir, "results_quality.json")+"\n", stdout)
	exit, stdout, _ = execQuality(t.Context(), append(few, "-json", "-out", dir)...)
	require.Equal(t, cli.OK, exit)
	var rows []row
	require.NoError(t, json.Unmarshal([]byte(stdout), &rows))
	require.Len(t, rows, 12)
	exit, stdout, _ = execQuality(t.Context(), append(few, "-benchfmt", "-out", dir)...)
	require.Equal(t, cli.OK, exit)
	require.Equal(t, 12, strings.Count(stdout, "\nBenchmarkQuality/model=tiny/set="))
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		exit cli.Exit
		says string
	}{
		{"all bad values at once", []string{"-rounds", "0", "-chunks", "0", "-recompute", "-1", "-head-gaps", "-5", "-timed", "0"}, cli.Usage, "--rounds must be at least 1, got 0; --chunks must be at least 1, got 0; --recompute must be at least 0, got -1; --head-gaps must be at least 0, got -5; --timed"},
		{"no questions there", []string{"-data", "nowhere"}, cli.Failed, "nowhere"},
		{"misspelt model", []string{"-m", "tinny"}, cli.NotFound, "tinny"},
		{"model without words", []string{"-m", "../../model/testdata/goldens/qwen3-tied-gqa2"}, cli.Usage, "no tokenizer"},
		{"no such results", []string{"-redraw", "nothing.json"}, cli.Failed, "nothing.json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			exit, _, stderr := execQuality(t.Context(), append(c.args, "-out", dir)...)
			require.Equal(t, c.exit, exit, stderr)
			require.Contains(t, stderr, c.says)
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, entries, "something was written")
		})
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	exit, _, _ := execQuality(ctx, "-m", "tiny", "-questions", "1", "-out", t.TempDir())
	require.Equal(t, cli.Interrupted, exit)
}
