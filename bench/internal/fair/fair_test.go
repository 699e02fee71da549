package fair

import (
	"bytes"
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

// runFair runs the suite on the tiny model and returns what it wrote to stdout.
func runFair(t *testing.T, dir string, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	args = append([]string{"-suite", "fair", "-model", "tiny", "-repeats", "1", "-warmup", "2", "-max-output", "3", "-out", dir}, args...)
	require.Equal(t, cli.OK, suite.ExecuteCommand(t.Context(), Command(), args, &stdout, &stderr), stderr.String())
	return stdout.String()
}

// readRows reads results_fair.json.
func readRows(t *testing.T, dir string) []row {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "results_fair.json"))
	require.NoError(t, err)
	var rows []row
	require.NoError(t, json.Unmarshal(data, &rows))
	return rows
}

// requireWellFormed reads a page as XML and looks for what would come from elsewhere.
func requireWellFormed(t *testing.T, page []byte) (elements map[string]int) {
	t.Helper()
	elements = map[string]int{}
	decoder := xml.NewDecoder(bytes.NewReader(page))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return elements
		}
		require.NoError(t, err)
		start, is := token.(xml.StartElement)
		if !is {
			continue
		}
		elements[start.Name.Local]++
		for _, a := range start.Attr {
			require.NotContains(t, []string{"src", "href"}, a.Name.Local, "the page asks for %q", a.Value)
		}
	}
}

func TestSmallestScale(t *testing.T) {
	dir := t.TempDir()
	stdout := runFair(t, dir, "-prefixes", "40", "-sequences", "3", "-max-tokens", "400", "-workloads", "40 x,nothing,chat")
	rows := readRows(t, dir)
	var got []string
	for _, r := range rows {
		got = append(got, r.Workload+": "+r.Method)
		require.True(t, r.SameOutput, r.Method)
		require.True(t, r.ExpectationHolds, r.Method)
		require.Equal(t, r.TokensExpected, r.TokensComputed, r.Method)
		require.Equal(t, r.TokensExpected, r.Samples[0].TokensComputed, r.Method)
	}
	require.Equal(t, []string{
		"prefix 40 x 3: standard", "prefix 40 x 3: cascade", "prefix 40 x 3: shared blocks, ordinary attention",
		"prefix 40 x 3: reuse", "prefix 40 x 3: chunked exact, reuse",
		"nothing shared x 1: standard", "nothing shared x 1: cascade", "nothing shared x 1: shared blocks, ordinary attention", "nothing shared x 1: reuse",
	}, got)
	// Three prompts of 104 tokens and two more rows each; 32 of the 40 that they share are full blocks, chunks share all 40.
	require.EqualValues(t, 3*(104+2), rows[0].TokensComputed)
	require.EqualValues(t, 3*(104+2)-2*32, rows[1].TokensComputed)
	require.EqualValues(t, 3*(104+2)-2*40, rows[4].TokensComputed)
	require.Less(t, rows[1].KVRatio, 1.0)
	require.Equal(t, rows[0].PoolBytes, rows[4].PoolBytes)

	require.Contains(t, stdout, "computed = expected")
	require.Contains(t, stdout, "chat is left out: ")
	require.NotContains(t, stdout, "rag")
	markdown, err := os.ReadFile(filepath.Join(dir, "results_fair.md"))
	require.NoError(t, err)
	require.Equal(t, len(rows), strings.Count(string(markdown), "| computed = expected |"))
	page, err := os.ReadFile(filepath.Join(dir, "results_fair.html"))
	require.NoError(t, err)
	elements := requireWellFormed(t, page)
	require.Equal(t, 5, elements["svg"])
	require.Equal(t, 2, elements["table"])
	require.Equal(t, len(rows)*len(columns), elements["td"])
	require.Zero(t, elements["script"])
	require.Zero(t, elements["link"])
}

// Workloads of several batches: reuse finds answers, too, and what cascade shares ends with its batch.
func TestSeveralBatches(t *testing.T) {
	if testing.Short() {
		t.Skip("three thousand tokens a strategy: leave -short out")
	}
	dir := t.TempDir()
	runFair(t, dir, "-prefixes", "40", "-sequences", "1", "-max-tokens", "8000", "-block-tokens", "32")
	computed := map[string]int64{}
	for _, r := range readRows(t, dir) {
		require.True(t, r.SameOutput, "%s, %s", r.Workload, r.Method)
		require.Equal(t, r.TokensExpected, r.TokensComputed, "%s, %s", r.Workload, r.Method)
		if r.Workload == "warm prefix 40" { // 40 + 16 tokens and two more rows; 40 are a block of 32, or a chunk
			require.EqualValues(t, 8*(40+16+2)-7*map[string]int64{"reuse": 32, "chunked exact, reuse": 40}[r.Method], r.TokensComputed, r.Method)
		}
		if r.Workload == "chat" {
			computed[r.Method] = r.TokensComputed
		}
	}
	require.Less(t, computed["cascade"], computed["standard"])
	require.Less(t, computed["reuse"], computed["cascade"])
}

// A pool that is too small for the workload still gives the standard's answers; counts are not held to the prompts then.
func TestSmallPool(t *testing.T) {
	dir := t.TempDir()
	stdout := runFair(t, dir, "-prefixes", "40", "-sequences", "4", "-max-tokens", "450", "-cache-tokens", "352")
	for _, r := range readRows(t, dir) {
		require.True(t, r.SameOutput, "%s, %s", r.Workload, r.Method)
		require.Equal(t, 352, r.PoolTokens)
		require.Equal(t, strings.HasPrefix(r.Workload, "nothing"), r.ExpectationHolds, r.Workload)
	}
	require.Contains(t, stdout, "not checked: small pool")
}

func TestVerdict(t *testing.T) {
	good := row{Workload: "w", Method: "good", SameOutput: true, ExpectationHolds: true, AsExpected: true}
	for _, c := range []struct {
		name  string
		spoil func(*row)
		wrong bool
	}{
		{"as it should be", func(*row) {}, false},
		{"other answers", func(r *row) { r.SameOutput = false }, true},
		{"other counts", func(r *row) { r.AsExpected = false }, true},
		{"other counts in a small pool", func(r *row) { r.AsExpected, r.ExpectationHolds = false, false }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := good
			c.spoil(&r)
			report := report{rows: []row{good, r}}
			require.Equal(t, c.wrong, report.verdict() != nil)
			page, err := report.html()
			require.NoError(t, err)
			requireWellFormed(t, page)
			require.Equal(t, c.wrong, bytes.Contains(page, []byte(`class="wrong"`)))
		})
	}
}

func TestBadSettings(t *testing.T) {
	for _, c := range []struct {
		name, args, says string
	}{
		{"no such suite", "-suite none", `no suite "none"`},
		{"prefix", "-suite fair -prefixes 0", "--prefixes must be at least 1"},
		{"nothing left", "-suite fair -model tiny -max-tokens 1", "no workload is left"},
		{"arguments", "-suite fair more", `unexpected argument "more"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stderr bytes.Buffer
			args := append(strings.Fields(c.args), "-out", t.TempDir())
			command := Command()
			require.Equal(t, cli.Usage, suite.ExecuteCommand(t.Context(), command, args, io.Discard, &stderr))
			require.Contains(t, stderr.String(), c.says)
		})
	}
}

func TestAsked(t *testing.T) {
	for args, want := range map[string]bool{
		"": false, "-suite fair": true, "--suite=fair -json": true, "-suite original": false, "-out fair": false, "-suite": false, "suite fair": false,
	} {
		require.Equal(t, want, Asked(strings.Fields(args)), args)
	}
}
