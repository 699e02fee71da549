package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/internal/stats"
)

// row is what all results files have in their rows, and what tells their rows apart.
type row struct {
	Method          string `json:"method"`
	Workload        string `json:"workload"`
	SharedPrefixLen int    `json:"shared_prefix_len"`
	BatchSize       int    `json:"batch_size"`
	NumBatches      int    `json:"num_batches"`
	Incomplete      bool   `json:"incomplete"`

	Model            string `json:"model"`
	Seed             int64  `json:"seed"`
	TotalInputTokens int    `json:"total_input_tokens"` // 0: the script does not say
	TotalOutput      int    `json:"total_output_tokens"`

	Samples []struct {
		TimeSeconds float64 `json:"time_seconds"`
		Incomplete  bool    `json:"incomplete"`
	} `json:"samples"`
	TimeToFirstToken  stats.Summary `json:"time_to_first_token"`
	InterTokenLatency stats.Summary `json:"inter_token_latency"`
	TokensComputed    int64         `json:"tokens_computed"`
	KVBytesPeak       int64         `json:"kv_bytes_peak"`
	OutputSHA256      string        `json:"output_sha256"`
}

// name tells a row from the others of its file.
func (r *row) name() string {
	if r.Workload != "" {
		return r.Workload + ": " + r.Method
	}
	parts := []string{r.Method}
	for _, n := range []struct {
		what  string
		value int
	}{{"prefix", r.SharedPrefixLen}, {"batch", r.BatchSize}, {"batches", r.NumBatches}} {
		if n.value > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", n.what, n.value))
		}
	}
	return strings.Join(parts, ", ")
}

// seconds are the times of the row's repeats.
func (r *row) seconds() []float64 {
	var all []float64
	for _, s := range r.Samples {
		if !s.Incomplete && s.TimeSeconds > 0 {
			all = append(all, s.TimeSeconds)
		}
	}
	return all
}

// file is a results file.
type file struct {
	path string
	rows []row
}

// noMatch is an error of files that cannot be compared.
func noMatch(format string, args ...any) error {
	return cli.UsageError("name two results files of the same benchmark, model, settings and seed", format, args...)
}

// readFile reads a results file of any of the benchmarks.
func readFile(path string) (file, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return file{}, cli.UsageError("name a results file", "compare: reading results: %w", err)
	}
	f := file{path: path}
	if err := json.Unmarshal(data, &f.rows); err != nil {
		return f, noMatch("compare: %q holds no results: %w", path, err)
	}
	seen := map[string]bool{}
	for i := range f.rows {
		r := &f.rows[i]
		switch {
		case r.Method == "":
			return f, noMatch("compare: row %d of %q has no method", i, path)
		case len(r.seconds()) == 0:
			return f, noMatch("compare: row %q of %q has no repeat that is complete", r.name(), path)
		case seen[r.name()]:
			return f, noMatch("compare: row %q is twice in %q", r.name(), path)
		}
		seen[r.name()] = true
	}
	return f, nil
}

// pair is a row in both files.
type pair struct{ a, b *row }

// match finds the rows that both files have, in the first one's order, and a line for each that only one has.
func match(a, b file) (pairs []pair, alone []string, err error) {
	of := map[string]*row{}
	for i := range b.rows {
		of[b.rows[i].name()] = &b.rows[i]
	}
	var wrong []error
	for i := range a.rows {
		x := &a.rows[i]
		y := of[x.name()]
		if y == nil {
			alone = append(alone, fmt.Sprintf("only in %s: %s", a.path, x.name()))
			continue
		}
		delete(of, x.name())
		if err := sameWork(x, y); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", x.name(), err))
		}
		pairs = append(pairs, pair{x, y})
	}
	for i := range b.rows {
		if of[b.rows[i].name()] != nil {
			alone = append(alone, fmt.Sprintf("only in %s: %s", b.path, b.rows[i].name()))
		}
	}
	switch {
	case len(wrong) > 0:
		return nil, nil, noMatch("compare: %q and %q do not match: %w", a.path, b.path, errors.Join(wrong...))
	case len(pairs) == 0:
		return nil, nil, noMatch("compare: %q and %q have no row in common", a.path, b.path)
	}
	return pairs, alone, nil
}

// sameWork says in what two rows differ that must be the same.
func sameWork(a, b *row) error {
	switch {
	case a.Model != b.Model:
		return fmt.Errorf("models %q and %q", a.Model, b.Model)
	case a.Seed != b.Seed:
		return fmt.Errorf("seeds %d and %d", a.Seed, b.Seed)
	case a.TotalInputTokens != b.TotalInputTokens:
		return fmt.Errorf("%d and %d tokens in", a.TotalInputTokens, b.TotalInputTokens)
	case a.TotalOutput != b.TotalOutput && !a.Incomplete && !b.Incomplete:
		return fmt.Errorf("%d and %d tokens out", a.TotalOutput, b.TotalOutput)
	}
	return nil
}
