package model

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

// TestSharedAttention computes a prefix once, then in each step a token of four sequences that go on from it, two of them
// from a longer one: with shared items the logits of every row are, bit for bit, those without.
func TestSharedAttention(t *testing.T) {
	ck := openCheckpoint(t, smallReference)
	for set, device := range kernelSets(t) {
		t.Run(set, func(t *testing.T) {
			for _, kv := range []kernels.KVType{kernels.KVBF16, kernels.KVF32, kernels.KVI8} {
				var want [][]float32
				for _, mode := range attention.Modes() {
					saved, got := sharedRun(t, newRig(t, device, ck, kv), mode)
					switch mode {
					case attention.Auto:
						want = got
					case attention.Ordinary:
						require.Zero(t, saved)
					case attention.Shared:
						require.Positive(t, saved)
					}
					require.Equal(t, want, got, "%v, %v", kv, mode)
				}
			}
		})
	}
}

// sharedRun returns the logits of each step and how many reads were saved.
func sharedRun(t *testing.T, r *rig, mode attention.Mode) (saved int, logits [][]float32) {
	const prefix, longer, steps = 150, 240, 3
	c := r.model.Config
	forward := func(tokens []int32) {
		r.plan.Share(mode, attention.Shape{Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim, TokenBytes: 4 * c.KVHeads * c.HeadDim})
		saved += r.plan.SavedReads()
		b := &Batch{Tokens: tokens, Plan: &r.plan}
		require.NoError(t, r.model.Reserve(b))
		require.NoError(t, r.forward(b))
		rows := make([]int32, len(tokens))
		for i := range rows {
			rows[i] = int32(i)
		}
		rows = rows[max(0, len(rows)-4):]
		out := make([]float32, len(rows)*c.Vocab)
		require.NoError(t, r.device.Do(context.Background(), func(ops kernels.Ops) error {
			if err := r.model.Logits(ops, rows); err != nil {
				return err
			}
			return ops.Read(kernels.AsBytes(out), r.model.act.logits.Slice(0, 4*len(out)))
		}))
		logits = append(logits, out)
	}
	from := func(block kvcache.BlockID, pos, n int) kvcache.Segment {
		s := view(n, block)[0]
		s.Pos, s.Stored = pos, pos
		return s
	}
	tokens := make([]int32, longer)
	for i := range tokens {
		tokens[i] = int32((i*37 + i%3) % c.Vocab)
	}
	r.plan.Reset(rigBlockTokens)
	require.NoError(t, r.plan.Add(view(prefix, 1), prefix))
	forward(tokens[:prefix])
	r.plan.Reset(rigBlockTokens)
	require.NoError(t, r.plan.Add([]kvcache.Segment{from(1, 0, prefix), from(20, prefix, longer-prefix)}, longer-prefix))
	forward(tokens[prefix:])
	for step := range steps {
		r.plan.Reset(rigBlockTokens)
		for s := range 4 {
			seen := []kvcache.Segment{from(1, 0, prefix)}
			if s%2 == 1 {
				seen = append(seen, from(20, prefix, longer-prefix))
			}
			end := seen[len(seen)-1].Pos + seen[len(seen)-1].Len
			require.NoError(t, r.plan.Add(append(seen, from(kvcache.BlockID(40+10*s), end, step+1)), 1))
		}
		forward([]int32{int32(step), int32(step + 5), int32(step + 9), int32(step + 2)})
	}
	return saved, logits
}
