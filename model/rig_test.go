package model

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/internal/golden"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

// kernelSets opens a device with each kernel set that this machine runs. The plain-Go one is always among them.
func kernelSets(t testing.TB) map[string]*kernels.Device {
	devices := map[string]*kernels.Device{}
	for _, set := range []string{"go", "portable", "avx2", "avx512", "avx512bf16"} {
		d, err := kernels.Open(kernels.Options{Device: "cpu", KernelSet: set})
		if errors.Is(err, errors.ErrUnsupported) && set != "go" {
			continue
		}
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, d.Close()) })
		devices[set] = d
	}
	return devices
}

// openDevice opens the best kernel set of this machine.
func openDevice(t testing.TB) *kernels.Device {
	d, err := kernels.Open(kernels.Options{Device: "cpu"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// openFloat32 opens the best kernel set that rounds nothing.
func openFloat32(t testing.TB) *kernels.Device {
	d, err := kernels.Open(kernels.Options{Device: "cpu", Float32: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// openCheckpoint opens a directory of weights.
func openCheckpoint(t testing.TB, dir string) *Checkpoint {
	ck, err := OpenDir(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ck.Close()) })
	return ck
}

// rig runs a model step by step, as an engine does, without one.
type rig struct {
	t       testing.TB
	device  *kernels.Device
	model   *Model
	kv      *KV
	manager kvcache.Manager
	nextSeq kvcache.SeqID
	plan    attention.Plan
}

const (
	rigBlocks      = 160
	rigBlockTokens = 16
	rigTop         = 8
)

func newRig(t testing.TB, device *kernels.Device, ck *Checkpoint, kvType kernels.KVType) *rig {
	return newRigWith(t, device, ck, kvType, kernels.BF16)
}

// newRigWith is newRig for products that read weights in the given format.
func newRigWith(t testing.TB, device *kernels.Device, ck *Checkpoint, kvType kernels.KVType, weights kernels.Format) *rig {
	return newRigWithOptions(t, device, ck, kvType, LoadOptions{Weights: weights})
}

// newRigWithOptions is newRig with some of the options set.
func newRigWithOptions(t testing.TB, device *kernels.Device, ck *Checkpoint, kvType kernels.KVType, o LoadOptions) *rig {
	o.MaxContext, o.MaxLogitRows = 512, 96
	m, err := Load(device, ck, o)
	require.NoError(t, err)
	kv, err := NewKV(device, ck.Config, rigBlocks, rigBlockTokens, kvType)
	require.NoError(t, err)
	pool, err := kvcache.NewPool(rigBlocks, rigBlockTokens)
	require.NoError(t, err)
	manager, err := kvcache.Standard{}.NewManager(pool, kvcache.Geometry{
		BlockTokens: rigBlockTokens, BytesPerToken: ck.Config.KVBytesPerToken(kvType), MaxTokens: 512,
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		kv.Free()
		m.Close()
	})
	return &rig{t: t, device: device, model: m, kv: kv, manager: manager}
}

// outcome is all that the sampler says after one token.
type outcome struct {
	kernels.SampleOut
	topTokens [rigTop]int32
	topLogits [rigTop]float32
}

func (o outcome) logprob() float64 { return float64(o.Logit) - float64(o.LogSumExp) }

// run computes sequences side by side and returns what the model says after each of their tokens: of the token that
// follows in the sequence, or, after the last, of its own choice. cut gives the most tokens that sequence seq may compute
// in a step.
func (r *rig) run(sequences [][]int32, cut func(step, seq int) int) [][]outcome {
	ids := make([]kvcache.SeqID, len(sequences))
	outcomes := make([][]outcome, len(sequences))
	for i, tokens := range sequences {
		r.nextSeq++
		ids[i] = r.nextSeq
		_, err := r.manager.Admit(ids[i], kvcache.Prompt{Tokens: tokens})
		require.NoError(r.t, err)
	}
	before, total := r.model.TokensComputed(), int64(0)
	for step := 0; ; step++ {
		var spans []kvcache.Span
		var of []int // sequence of each row
		var wants, tokens []int32
		r.plan.Reset(rigBlockTokens)
		room := r.model.Options().MaxRows
		for i, id := range ids {
			from := len(spans)
			spans = r.manager.Next(spans, id, min(cut(step, i), room))
			for _, s := range spans[from:] {
				require.NoError(r.t, r.plan.Add(r.manager.View(nil, s), s.Len))
				room -= s.Len
				for at := s.Start; at < s.Start+s.Len; at++ {
					of = append(of, i)
					tokens = append(tokens, sequences[i][at])
					want := int32(-1)
					if at+1 < len(sequences[i]) {
						want = sequences[i][at+1]
					}
					wants = append(wants, want)
				}
			}
		}
		if len(spans) == 0 {
			break
		}
		for row, o := range r.step(&Batch{Tokens: tokens, Plan: &r.plan}, wants) {
			outcomes[of[row]] = append(outcomes[of[row]], o)
		}
		for _, s := range spans {
			r.manager.Wrote(s)
		}
		total += int64(len(tokens))
	}
	for i, id := range ids {
		require.Len(r.t, outcomes[i], len(sequences[i]))
		r.manager.Remove(id)
	}
	require.NoError(r.t, r.manager.Check())
	require.Equal(r.t, total, r.model.TokensComputed()-before)
	return outcomes
}

// step runs one batch and samples every row.
func (r *rig) step(b *Batch, wants []int32) []outcome {
	require.NoError(r.t, r.model.Reserve(b))
	outcomes := make([]outcome, len(b.Tokens))
	require.NoError(r.t, r.device.Do(context.Background(), func(ops kernels.Ops) error {
		if err := r.model.Forward(ops, b, r.kv); err != nil {
			return err
		}
		most := r.model.Options().MaxLogitRows
		for from := 0; from < len(outcomes); from += most {
			n := min(most, len(outcomes)-from)
			if err := r.sample(ops, from, wants[from:][:n], outcomes[from:][:n]); err != nil {
				return err
			}
		}
		return nil
	}))
	return outcomes
}

func (r *rig) sample(ops kernels.Ops, firstRow int, wants []int32, dst []outcome) error {
	n := len(wants)
	rows := make([]int32, n)
	params := make([]kernels.SampleRow, n)
	for i := range rows {
		rows[i] = int32(firstRow + i)
		params[i].Want = wants[i]
	}
	out := make([]kernels.SampleOut, n)
	topTokens, topLogits := make([]int32, n*rigTop), make([]float32, n*rigTop)
	if err := r.model.Logits(ops, rows); err != nil {
		return err
	}
	if err := r.model.Sample(ops, params, rigTop, out, topTokens, topLogits); err != nil {
		return err
	}
	for i := range dst {
		dst[i].SampleOut = out[i]
		copy(dst[i].topTokens[:], topTokens[i*rigTop:])
		copy(dst[i].topLogits[:], topLogits[i*rigTop:])
	}
	return nil
}

// whole computes a sequence in one step.
func whole(int, int) int { return 1 << 20 }

// oneByOne computes a sequence token by token.
func oneByOne(int, int) int { return 1 }

// ragged cuts sequences at odd places, inside blocks and at their ends, and lets some of them decode while others are
// still at their prompts.
func ragged(step, seq int) int {
	sizes := []int{3, 16, 1, 29, 7, 1, 64, 13}
	return sizes[(step+3*seq)%len(sizes)]
}

// sequence is a case's prompt and continuation.
func sequence(c golden.Case) []int32 {
	return append(append([]int32{}, c.Tokens...), c.Greedy...)
}

// observed turns a sequence's outcomes into what the comparison wants.
func observed(c golden.Case, outcomes []outcome) golden.Observed {
	o := golden.Observed{PromptLogprobs: make([]float64, len(c.Tokens))}
	for i := 1; i < len(c.Tokens); i++ {
		o.PromptLogprobs[i] = outcomes[i-1].logprob()
	}
	last := outcomes[len(c.Tokens)-1:]
	for i, token := range last[0].topTokens {
		o.Top = append(o.Top, golden.Logit{Token: token, Logit: float64(last[0].topLogits[i])})
	}
	for i := range c.Greedy {
		o.Argmax = append(o.Argmax, last[i].Argmax)
		o.GreedyLogprobs = append(o.GreedyLogprobs, last[i].logprob())
	}
	return o
}
