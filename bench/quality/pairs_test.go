package main

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/engine"
)

// differences of so many pairs where only one way is right, only the other, and neither or both.
func differences(only, other, same int) []float64 {
	var d []float64
	for range only {
		d = append(d, 1)
	}
	for range other {
		d = append(d, -1)
	}
	return append(d, make([]float64, same)...)
}

func TestPaired(t *testing.T) {
	for _, c := range []struct {
		name        string
		differences []float64
		want        interval
	}{
		// Agresti, Categorical Data Analysis (2002), table 10.1: the president's performance, 794 150 86 570. The book's
		// Wald interval is 0.04 ± 1.96 × 0.0095; half a pair in each cell changes the fourth digit.
		{"approval", differences(150, 86, 1364), interval{0.04, 0.02122, 0.05868}},
		// By hand: n = 12, center 2/12, variance (2 + 1 - 4/12)/144.
		{"two of ten", differences(2, 0, 8), interval{0.2, -0.10006, 0.43339}},
		// By hand: center 0, ±1.96 × 1/102.
		{"none of a hundred", differences(0, 0, 100), interval{0, -0.019215, 0.019215}},
		// By hand: n = 6, center 0.5/6, variance (0.75 + 1 - 0.25/6)/36.
		{"half each", []float64{0.5, 0.5, -0.5, 0}, interval{0.125, -0.34362, 0.51029}},
		{"no question", nil, interval{0, -1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := paired(c.differences)
			require.InDelta(t, c.want.Value, got.Value, 1e-12)
			require.InDelta(t, c.want.Low, got.Low, 5e-5)
			require.InDelta(t, c.want.High, got.High, 5e-5)
		})
	}
}

// The interval holds the truth about 95 times in 100, and oftener where pairs rarely differ.
func TestPairedCovers(t *testing.T) {
	const seed, tries, n = 1, 4000, 200
	random := rand.New(rand.NewPCG(seed, 0))
	for _, p := range []struct{ only, other float64 }{{0.02, 0.3}, {0.01, 0.01}, {0.1, 0.2}} {
		held := 0
		for range tries {
			d := make([]float64, n)
			for i := range d {
				if x := random.Float64(); x < p.only {
					d[i] = 1
				} else if x < p.only+p.other {
					d[i] = -1
				}
			}
			if got, truth := paired(d), p.only-p.other; got.Low <= truth && truth <= got.High {
				held++
			}
		}
		share := float64(held) / tries
		require.True(t, share > 0.94 && share < 0.99, "seed %d, %+v: got %v", seed, p, share)
	}
}

// distribution is a token with the log-probabilities of some ids. The first is the token itself.
func distribution(ids []int32, p []float64, told int) engine.Token {
	t := engine.Token{ID: ids[0], Logprob: float32(math.Log(p[0]))}
	for i := range told {
		t.Top = append(t.Top, engine.TokenLogprob{ID: ids[i], Logprob: float32(math.Log(p[i]))})
	}
	return t
}

func TestDivergence(t *testing.T) {
	ids := []int32{7, 3, 5, 1}
	p, q := []float64{0.5, 0.25, 0.125, 0.125}, []float64{0.25, 0.25, 0.25, 0.25}
	whole := 0.5*math.Log(2) + 2*0.125*math.Log(0.5)
	require.InDelta(t, whole, divergence(distribution(ids, p, 4), distribution(ids, q, 4)), 1e-6)
	// Told of the first only: 0.5 log 2 + 0.5 log(0.5/0.75).
	coarse := 0.5*math.Log(2) + 0.5*math.Log(0.5/0.75)
	require.InDelta(t, coarse, divergence(distribution(ids, p, 1), distribution(ids, q, 4)), 1e-6)
	require.InDelta(t, coarse, divergence(distribution(ids, p, 4), distribution(ids, q, 1)), 1e-6)
	require.InDelta(t, coarse, divergence(distribution(ids, p, 4), distribution(ids, q, 0)), 1e-6, "the token itself is always told")
	require.Less(t, coarse, whole)
	require.Zero(t, divergence(distribution(ids, p, 3), distribution(ids, p, 3)))
}
