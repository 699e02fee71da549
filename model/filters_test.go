package model

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
)

// TestSampleFiltered: filters reach the rows that they are for, with lists that grow and shrink, and change the token only.
func TestSampleFiltered(t *testing.T) {
	r := newRig(t, openDevice(t), openCheckpoint(t, smallReference), kernels.KVF32)
	m := r.model
	r.plan.Reset(16)
	require.NoError(t, r.plan.Add(view(3, 1), 3))
	require.NoError(t, r.forward(&Batch{Tokens: []int32{1, 2, 3}, Plan: &r.plan}))
	params := []kernels.SampleRow{{Want: -1}, {Want: -1}}
	sample := func(f Filters) (out [2]kernels.SampleOut, err error) {
		err = r.device.Do(context.Background(), func(ops kernels.Ops) error {
			if err := m.Logits(ops, []int32{1, 2}); err != nil {
				return err
			}
			return m.SampleFiltered(ops, params, f, 0, out[:], nil, nil)
		})
		return out, err
	}
	plain, err := sample(Filters{})
	require.NoError(t, err)
	never := float32(math.Inf(-1))
	for _, n := range []int{1, 200, 3} { // tokens masked in the second row besides its own choice
		biases := []kernels.TokenBias{{Token: plain[0].Token, Bias: -1000}}
		for i := range int32(n) {
			if i != plain[1].Token {
				biases = append(biases, kernels.TokenBias{Token: i, Bias: never})
			}
		}
		biases = append(biases, kernels.TokenBias{Token: plain[1].Token, Bias: never})
		got, err := sample(Filters{
			Rows: []kernels.SampleFilter{
				{Biases: 1},
				{Bias: 1, Biases: int32(len(biases) - 1), Counts: 1, RepetitionPenalty: 1.1},
			},
			Biases: biases,
			Counts: []kernels.TokenCount{{Token: 0}},
		})
		require.NoError(t, err)
		for i := range got {
			require.NotEqual(t, plain[i].Token, got[i].Token, "row %d", i)
			require.Equal(t, plain[i].Argmax, got[i].Argmax)
			require.Equal(t, plain[i].LogSumExp, got[i].LogSumExp)
		}
		require.GreaterOrEqual(t, got[1].Token, int32(n))
		again, err := sample(Filters{Rows: make([]kernels.SampleFilter, 2)})
		require.NoError(t, err)
		require.Equal(t, plain, again)
	}
	_, err = sample(Filters{Rows: make([]kernels.SampleFilter, 1)})
	require.ErrorContains(t, err, "got filters for 1 rows and parameters for 2")
}
