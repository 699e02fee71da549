package ref

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWeight(t *testing.T) {
	require.EqualValues(t, 1<<40, Weight(0))
	require.EqualValues(t, 0, Weight(math.Inf(-1)))
	require.EqualValues(t, 0, Weight(-1e300))
	last := Weight(0)
	for i := 1; i < 400_000; i++ {
		x := -float64(i) * 8e-5
		got, want := float64(Weight(x)), math.Exp(x)*(1<<40)
		require.InDelta(t, want, got, 1+want*1e-12, "e^%v", x)
		require.LessOrEqual(t, uint64(got), last, "at %v", x)
		last = uint64(got)
	}
	require.Zero(t, last)
}

func TestShare(t *testing.T) {
	require.EqualValues(t, 1, Share(100, 1e-30))
	require.EqualValues(t, 50, Share(100, 0.5))
	require.EqualValues(t, 26, Share(101, 0.25), "rounded up")
	require.EqualValues(t, 100, Share(100, 1))
	require.EqualValues(t, 1, Share(1, 0.9))
	for _, total := range []uint64{1<<62 - 1, 1<<62 + 1} {
		require.LessOrEqual(t, Share(total, 0.99999994), total)
	}
}
