package model

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRopeTable compares the plain table with the formula in float64.
func TestRopeTable(t *testing.T) {
	const positions, dim, theta = 300, 8, 10_000.0
	table := Rope{Type: RopeDefault, Theta: theta}.Table(positions, dim)
	require.Len(t, table, positions*dim)
	for pos := range positions {
		for i := range dim / 2 {
			angle := float64(pos) * math.Pow(theta, -2*float64(i)/dim)
			require.InDelta(t, math.Cos(angle), table[pos*dim+i], 2e-5, "position %d pair %d", pos, i)
			require.InDelta(t, math.Sin(angle), table[pos*dim+dim/2+i], 2e-5, "position %d pair %d", pos, i)
		}
	}
}

func TestRopeTableOfFewPositions(t *testing.T) {
	rope := Rope{Type: RopeDefault, Theta: 10_000}
	require.Empty(t, rope.Table(0, 8))
	require.Equal(t, []float32{1, 1, 1, 1, 0, 0, 0, 0}, rope.Table(1, 8))
	require.Equal(t, rope.Table(7, 8)[:24], rope.Table(3, 8))
}

// TestRopeFrequencies gives, for a head of 8 dimensions and theta 10,000, by what the plain frequencies 1, 0.1, 0.01 and
// 0.001 are multiplied.
func TestRopeFrequencies(t *testing.T) {
	tests := []struct {
		name   string
		rope   Rope
		want   [4]float64
		factor float64
	}{
		{"default", Rope{Type: RopeDefault}, [4]float64{1, 1, 1, 1}, 1},
		{"linear", Rope{Type: RopeLinear, Factor: 4}, [4]float64{0.25, 0.25, 0.25, 0.25}, 1},
		{
			// Wavelengths 6.3, 63, 628 and 6283: unchanged below 250, divided above 1000, blended between by
			// (1000/628 - 1) / (4 - 1) = 0.1972.
			"llama3", Rope{Type: RopeLlama3, Factor: 8, OriginalPositions: 1000, LowFreqFactor: 1, HighFreqFactor: 4},
			[4]float64{1, 1, 0.1972 + (1-0.1972)/8, 0.125}, 1,
		},
		{
			// Pairs that make 32 turns and 1 turn in 1000 positions: 0.6968 and 2.2018, rounded to 0 and 3.
			"yarn", Rope{Type: RopeYaRN, Factor: 4, OriginalPositions: 1000, BetaFast: 32, BetaSlow: 1, Truncate: true},
			[4]float64{1, 1 - 0.75/3, 1 - 0.75*2/3, 0.25}, 0.1*math.Log(4) + 1,
		},
		{
			"yarn, not rounded", Rope{Type: RopeYaRN, Factor: 4, OriginalPositions: 1000, BetaFast: 32, BetaSlow: 1},
			[4]float64{1, 1 - 0.75*(1-0.69683)/(2.20180-0.69683), 1 - 0.75*(2-0.69683)/(2.20180-0.69683), 0.25}, 0.1*math.Log(4) + 1,
		},
		{
			"yarn with a given factor", Rope{Type: RopeYaRN, Factor: 4, OriginalPositions: 1000, BetaFast: 32, BetaSlow: 1, Truncate: true, AttentionFactor: 0.8},
			[4]float64{1, 1 - 0.75/3, 1 - 0.75*2/3, 0.25}, 0.8,
		},
		{
			"yarn with mscale", Rope{Type: RopeYaRN, Factor: 4, OriginalPositions: 1000, BetaFast: 32, BetaSlow: 1, Truncate: true, MScale: 0.7, MScaleAllDim: 0.5},
			[4]float64{1, 1 - 0.75/3, 1 - 0.75*2/3, 0.25}, (0.1*0.7*math.Log(4) + 1) / (0.1*0.5*math.Log(4) + 1),
		},
		{
			"yarn with mscale alone", Rope{Type: RopeYaRN, Factor: 4, OriginalPositions: 1000, BetaFast: 32, BetaSlow: 1, Truncate: true, MScale: 0.7},
			[4]float64{1, 1 - 0.75/3, 1 - 0.75*2/3, 0.25}, 0.1*math.Log(4) + 1,
		},
		{
			// Both ends of the range are cut off at pair 0, where the range is a step.
			"yarn over a very short context", Rope{Type: RopeYaRN, Factor: 4, OriginalPositions: 2, BetaFast: 32, BetaSlow: 1, Truncate: true},
			[4]float64{1, 0.25, 0.25, 0.25}, 0.1*math.Log(4) + 1,
		},
		{
			"yarn by less than one", Rope{Type: RopeYaRN, Factor: 1, OriginalPositions: 1000, BetaFast: 32, BetaSlow: 1, Truncate: true},
			[4]float64{1, 1, 1, 1}, 1,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.rope.Theta = 10_000
			f, factor := tt.rope.frequencies(8)
			require.Len(t, f, 4)
			for i, plain := range []float64{1, 0.1, 0.01, 0.001} {
				require.InEpsilon(t, tt.want[i]*plain, f[i], 1e-4, "pair %d", i)
			}
			require.InEpsilon(t, tt.factor, factor, 1e-6)
			table := tt.rope.Table(2, 8)
			for i := range f {
				require.InDelta(t, math.Cos(float64(f[i]))*tt.factor, table[8+i], 1e-6)
				require.InDelta(t, math.Sin(float64(f[i]))*tt.factor, table[12+i], 1e-6)
			}
		})
	}
}

func TestRopeBF16Frequencies(t *testing.T) {
	table := Rope{Type: RopeDefault, Theta: 10_000, BF16Frequencies: true}.Table(2, 8)
	require.InDelta(t, math.Cos(0.10009765625), table[8+1], 1e-7, "0.1 is 0.10009765625 in bfloat16")
}
