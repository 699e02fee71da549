package kernels

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestChecks breaks one thing at a time in valid parameters. Each error names the argument, and nothing has run.
func TestChecks(t *testing.T) {
	const rows = 20
	big := math.MaxInt / 2
	cases := []struct {
		op     string
		change func(f *fixture)
		want   string
	}{
		{"Embed", func(f *fixture) { f.Embed.Rows = -1 }, "Out [-1, 64] cannot be"},
		{"Embed", func(f *fixture) { f.Embed.Rows = big }, "cannot be"},
		{"Embed", func(f *fixture) { f.Embed.Out = f.Embed.Out.Slice(0, 400) }, "Out has 100 elements, want [20, 64]"},
		{"Embed", func(f *fixture) { f.Embed.Tokens = f.Embed.Tokens.Slice(0, 4) }, "Tokens has 1 elements, want [20, 1]"},
		{"Embed", func(f *fixture) { f.Embed.Tokens.int32s()[3] = 300 }, "Tokens[3] is 300, want 0 to 299"},
		{"Embed", func(f *fixture) { f.Embed.Tokens.int32s()[4] = -1 }, "Tokens[4] is -1, want 0 to 299"},
		{"Embed", func(f *fixture) { f.Embed.Table.Format = 0 }, "Table.Format is 0, want BF16"},
		{"NormQKV", func(f *fixture) { f.NormQKV.Norm = f.NormQKV.Norm.Slice(0, 100) }, "W.Cols 64, Norm has 50"},
		{"NormQKV", func(f *fixture) { f.NormQKV.Norm = Buffer{} }, "W.Cols 64, Norm has 0"},
		{"NormQKV", func(f *fixture) { f.NormQKV.W.Rows = 0 }, "W is [0, 64]"},
		{"NormQKV", func(f *fixture) { f.NormQKV.W.Rows = big }, "W is ["},
		{"NormQKV", func(f *fixture) { f.NormQKV.W.Rows++ }, "W.Rows is 129, its parts have 128"},
		{"NormQKV", func(f *fixture) { f.NormQKV.W.Rows-- }, "W.Parts[2].Rows is 32, after 96 of 127"},
		{"NormQKV", func(f *fixture) { f.NormQKV.W.Parts[1].Rows = -5 }, "W.Parts[1].Rows is -5"},
		{"NormQKV", func(f *fixture) { f.NormQKV.W.Parts[1].Data.size-- }, "W.Parts[1].Data has 4095 bytes, want 4096 for [32, 64]"},
		{"NormQKV", func(f *fixture) { f.NormQKV.W.Parts[0].Bias.size = 2 }, "W.Parts[0].Bias has 2 bytes, want 128"},
		{"NormQKV", func(f *fixture) { f.NormQKV.W.Parts[0].Scales = f.NormQKV.Norm }, "W.Parts[0].Scales are given"},
		{"NormQKV", func(f *fixture) { f.NormQKV.X = f.NormQKV.X.Slice(2, 20*64*4-2) }, "X has"},
		{"NormQKV", func(f *fixture) { f.NormQKV.Rows, f.NormQKV.X = 1, f.NormQKV.X.Slice(2, 400) }, "X is not aligned to 4 bytes"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.HeadDim = 12 }, "HeadDim is 12, want a multiple of 8 up to 256"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.HeadDim = 264 }, "HeadDim is 264"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.Heads = 3 }, "Heads 3, KVHeads 2: want a multiple"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.KVHeads = 0 }, "Heads 4, KVHeads 0"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.QNorm.size = 4 }, "HeadDim 16, QNorm has 2"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.KNorm.size = 4 }, "HeadDim 16, KNorm has 2"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.Rope.size = 60 }, "Rope has 15 elements, want [1, 16]"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.Positions.int32s()[19] = 128 }, "Positions[19] is 128, want 0 to 127"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.Slots.int32s()[0] = 48 }, "Slots[0] is 48, want 0 to 47"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.KV.Type = 9 }, "KV.Type is 9"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.KV.BlockTokens = 0 }, "KV.BlockTokens is 0"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.KV.TokenStride = 62 }, "KV.TokenStride is 62 bytes, a token's keys have 64"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.KV.VOffset = 2 }, "KV.VOffset is 2 bytes, a token's keys have 64"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.KV.HeadStride = 30 }, "KV.HeadStride is 30 bytes, a head's key has 32"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.KV.HeadStride = 140 }, "a token's keys have 172"},
		{"QKNormRopeWrite", func(f *fixture) { kv := &f.QKNormRopeWrite.KV; kv.TokenStride, kv.HeadStride = 32, 510 }, "a head's keys in a block have 512"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.KV.BlockStride++ }, "KV strides are"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.KV.Base.size = 100 }, "KV.Base has 100 bytes, a block takes"},
		{"Attend", func(f *fixture) { f.Attend.QStride = 63 }, "QStride is 63, the query has 64"},
		{"Attend", func(f *fixture) { f.Attend.Q.size = 128 }, "Q has 32 elements"},
		{"Attend", func(f *fixture) { f.Attend.Out.size = 128 }, "Out has 32 elements, want [20, 64]"},
		{"Attend", func(f *fixture) { f.Attend.Work.Blocks.int32s()[1] = 3 }, "Work.Blocks[1] is 3, want 0 to 2"},
		{"Attend", func(f *fixture) { f.Attend.Work.segments()[0].Len = 33 }, "Work.Segments[0] wants blocks 0 to 3 of 2"},
		{"Attend", func(f *fixture) { f.Attend.Work.segments()[0].Block = -1 }, "Work.Segments[0] wants blocks -1 to 1 of 2"},
		{"Attend", func(f *fixture) { f.Attend.Work.segments()[0].Off = -1 }, "Work.Segments[0] wants blocks"},
		{"Attend", func(f *fixture) { f.Attend.Work.segments()[0].Stored = 128 }, "Work.Segments[0] is at position 0, stored for 128; Rope has 128"},
		{"Attend", func(f *fixture) { f.Attend.Work.items()[0].Rows = 21 }, "Work.Items[0] has rows 0 to 21 of 20"},
		{"Attend", func(f *fixture) { f.Attend.Work.items()[0].Row = -1 }, "Work.Items[0] has rows -1 to 19 of 20"},
		{"Attend", func(f *fixture) { f.Attend.Work.items()[0].Segments = 2 }, "Work.Items[0] has segments 0 to 2 of 1"},
		{"Attend", func(f *fixture) { f.Attend.Work.ItemCount = 2 }, "Work.Items has 4 elements, want [2, 4]"},
		{"Attend", func(f *fixture) { f.Attend.Work.SegmentCount = 2 }, "Work.Segments has 5 elements, want [2, 5]"},
		{"Attend", func(f *fixture) { f.Attend.Work.BlockCount = -1 }, "Work.Blocks [-1, 1] cannot be"},
		{"ProjAdd", func(f *fixture) { f.ProjAdd.Rows = 21 }, "X has 1280 elements, want [21, 64]"},
		{"ProjAdd", func(f *fixture) { f.ProjAdd.Out = Buffer{} }, "Out has 0 elements, want [20, 64]"},
		{"NormGateUp", func(f *fixture) { f.NormGateUp.Norm.size = 2 }, "W.Cols 64, Norm has 1"},
		{"NormGateUp", func(f *fixture) { f.NormGateUp.Out.size = 64 }, "Out has 16 elements, want [20, 192]"},
		{"SiluDownAdd", func(f *fixture) { f.SiluDownAdd.GateUp.size /= 2 }, "GateUp has 1920 elements, want [20, 192]"},
		{"SiluDownAdd", func(f *fixture) { f.SiluDownAdd.Out.size = 4 }, "Out has 1 elements, want [20, 64]"},
		{"MoE", func(f *fixture) { f.MoE.TopK = 5 }, "TopK is 5 of 4 experts"},
		{"MoE", func(f *fixture) { f.MoE.TopK = 0 }, "TopK is 0 of 4 experts"},
		{"MoE", func(f *fixture) { f.MoE.Down = f.MoE.Down[:3] }, "GateUp has 4 experts, Down 3, Router 4"},
		{"MoE", func(f *fixture) { f.MoE.GateUp[2] = f.MoE.Down[2] }, "expert 2 has GateUp [64, 32] and Down [64, 32], hidden size 64"},
		{"MoE", func(f *fixture) { f.MoE.Norm.size = 2 }, "Router.Cols 64, Norm has 1"},
		{"Head", func(f *fixture) { f.Head.Index.int32s()[7] = 20 }, "Index[7] is 20, want 0 to 19"},
		{"Head", func(f *fixture) { f.Head.Logits.size = 40 }, "Logits has 10 elements, want [20, 300]"},
		{"Head", func(f *fixture) { f.Head.Norm.size = 2 }, "W.Cols 64, Norm has 1"},
		{"Head", func(f *fixture) { f.Head.X.size = 2 }, "X has 0 elements, want [1, 64]"},
		{"Sample", func(f *fixture) { f.Sample.Vocab = 0 }, "Vocab is 0"},
		{"Sample", func(f *fixture) { f.Sample.Vocab = 301 }, "Logits has 6000 elements, want [20, 301]"},
		{"Sample", func(f *fixture) { f.Sample.Params.size = 24 }, "Params has"},
		{"Sample", func(f *fixture) { f.Sample.Out.size = 24 }, "Out has"},
		{"Sample", func(f *fixture) { f.Sample.TopN = 65 }, "TopN is 65, want 0 to 64"},
		{"Sample", func(f *fixture) { f.Sample.TopN = 4 }, "TopTokens has 60 elements, want [20, 4]"},
		{"Sample", func(f *fixture) { f.Sample.TopLogits.size = 4 }, "TopLogits has 1 elements, want [20, 3]"},
		{"Sample", func(f *fixture) { f.Sample.params()[2].Temperature = -1 }, "Params[2].Temperature is -1"},
		{"Sample", func(f *fixture) { f.Sample.params()[2].Temperature = float32(math.NaN()) }, "Params[2].Temperature is NaN"},
		{"Sample", func(f *fixture) { f.Sample.params()[2].Temperature = float32(math.Inf(1)) }, "Params[2].Temperature is +Inf"},
		{"Sample", func(f *fixture) { f.Sample.params()[9].Want = 300 }, "Params[9].Want is 300, Vocab 300"},
	}
	r := newRig(t, "", 2)
	for _, c := range cases {
		t.Run(c.op+"/"+c.want, func(t *testing.T) {
			f := r.fixture(rows)
			run := f.operations()[c.op]
			require.NoError(t, r.dev.Do(context.Background(), run), "before the change")
			x, kv := f.Embed.Out, f.Attend.KV.Base
			c.change(f)
			hidden, cached := bits(x), slices.Clone(kv.bytes())
			err := r.dev.Do(context.Background(), run)
			require.ErrorContains(t, err, "kernels: "+c.op+": ")
			require.ErrorContains(t, err, c.want)
			require.Equal(t, hidden, bits(x))
			require.Equal(t, cached, kv.bytes())
		})
	}
	host := r.floats(10)
	for _, c := range []struct {
		want string
		run  func(Ops) error
	}{
		{"kernels: Write: dst has 40 bytes, src 3", func(o Ops) error { return o.Write(host, make([]byte, 3)) }},
		{"kernels: Read: dst has 3 bytes, src 40", func(o Ops) error { return o.Read(make([]byte, 3), host) }},
		{"kernels: Copy: dst has 40 bytes, src 36", func(o Ops) error { return o.Copy(host, host.Slice(0, 36)) }},
	} {
		require.EqualError(t, r.dev.Do(context.Background(), c.run), c.want)
	}
}

// TestNoRows has nothing to do and does nothing.
func TestNoRows(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 2)
		f := r.fixture(3)
		f.Embed.Rows, f.NormQKV.Rows, f.QKNormRopeWrite.Rows, f.Attend.Rows, f.ProjAdd.Rows = 0, 0, 0, 0, 0
		f.NormGateUp.Rows, f.SiluDownAdd.Rows, f.MoE.Rows, f.Head.Rows, f.Sample.Rows = 0, 0, 0, 0, 0
		f.Attend.Work.ItemCount = 0
		x, kv := bits(f.Embed.Out), slices.Clone(f.Attend.KV.Base.bytes())
		for _, run := range f.operations() {
			r.do(run)
		}
		require.Equal(t, x, bits(f.Embed.Out))
		require.Equal(t, kv, f.Attend.KV.Base.bytes())
	})
}
