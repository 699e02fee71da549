package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/quire-llm/quire/internal/stats"
)

// spread is a ratio of the medians of two sets of samples, and between what it can be for single ones.
type spread struct{ middle, least, most float64 }

// newSpread is b over a; both have samples, all above 0.
func newSpread(a, b []float64) spread {
	return spread{stats.Median(b) / stats.Median(a), slices.Min(b) / slices.Max(a), slices.Max(b) / slices.Min(a)}
}

// verdict says in words what a ratio of times means.
func (s spread) verdict() string {
	switch {
	case s.most < 1:
		return "faster"
	case s.least > 1:
		return "slower"
	}
	return "~"
}

// ratio is b over a; "-" where one of them was not measured.
func ratio(a, b float64) string {
	if a <= 0 || b <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f", b/a)
}

// printTable writes the ratios of all pairs.
func printTable(w io.Writer, pairs []pair) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "B over A\ttime\tspread\trepeats\t\tTTFT p50\tITL p50\tcomputed\tKV peak\tanswers")
	for _, p := range pairs {
		a, b := p.a.seconds(), p.b.seconds()
		s := newSpread(a, b)
		answers := "same"
		if p.a.OutputSHA256 != p.b.OutputSHA256 {
			answers = "other"
		}
		name := p.a.name()
		if p.a.Incomplete || p.b.Incomplete {
			name += " (incomplete)"
		}
		fmt.Fprintf(t, "%s\t%.3f\t%.3f to %.3f\t%d, %d\t%s\t%s\t%s\t%s\t%s\t%s\n", name, s.middle, s.least, s.most, len(a), len(b), s.verdict(),
			ratio(p.a.TimeToFirstToken.P50, p.b.TimeToFirstToken.P50), ratio(p.a.InterTokenLatency.P50, p.b.InterTokenLatency.P50),
			ratio(float64(p.a.TokensComputed), float64(p.b.TokensComputed)), ratio(float64(p.a.KVBytesPeak), float64(p.b.KVBytesPeak)), answers)
	}
	t.Flush()
}
