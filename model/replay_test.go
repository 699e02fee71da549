package model

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

// walker takes a model through steps of one row for each of its sequences, which come, go and share the blocks of a prefix,
// with each token known to the device only when the next step needs it.
type walker struct {
	*rig
	rng    *rand.Rand
	sharer bool // plans shared items where a step shares
	live   []*walk
	free   []kvcache.BlockID
}

// walk is a sequence: a prefix that others may have too, and blocks of its own.
type walk struct {
	prefix int // tokens in blocks 1, 2, ...
	own    []kvcache.BlockID
	length int // tokens of its own, with the one that is computed next
	token  int32
}

const (
	walkPrefix = 80 // tokens
	walkMost   = 48 // sequences
	walkOwn    = 3  // most blocks of a sequence
)

func newWalker(r *rig, seed uint64, sharer bool) *walker {
	w := &walker{rig: r, rng: rand.New(rand.NewPCG(seed, 1)), sharer: sharer}
	for b := rigBlocks; b > walkPrefix/rigBlockTokens; b-- {
		w.free = append(w.free, kvcache.BlockID(b))
	}
	return w
}

// change lets sequences come and go.
func (w *walker) change(step int) {
	most := []int{1, 3, 17, walkMost, 30, 9}[step/40%6] // the batch grows and shrinks
	for n := w.rng.IntN(3); n > 0 && len(w.live) < most && len(w.free) > walkOwn; n-- {
		s := &walk{length: 1, token: int32(w.rng.IntN(w.model.Config.Vocab))}
		if w.rng.IntN(3) > 0 {
			s.prefix = walkPrefix
		}
		w.live = append(w.live, s)
	}
	for i := 0; i < len(w.live); i++ {
		s := w.live[i]
		if len(w.live) > most || s.length > walkOwn*rigBlockTokens || w.rng.IntN(60) == 0 {
			w.free = append(w.free, s.own...)
			w.live = append(w.live[:i], w.live[i+1:]...)
			i--
		} else if s.length > len(s.own)*rigBlockTokens {
			s.own = append(s.own, w.free[len(w.free)-1])
			w.free = w.free[:len(w.free)-1]
		}
	}
}

// steps returns all that was sampled.
func (w *walker) steps(n int) [][]kernels.SampleOut {
	var all [][]kernels.SampleOut
	var pending kernels.Pending
	var last []*walk // of the step before, whose tokens only the device knows
	shape := attention.Shape{Heads: w.model.Config.Heads, KVHeads: w.model.Config.KVHeads, HeadDim: w.model.Config.HeadDim}
	for step := range n {
		w.change(step)
		if len(w.live) == 0 {
			continue
		}
		before := map[*walk]int{}
		for i, s := range last {
			before[s] = i
		}
		b := &Batch{Plan: &w.plan}
		w.plan.Reset(rigBlockTokens)
		for _, s := range w.live {
			var view []kvcache.Segment
			if s.prefix > 0 {
				view = append(view, kvcache.Segment{Blocks: []kvcache.BlockID{1, 2, 3, 4, 5}, Len: walkPrefix})
			}
			view = append(view, kvcache.Segment{Blocks: s.own, Len: s.length, Pos: s.prefix, Stored: s.prefix})
			require.NoError(w.t, w.plan.Add(view, 1))
			token := s.token
			if i, ok := before[s]; ok {
				token = int32(-1 - i)
			}
			b.Tokens = append(b.Tokens, token)
			b.Asks = append(b.Asks, kernels.SampleRow{Temperature: float32(w.rng.IntN(2)), Want: -1, Seed: w.rng.Uint64(), Counter: uint64(step)})
			s.length++
		}
		if w.sharer && step/70%2 == 0 {
			w.plan.Share(attention.Shared, shape)
		}
		require.NoError(w.t, w.model.Reserve(b))
		if pending != nil && w.rng.IntN(2) == 0 { // now and then the host hears of a step before the next begins
			require.NoError(w.t, pending.Wait())
			pending = nil
		}
		out := make([]kernels.SampleOut, len(b.Tokens))
		var next kernels.Pending
		require.NoError(w.t, w.device.Do(context.Background(), func(ops kernels.Ops) error {
			if err := w.model.Forward(ops, b, w.kv); err != nil {
				return err
			}
			err := w.model.AskAll(ops, b)
			if err == nil {
				next, err = w.model.Answers(ops, out)
			}
			return err
		}))
		if pending != nil {
			require.NoError(w.t, pending.Wait())
		}
		pending = next
		all = append(all, out)
		last = append(last[:0], w.live...)
	}
	if pending != nil {
		require.NoError(w.t, pending.Wait())
	}
	return all
}

// prefill computes the prefix.
func (w *walker) prefill() {
	tokens := make([]int32, walkPrefix)
	for i := range tokens {
		tokens[i] = int32((i*31 + 5) % w.model.Config.Vocab)
	}
	w.plan.Reset(rigBlockTokens)
	require.NoError(w.t, w.plan.Add(view(walkPrefix, 1), walkPrefix))
	require.NoError(w.t, w.forward(&Batch{Tokens: tokens, Plan: &w.plan}))
}

// TestReplaysCUDA: random steps replayed give the bits that they give when every kernel is launched by itself, whatever lies
// in list entries that are not in use.
func TestReplaysCUDA(t *testing.T) {
	steps := 1000
	if testing.Short() {
		steps = 200
	}
	for _, name := range []string{"qwen3-tied-gqa2", "qwen3-moe"} {
		t.Run(name, func(t *testing.T) {
			var want [][]kernels.SampleOut
			for _, launch := range []string{"eager,serial", "eager", "serial", ""} {
				t.Setenv("QUIRE_CUDA_LAUNCH", launch)
				device := openCUDA(t)
				r := newRig(t, device, openCheckpoint(t, "testdata/goldens/"+name), kernels.KVBF16)
				r.model.replays.packer.Poison = 0x7b
				if launch == "eager,serial" {
					r.model.replays.packer.Poison = 0
				}
				w := newWalker(r, 7, device.Info().SharedAttention)
				w.prefill()
				start := time.Now()
				got := w.steps(steps)
				t.Logf("launch %q: %d steps in %v", launch, len(got), time.Since(start))
				require.NoError(t, device.Do(context.Background(), func(kernels.Ops) error { return r.model.ReplayErr() }))
				if want == nil {
					want = got
				}
				require.Len(t, got, len(want))
				for i := range want {
					require.Equal(t, want[i], got[i], "launch %q, step %d", launch, i)
				}
			}
		})
	}
}

// TestSampledTokensStay: a token that only the device knows gives what the same token gives that the host has seen.
func TestSampledTokensStay(t *testing.T) {
	for set, device := range kernelSets(t) {
		r := newRig(t, device, openCheckpoint(t, smallReference), kernels.KVF32)
		step := func(at int, tokens []int32) []kernels.SampleOut {
			b := &Batch{Tokens: tokens, Plan: &r.plan}
			r.plan.Reset(rigBlockTokens)
			for i := range tokens {
				require.NoError(t, r.plan.Add(view(at+1, kvcache.BlockID(1+i)), 1))
				b.Asks = append(b.Asks, kernels.SampleRow{Want: -1})
			}
			require.NoError(t, r.model.Reserve(b))
			out := make([]kernels.SampleOut, len(tokens))
			require.NoError(t, device.Do(context.Background(), func(ops kernels.Ops) error {
				if err := r.model.Forward(ops, b, r.kv); err != nil {
					return err
				}
				if err := r.model.AskAll(ops, b); err != nil {
					return err
				}
				_, err := r.model.Answers(ops, out)
				return err
			}))
			return out
		}
		first := step(0, []int32{5, 9, 40})
		want := step(1, []int32{first[2].Token, 7, first[0].Token})
		require.Equal(t, first, step(0, []int32{5, 9, 40}))
		require.Equal(t, want, step(1, []int32{-3, 7, -1}), set)
		require.ErrorContains(t, r.forward(&Batch{Tokens: []int32{-4}, Plan: onePlan(t)}), "row 0: token -4 is outside", fmt.Sprintf("%s: only three were asked for", set))
	}
}

func onePlan(t *testing.T) *attention.Plan {
	p := &attention.Plan{}
	p.Reset(rigBlockTokens)
	require.NoError(t, p.Add(view(1, 1), 1))
	return p
}
