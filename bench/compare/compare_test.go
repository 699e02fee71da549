package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
)

// compare runs the program.
func compare(t *testing.T, args ...string) (exit cli.Exit, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	exit = suite.ExecuteCommand(t.Context(), newCommand(), args, &out, &errs)
	return exit, out.String(), errs.String()
}

func TestCompare(t *testing.T) {
	exit, stdout, stderr := compare(t, "testdata/a.json", "testdata/b.json")
	require.Equal(t, cli.OK, exit, stderr)
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(stdout), "\n") {
		lines = append(lines, regexp.MustCompile(` {2,}`).ReplaceAllString(line, " | "))
	}
	require.Equal(t, []string{
		"B over A | time | spread | repeats | TTFT p50 | ITL p50 | computed | KV peak | answers",
		"chat: standard | 0.500 | 0.250 to 0.750 | 3, 3 | faster | 0.500 | 2.000 | 0.500 | 1.000 | same",
		"chat: reuse | 2.250 | 1.500 to 3.000 | 1, 2 | slower | - | - | 1.000 | 1.000 | other",
	}, lines)
	require.Equal(t, "note: only in testdata/a.json: rag: reuse\nnote: only in testdata/b.json: agents: reuse\n", stderr)
}

func TestAFileWithItself(t *testing.T) {
	exit, stdout, stderr := compare(t, "testdata/a.json", "testdata/a.json")
	require.Equal(t, cli.OK, exit, stderr)
	require.Empty(t, stderr)
	require.Equal(t, 3, strings.Count(stdout, "~"))
}

func TestFilesThatDoNotMatch(t *testing.T) {
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		return string(data)
	}
	b := read("b.json")
	for _, c := range []struct{ name, text, says string }{
		{"another model", strings.ReplaceAll(b, `"tiny"`, `"other"`), `models "tiny" and "other"`},
		{"another seed", strings.ReplaceAll(b, `"seed": 42`, `"seed": 1`), "seeds 42 and 1"},
		{"other prompts", strings.ReplaceAll(b, `"total_input_tokens": 100`, `"total_input_tokens": 99`), "100 and 99 tokens in"},
		{"other answers' length", strings.ReplaceAll(b, `"total_output_tokens": 10`, `"total_output_tokens": 9`), "10 and 9 tokens out"},
		{"other rows", strings.ReplaceAll(b, `"chat"`, `"talk"`), "no row in common"},
		{"no rows", "[]", "no row in common"},
		{"the same row twice", strings.ReplaceAll(b, `"agents"`, `"chat"`), "is twice in"},
		{"no repeats", `[{"method": "reuse"}]`, "no repeat that is complete"},
		{"something else", `[{}]`, "has no method"},
		{"no array", `{}`, "holds no results"},
		{"no JSON", `x`, "holds no results"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "other.json")
			require.NoError(t, os.WriteFile(path, []byte(c.text), 0o644))
			exit, stdout, stderr := compare(t, "testdata/a.json", path)
			require.Equal(t, cli.Usage, exit)
			require.Contains(t, stderr, c.says)
			require.Empty(t, stdout)
		})
	}
	for name, args := range map[string][]string{
		"no file": {"testdata/a.json", "testdata/none.json"}, "one file": {"testdata/a.json"}, "none": nil,
	} {
		t.Run(name, func(t *testing.T) {
			exit, _, _ := compare(t, args...)
			require.Equal(t, cli.Usage, exit)
		})
	}
}
