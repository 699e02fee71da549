package stats

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAgreesWithPythonStatistics(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors.json")
	require.NoError(t, err)
	var cases []struct {
		Name                          string
		Samples                       []float64
		Mean, Std, P10, P50, P90, P99 float64
	}
	require.NoError(t, json.Unmarshal(data, &cases))
	require.NotEmpty(t, cases)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			before := slices.Clone(c.Samples)
			s := Summarize(c.Samples)
			require.InDelta(t, c.Mean, s.Mean, 1e-9)
			require.InDelta(t, c.Std, s.Std, 1e-9)
			require.InDelta(t, c.P10, Percentile(c.Samples, 10), 1e-9)
			require.InDelta(t, c.P50, s.P50, 1e-9)
			require.InDelta(t, c.P50, Median(c.Samples), 1e-9)
			require.InDelta(t, c.P90, s.P90, 1e-9)
			require.InDelta(t, c.P99, s.P99, 1e-9)
			require.Equal(t, slices.Min(c.Samples), s.Min)
			require.Equal(t, slices.Max(c.Samples), s.Max)
			require.Equal(t, len(c.Samples), s.Count)
			require.Equal(t, before, c.Samples, "samples were changed")
		})
	}
}

func TestNoSamples(t *testing.T) {
	require.Zero(t, Summarize(nil))
	require.Zero(t, Mean(nil))
	require.Zero(t, Std(nil))
	require.Zero(t, Percentile(nil, 50))
}

func TestOneSample(t *testing.T) {
	require.Equal(t, Summary{Count: 1, Mean: 3, Min: 3, P50: 3, P90: 3, P99: 3, Max: 3}, Summarize([]float64{3}))
}

func TestPercentileOutsideTheRangeIsTheEnd(t *testing.T) {
	require.Equal(t, 1.0, Percentile([]float64{2, 1}, -5))
	require.Equal(t, 2.0, Percentile([]float64{2, 1}, 101))
}

func TestMedianIndex(t *testing.T) {
	for name, c := range map[string]struct {
		samples []float64
		want    int
	}{
		"one":                 {[]float64{4}, 0},
		"three":               {[]float64{3, 1, 2}, 2},
		"even takes lower":    {[]float64{4, 1, 3, 2}, 3},
		"equal takes earlier": {[]float64{5, 5, 5}, 1},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, MedianIndex(c.samples)) })
	}
}
