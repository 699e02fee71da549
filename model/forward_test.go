package model

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

const smallReference = "testdata/goldens/qwen3-tied-gqa2"

// forward runs a batch without making room for it first.
func (r *rig) forward(b *Batch) error {
	return r.device.Do(context.Background(), func(ops kernels.Ops) error { return r.model.Forward(ops, b, r.kv) })
}

// view is one private segment of n tokens, in blocks from the given one on.
func view(n int, block kvcache.BlockID) []kvcache.Segment {
	s := kvcache.Segment{Len: n}
	for i := range (n + rigBlockTokens - 1) / rigBlockTokens {
		s.Blocks = append(s.Blocks, block+kvcache.BlockID(i))
	}
	return []kvcache.Segment{s}
}

func TestForwardRefuses(t *testing.T) {
	r := newRig(t, openDevice(t), openCheckpoint(t, smallReference), kernels.KVF32)
	tests := []struct {
		name        string
		blockTokens int
		view        []kvcache.Segment
		rows        int
		tokens      []int32
		want        string
	}{
		{"token below 0", 16, view(3, 1), 3, []int32{5, -1, 6}, "row 1: token -1 is outside the vocabulary of 320"},
		{"token beyond the vocabulary", 16, view(3, 1), 3, []int32{5, 6, 320}, "row 2: token 320 is outside the vocabulary of 320"},
		{"fewer tokens than rows", 16, view(3, 1), 3, make([]int32, 2), "got 2 tokens for 3 rows of the plan"},
		{"more tokens than rows", 16, view(3, 1), 2, make([]int32, 3), "got 3 tokens for 2 rows of the plan"},
		{"too many rows", 16, view(600, 1), 600, make([]int32, 600), "got 600 rows, want 1 to 512"},
		{"position beyond the context", 16, []kvcache.Segment{{Blocks: []kvcache.BlockID{1}, Len: 1, Pos: 512, Stored: 512}}, 1, make([]int32, 1), "got position 512, but the context is 512 tokens"},
		{"block beyond the cache", 16, view(1, rigBlocks+1), 1, make([]int32, 1), "got block 161, but the cache has 160"},
		{"blocks of another size", 32, view(1, 1), 1, make([]int32, 1), "got a plan over blocks of 32 tokens, but the cache has blocks of 16"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.plan.Reset(tt.blockTokens)
			require.NoError(t, r.plan.Add(tt.view, tt.rows))
			require.ErrorContains(t, r.forward(&Batch{Tokens: tt.tokens, Plan: &r.plan}), tt.want)
			require.Zero(t, r.model.TokensComputed(), "nothing has run")
		})
	}
	t.Run("no rows", func(t *testing.T) {
		r.plan.Reset(16)
		require.ErrorContains(t, r.forward(&Batch{Plan: &r.plan}), "got 0 rows")
	})
	t.Run("another model's cache", func(t *testing.T) {
		c := r.model.Config
		c.Layers++
		kv, err := NewKV(r.device, c, 4, 16, kernels.KVF32)
		require.NoError(t, err)
		defer kv.Free()
		r.plan.Reset(16)
		require.NoError(t, r.plan.Add(view(1, 1), 1))
		err = r.device.Do(context.Background(), func(ops kernels.Ops) error {
			return r.model.Forward(ops, &Batch{Tokens: []int32{1}, Plan: &r.plan}, kv)
		})
		require.ErrorContains(t, err, "got a cache of 3 layers, but the model has 2")
	})
}

// TestReserve runs a batch of more segments than a model has room for at first.
func TestReserve(t *testing.T) {
	r := newRig(t, openDevice(t), openCheckpoint(t, smallReference), kernels.KVF32)
	b := &Batch{Tokens: make([]int32, 400), Plan: &r.plan}
	r.plan.Reset(16)
	for i := range b.Tokens {
		var three []kvcache.Segment
		for j := range 3 {
			three = append(three, kvcache.Segment{Blocks: []kvcache.BlockID{kvcache.BlockID(1 + i%100)}, Off: j, Len: 1, Pos: j, Stored: j})
		}
		require.NoError(t, r.plan.Add(three, 1))
	}
	require.ErrorContains(t, r.forward(b), "room is reserved for 512, 1024 and 32768")
	require.NoError(t, r.model.Reserve(b))
	require.NoError(t, r.forward(b))
	require.EqualValues(t, 400, r.model.TokensComputed())
}

func TestLogitsAndSampleRefuse(t *testing.T) {
	r := newRig(t, openDevice(t), openCheckpoint(t, smallReference), kernels.KVF32)
	m := r.model
	in := func(fn func(kernels.Ops) error) error { return r.device.Do(context.Background(), fn) }
	logits := func(rows ...int32) error {
		return in(func(ops kernels.Ops) error { return m.Logits(ops, rows) })
	}
	sample := func(params, out, topN, tokens, logits int, want int32) error {
		p := make([]kernels.SampleRow, params)
		for i := range p {
			p[i].Want = want
		}
		return in(func(ops kernels.Ops) error {
			return m.Sample(ops, p, topN, make([]kernels.SampleOut, out), make([]int32, tokens), make([]float32, logits))
		})
	}
	require.ErrorContains(t, logits(0), "row 0, but the last step had 0")
	r.plan.Reset(16)
	require.NoError(t, r.plan.Add(view(3, 1), 3))
	require.NoError(t, r.forward(&Batch{Tokens: []int32{1, 2, 3}, Plan: &r.plan}))

	require.ErrorContains(t, sample(1, 1, 0, 0, 0, -1), "want 0, and at least one", "before Logits")
	require.ErrorContains(t, logits(), "got 0 rows, want 1 to 96")
	require.ErrorContains(t, logits(make([]int32, 97)...), "got 97 rows, want 1 to 96")
	require.ErrorContains(t, logits(1, 3), "row 3, but the last step had 3")
	require.ErrorContains(t, logits(-1), "row -1")
	require.NoError(t, logits(2, 0))

	require.ErrorContains(t, sample(1, 2, 0, 0, 0, -1), "got parameters for 1 rows and room for 2, want 2")
	require.ErrorContains(t, sample(2, 1, 0, 0, 0, -1), "got parameters for 2 rows and room for 1, want 2")
	require.ErrorContains(t, sample(2, 2, 65, 130, 130, -1), "got the 65 largest logits")
	require.ErrorContains(t, sample(2, 2, -1, 0, 0, -1), "got the -1 largest logits")
	require.ErrorContains(t, sample(2, 2, 4, 7, 8, -1), "got room for 7 and 8 of the largest logits")
	require.ErrorContains(t, sample(2, 2, 4, 8, 9, -1), "got room for 8 and 9 of the largest logits")
	require.ErrorContains(t, sample(2, 2, 0, 0, 0, 320), "row 0 wants token 320, but the vocabulary has 320")
	require.ErrorContains(t, sample(2, 2, 0, 0, 0, -2), "row 0 wants token -2")
	require.NoError(t, sample(2, 2, 4, 8, 8, 319))
	require.NoError(t, sample(2, 2, 0, 0, 0, -1), "a second time")
}

// TestLoadRefuses lists what Load says before it reads a weight, and after.
func TestLoadRefuses(t *testing.T) {
	device := openDevice(t)
	tests := []struct {
		name    string
		options LoadOptions
		change  func(*Checkpoint)
		want    string
	}{
		{name: "context beyond the model's", options: LoadOptions{MaxContext: 2049}, want: "got a context of 2049, but the model was made for 2048"},
		{name: "negative rows", options: LoadOptions{MaxRows: -1}, want: "want at least 1 of each"},
		{name: "a part of a model", options: LoadOptions{Shard: Shard{Rank: 1, Ranks: 2}}, want: "rank 1 of 2: a model cannot be split yet"},
		{name: "a rank of one", options: LoadOptions{Shard: Shard{Rank: 1}}, want: "rank 1 of 1"},
		{name: "missing tensor", change: func(ck *Checkpoint) { delete(ck.tensors, "model.norm.weight") }, want: `tensor "model.norm.weight" is missing`},
		{name: "wrong shape", change: func(ck *Checkpoint) { ck.Config.Intermediate++ }, want: "mlp.gate_proj.weight"},
		{name: "out of memory", options: LoadOptions{MaxRows: 1 << 40}, want: "making room for 1099511627776 rows"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ck := openCheckpoint(t, smallReference)
			if tt.change != nil {
				tt.change(ck)
			}
			m, err := Load(device, ck, tt.options)
			require.Nil(t, m)
			require.ErrorContains(t, err, tt.want)
			require.ErrorContains(t, err, "model: loading ")
			require.Equal(t, tt.options.Shard != Shard{}, errors.Is(err, errors.ErrUnsupported))
		})
	}
}

func TestLoadDefaults(t *testing.T) {
	device := openDevice(t)
	ck := openCheckpoint(t, "testdata/goldens/qwen3-f16-file")
	var lines []string
	m, err := Load(device, ck, LoadOptions{Log: func(line string) { lines = append(lines, line) }})
	require.NoError(t, err)
	require.Equal(t, []string{"model: weights stored as F16 are rounded to bfloat16"}, lines)
	o := m.Options()
	require.Equal(t, 512, o.MaxRows)
	require.Equal(t, 64, o.MaxLogitRows)
	require.Equal(t, 2048, o.MaxContext)

	plan := PlanMemory(ck.Config, LoadOptions{}, device.ActivationBytes())
	require.Equal(t, m.Memory(), plan)
	require.Equal(t, ck.WeightBytes(), plan.Weights)
	require.EqualValues(t, 2048*128*4, plan.Rope)
	require.Equal(t, plan.Weights+plan.Activations+plan.Graphs+plan.Rope, plan.Total())
	allocated := m.lists.Positions.Bytes() + m.lists.Slots.Bytes()
	for _, p := range m.act.parts(ck.Config, o, device.ActivationBytes()) {
		require.Equal(t, p.bytes, p.buffer.Bytes())
		allocated += p.bytes
	}
	require.Greater(t, plan.Activations, int64(allocated), "and the rest of the lists")
	m.Close()
	m.Close()
	require.True(t, m.act.hidden.IsZero())
}

// TestShiftedContext places keys that were written for the positions from 0 on at positions from 100 on: the tokens
// after them, at their own later positions, must see what they see of the same text from 0 on, since RoPE is relative.
func TestShiftedContext(t *testing.T) {
	for _, dir := range []string{smallReference, "testdata/goldens/qwen3-yarn", "testdata/goldens/llama3-rope-scaling"} {
		r := newRig(t, openFloat32(t), openCheckpoint(t, dir), kernels.KVF32)
		tokens := openGolden(t, dir+"/golden.json").Cases[2].Tokens // 64 of them
		const past, shift = 40, 100
		want := r.run([][]int32{tokens}, whole)[0][past:]

		next := make([]int32, len(tokens))
		copy(next, tokens[1:])
		next[len(next)-1] = -1
		r.plan.Reset(rigBlockTokens)
		require.NoError(t, r.plan.Add(view(past, 7), past))
		r.step(&Batch{Tokens: tokens[:past], Plan: &r.plan}, next[:past])

		shifted := append(view(past, 7), view(len(tokens)-past, 20)...)
		shifted[0].Pos = shift
		shifted[1].Pos, shifted[1].Stored = shift+past, shift+past
		r.plan.Reset(rigBlockTokens)
		require.NoError(t, r.plan.Add(shifted, len(tokens)-past))
		got := r.step(&Batch{Tokens: tokens[past:], Plan: &r.plan}, next[past:])
		for i := range want {
			require.InDelta(t, want[i].logprob(), got[i].logprob(), 2e-4, "%s, token %d", dir, past+i)
		}

		shifted[0].Stored = shift // a lie: the keys are at 0
		r.plan.Reset(rigBlockTokens)
		require.NoError(t, r.plan.Add(shifted, len(tokens)-past))
		lie := r.step(&Batch{Tokens: tokens[past:], Plan: &r.plan}, next[past:])
		var worst float64
		for i := range want {
			worst = max(worst, math.Abs(want[i].logprob()-lie[i].logprob()))
		}
		require.Greater(t, worst, 0.01, "%s: the rotation must matter", dir)
	}
}

// TestSegments sees the same past as one segment and as several, cut inside blocks.
func TestSegments(t *testing.T) {
	r := newRig(t, openDevice(t), openCheckpoint(t, smallReference), kernels.KVF32)
	tokens := openGolden(t, smallReference+"/golden.json").Cases[2].Tokens
	next := make([]int32, len(tokens))
	for i := range next {
		next[i] = -1
	}
	r.plan.Reset(rigBlockTokens)
	require.NoError(t, r.plan.Add(view(50, 3), 50))
	r.step(&Batch{Tokens: tokens[:50], Plan: &r.plan}, next[:50])

	all := view(64, 3)[0].Blocks
	tail := func(segments ...kvcache.Segment) []outcome {
		r.plan.Reset(rigBlockTokens)
		require.NoError(t, r.plan.Add(segments, 14))
		return r.step(&Batch{Tokens: tokens[50:], Plan: &r.plan}, next[50:])
	}
	want := tail(kvcache.Segment{Blocks: all, Len: 64})
	got := tail(
		kvcache.Segment{Blocks: all, Len: 5},
		kvcache.Segment{Blocks: all, Off: 5, Len: 30, Pos: 5, Stored: 5},
		kvcache.Segment{Blocks: all[2:], Off: 3, Len: 29, Pos: 35, Stored: 35},
	)
	for i := range want {
		require.Equal(t, want[i].Argmax, got[i].Argmax)
		require.InDelta(t, want[i].logprob(), got[i].logprob(), 1e-5)
	}
}

func TestCopyBlock(t *testing.T) {
	r := newRig(t, openDevice(t), openCheckpoint(t, smallReference), kernels.KVF32)
	tokens := openGolden(t, smallReference+"/golden.json").Cases[2].Tokens[:40]
	next := make([]int32, len(tokens))
	want := r.run([][]int32{tokens}, whole)[0][39] // in blocks 1, 2, 3
	next[39] = -1
	require.NoError(t, r.device.Do(context.Background(), func(ops kernels.Ops) error {
		for from, to := range map[int]int{1: 50, 2: rigBlocks, 3: 52} {
			if err := r.kv.CopyBlock(ops, from, to); err != nil {
				return err
			}
		}
		return nil
	}))
	r.plan.Reset(rigBlockTokens)
	require.NoError(t, r.plan.Add([]kvcache.Segment{{Blocks: []kvcache.BlockID{50, rigBlocks, 52}, Len: 40}}, 1))
	got := r.step(&Batch{Tokens: tokens[39:], Plan: &r.plan}, next[39:])
	require.Equal(t, want, got[0])

	for _, bad := range [][2]int{{0, 1}, {1, 0}, {1, rigBlocks + 1}, {rigBlocks + 1, 1}, {-1, 1}, {4, 4}} {
		require.ErrorContains(t, r.device.Do(context.Background(), func(ops kernels.Ops) error {
			return r.kv.CopyBlock(ops, bad[0], bad[1])
		}), "copying block", "%v", bad)
	}
}

// A block that is read and written elsewhere is the same there, as a copy is.
func TestReadAndWriteBlock(t *testing.T) {
	r := newRig(t, openDevice(t), openCheckpoint(t, smallReference), kernels.KVBF16)
	r.run([][]int32{openGolden(t, smallReference+"/golden.json").Cases[2].Tokens[:20]}, whole)
	first, again := make([]byte, r.kv.BlockBytes()), make([]byte, r.kv.BlockBytes())
	do := func(f func(ops kernels.Ops) error) error { return r.device.Do(context.Background(), f) }
	require.NoError(t, do(func(ops kernels.Ops) error { return r.kv.ReadBlock(ops, 1, first) }))
	require.NotEqual(t, again, first)
	require.NoError(t, do(func(ops kernels.Ops) error { return r.kv.WriteBlock(ops, rigBlocks, first) }))
	require.NoError(t, do(func(ops kernels.Ops) error { return r.kv.ReadBlock(ops, rigBlocks, again) }))
	require.Equal(t, first, again)
	for _, bad := range []int{0, -1, rigBlocks + 1} {
		require.ErrorContains(t, do(func(ops kernels.Ops) error { return r.kv.ReadBlock(ops, bad, first) }), "reading block")
		require.ErrorContains(t, do(func(ops kernels.Ops) error { return r.kv.WriteBlock(ops, bad, first) }), "writing block")
	}
	require.ErrorContains(t, do(func(ops kernels.Ops) error { return r.kv.WriteBlock(ops, 1, first[1:]) }), "bytes, want")

	// As transfers, which are done at once here.
	at := func(copied kernels.Pending, err error) error {
		require.Nil(t, copied)
		return err
	}
	clear(again)
	require.NoError(t, do(func(ops kernels.Ops) error { return at(r.kv.TransferIn(ops, rigBlocks-1, first)) }))
	require.NoError(t, do(func(ops kernels.Ops) error { return at(r.kv.TransferOut(ops, rigBlocks-1, again)) }))
	require.Equal(t, first, again)
	require.ErrorContains(t, do(func(ops kernels.Ops) error { return at(r.kv.TransferOut(ops, 0, again)) }), "reading block 0")
	require.ErrorContains(t, do(func(ops kernels.Ops) error { return at(r.kv.TransferIn(ops, 1, first[1:])) }), "bytes, want")
}

func TestKVSize(t *testing.T) {
	r := newRig(t, openDevice(t), openCheckpoint(t, smallReference), kernels.KVBF16)
	require.Equal(t, rigBlocks, r.kv.Blocks())
	require.Equal(t, rigBlockTokens, r.kv.BlockTokens())
	require.Equal(t, rigBlockTokens*r.model.Config.KVBytesPerToken(kernels.KVBF16), r.kv.BlockBytes())
	require.Equal(t, (rigBlocks+1)*r.kv.BlockBytes(), r.kv.Bytes())

	all, used := make([]byte, r.kv.Bytes()), bytes.Repeat([]byte{1}, r.kv.Bytes())
	read := func(ops kernels.Ops) error { return ops.Read(all, r.kv.memory) }
	require.NoError(t, r.device.Do(t.Context(), func(ops kernels.Ops) error { return ops.Write(r.kv.memory, used) }))
	require.NoError(t, r.kv.Clear(t.Context()))
	require.NoError(t, r.device.Do(t.Context(), read))
	require.Equal(t, make([]byte, len(all)), all, "all blocks are cleared, the null block too")

	r.kv.Free()
	r.kv.Free()
	_, err := NewKV(r.device, r.model.Config, 0, 16, kernels.KVBF16)
	require.ErrorContains(t, err, "got 0 blocks of 16 tokens")
	_, err = NewKV(r.device, r.model.Config, 1<<40, 16, kernels.KVBF16)
	require.ErrorIs(t, err, kernels.ErrNoMemory)
}

// TestDecodeAllocatesNothing counts heap allocations of a steady decode step from the manager to the sampled tokens.
func TestDecodeAllocatesNothing(t *testing.T) {
	for set, device := range kernelSets(t) {
		for _, dir := range []string{smallReference, "testdata/goldens/qwen3-moe"} {
			r := newRig(t, device, openCheckpoint(t, dir), kernels.KVBF16)
			step := r.decodeStep(4, 20)
			for range 40 { // over the ends of blocks
				step()
			}
			require.Zero(t, testing.AllocsPerRun(50, step), "kernels=%s %s", set, dir)
			require.NoError(t, r.manager.Check())
		}
	}
}

// decodeStep admits sequences, computes their prompts and returns a function that adds one token to each.
func (r *rig) decodeStep(sequences, prompt int) func() {
	tokens := make([]int32, prompt)
	batch := &Batch{Plan: &r.plan}
	var spans []kvcache.Span
	var segments []kvcache.Segment
	rows := make([]int32, sequences)
	params := make([]kernels.SampleRow, sequences)
	out := make([]kernels.SampleOut, sequences)
	topTokens, topLogits := make([]int32, 5*sequences), make([]float32, 5*sequences)
	for i := range rows {
		params[i] = kernels.SampleRow{Temperature: float32(i % 2), Want: -1, Seed: 3}
		_, err := r.manager.Admit(kvcache.SeqID(i+1), kvcache.Prompt{Tokens: tokens})
		require.NoError(r.t, err)
	}
	device := func(ops kernels.Ops) error {
		if err := r.model.Forward(ops, batch, r.kv); err != nil {
			return err
		}
		if err := r.model.Logits(ops, rows); err != nil {
			return err
		}
		return r.model.Sample(ops, params, 5, out, topTokens, topLogits)
	}
	ctx := context.Background()
	must := func(err error) {
		if err != nil {
			r.t.Fatal(err)
		}
	}
	step := func() {
		r.plan.Reset(rigBlockTokens)
		spans, batch.Tokens = spans[:0], batch.Tokens[:0]
		for i := range sequences {
			from := len(spans)
			spans = r.manager.Next(spans, kvcache.SeqID(i+1), r.model.Options().MaxRows)
			for _, s := range spans[from:] {
				segments = r.manager.View(segments[:0], s)
				must(r.plan.Add(segments, s.Len))
				for range s.Len {
					batch.Tokens = append(batch.Tokens, out[i].Token)
				}
				rows[i] = int32(len(batch.Tokens) - 1)
			}
		}
		must(r.model.Reserve(batch))
		must(r.device.Do(ctx, device))
		for i := range sequences {
			r.manager.Wrote(spans[i])
			must(r.manager.Extend(kvcache.SeqID(i+1), 1))
			params[i].Counter++
		}
	}
	step() // the prompts
	return step
}
