// Package stats sums up samples. Its definitions are numpy's, so that figures can be compared with those of other tools.
package stats

import (
	"cmp"
	"math"
	"slices"
)

// Mean is the arithmetic mean; 0 of no samples.
func Mean(samples []float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	sum := 0.0
	for _, x := range samples {
		sum += x
	}
	return sum / float64(len(samples))
}

// Std is the standard deviation of the samples themselves (numpy's ddof=0); 0 of no samples.
func Std(samples []float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	mean, sum := Mean(samples), 0.0
	for _, x := range samples {
		sum += (x - mean) * (x - mean)
	}
	return math.Sqrt(sum / float64(len(samples)))
}

// Percentile is the p-th percentile, p in [0, 100], with linear interpolation between the two nearest samples (numpy's
// default). The samples may come in any order and are not changed. 0 of no samples.
func Percentile(samples []float64, p float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	return percentileOfSorted(slices.Sorted(slices.Values(samples)), p)
}

// Median is the 50th percentile.
func Median(samples []float64) float64 { return Percentile(samples, 50) }

func percentileOfSorted(sorted []float64, p float64) float64 {
	rank := min(max(p, 0), 100) / 100 * float64(len(sorted)-1)
	below := int(rank)
	if below == len(sorted)-1 {
		return sorted[below]
	}
	fraction := rank - float64(below)
	return sorted[below] + fraction*(sorted[below+1]-sorted[below])
}

// Summary is what a report says of one set of samples. Units are those of the samples.
type Summary struct {
	Count int     `json:"count"`
	Mean  float64 `json:"mean"`
	Std   float64 `json:"std"`
	Min   float64 `json:"min"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

// Summarize sums samples up. The samples are not changed.
func Summarize(samples []float64) Summary {
	if len(samples) == 0 {
		return Summary{}
	}
	sorted := slices.Sorted(slices.Values(samples))
	return Summary{
		Count: len(sorted),
		Mean:  Mean(sorted),
		Std:   Std(sorted),
		Min:   sorted[0],
		P50:   percentileOfSorted(sorted, 50),
		P90:   percentileOfSorted(sorted, 90),
		P99:   percentileOfSorted(sorted, 99),
		Max:   sorted[len(sorted)-1],
	}
}

// MedianIndex is the index of the sample that stands in the middle when they are sorted: the lower of the two where
// their number is even, the first of equals. It panics if there are none.
func MedianIndex(samples []float64) int {
	order := make([]int, len(samples))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(samples[a], samples[b]) })
	return order[(len(order)-1)/2]
}
