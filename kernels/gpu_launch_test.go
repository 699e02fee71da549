//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/cuda"
)

// gpuFixture is the fixture for a stub, whose memory is the host's: only the cache is laid out as a GPU wants it.
func (r *rig) gpuFixture(rows int) *fixture {
	f := r.fixture(rows)
	const token = 2 * 16 * 2 // heads, dimensions, bytes
	kv := KVLayout{BlockTokens: 16, TokenStride: token, VOffset: 16 * token, BlockStride: 32 * token}
	kv.Base = r.alloc((ceilDiv(rows, 16) + 1) * kv.BlockStride)
	f.QKNormRopeWrite.KV, f.Attend.KV = kv, kv
	return f
}

// gpuOperations runs each operation of the fixture, also what a GPU has beyond them.
func (f *fixture) gpuOperations() map[string]func(Ops) error {
	all := f.operations()
	all["MLP"] = func(o Ops) error { return o.(MLPOps).MLP(&f.MLP) }
	return all
}

// step is one launch that a test wants: the kernel, its grid and threads, and a look at its params.
type step struct {
	kernel cuda.Kernel
	grid   [2]int
	block  int
	check  func(t *testing.T, l launched)
}

// TestGPULaunches: each operation queues the kernels it should, with the params it should, for a stub with 132
// multiprocessors.
func TestGPULaunches(t *testing.T) {
	const rows, hidden, inner, vocab = 20, 64, 96, 300
	s, d := openStub(t)
	r := newRig(t, "go", 1)
	f := r.gpuFixture(rows)
	g := d.backend.(*gpu)
	room := func(kind roomKind) uint64 { return uint64(g.rooms[kind].at) }

	few := func(want cuda.GemvParams) func(*testing.T, launched) {
		return func(t *testing.T, l launched) { require.Equal(t, want, paramsOf[cuda.GemvParams](t, l)) }
	}
	norm := func(x, index, weight Buffer, rows int) func(*testing.T, launched) {
		return func(t *testing.T, l launched) {
			require.Equal(t, cuda.RMSNormParams{
				X: address(x), Index: address(index), Weight: address(weight), Out: room(roomNormed), Rows: int32(rows), Cols: hidden, Eps: 1e-6,
			}, paramsOf[cuda.RMSNormParams](t, l))
		}
	}
	qkv := &f.NormQKV.W
	parts := cuda.WeightParts{
		Data: [4]uint64{address(qkv.Parts[0].Data), address(qkv.Parts[1].Data), address(qkv.Parts[2].Data)},
		Bias: [4]uint64{address(qkv.Parts[0].Bias), 0, address(qkv.Parts[2].Bias)},
		Ends: [4]int32{64, 96, 128, 128},
	}
	one := func(w *Weight) cuda.WeightParts { return partsOf(w) }
	blocks := 132 * (2048 / 128) // of an attention kernel, by the stub's count of blocks to a multiprocessor
	shared := func(k cuda.Kernel) int { return 132 * min(2048/128, 232448/k.SharedBytes()) }
	pairs := 2 * rows
	for _, c := range []struct {
		op   string
		want []step
	}{
		{"Embed", []step{{cuda.EmbedBF16, [2]int{rows, 1}, 256, func(t *testing.T, l launched) {
			require.Equal(t, cuda.EmbedParams{Tokens: address(f.Embed.Tokens), Out: address(f.Embed.Out), Table: one(&f.Embed.Table), Rows: rows, Cols: hidden, SampledStride: 6},
				paramsOf[cuda.EmbedParams](t, l))
		}}}},
		{"NormQKV", []step{
			{cuda.RMSNormBF16, [2]int{3, 1}, 256, func(t *testing.T, l launched) { norm(f.NormQKV.X, Buffer{}, f.NormQKV.Norm, rows)(t, l) }},
			{cuda.Gemv32x8BF16, [2]int{16, 1}, 256, func(t *testing.T, l launched) {
				p := &f.NormQKV
				few(cuda.GemvParams{X: room(roomNormed), Out: address(p.Out), W: parts, XStride: hidden, OutStride: 128, Rows: rows, Cols: hidden, Outputs: 128})(t, l)
				require.Equal(t, 65536+8*32*8*4, l.shared)
			}},
		}},
		{"QKNormRopeWrite", []step{{cuda.QKNormRopeWriteBF16, [2]int{rows * 8 / 4, 1}, 128, func(t *testing.T, l launched) {
			p := &f.QKNormRopeWrite
			require.Equal(t, cuda.QKNormRopeWriteParams{
				QKV: address(p.QKV), QNorm: address(p.QNorm), KNorm: address(p.KNorm), Rope: address(p.Rope), Positions: address(p.Positions),
				Slots: address(p.Slots), KV: cuda.KVCache{Base: address(p.KV.Base), BlockStride: 2048, VOffset: 1024, TokenStride: 64, BlockTokens: 16},
				Rows: rows, Heads: 4, KVHeads: 2, HeadDim: 16, Eps: 1e-6,
			}, paramsOf[cuda.QKNormRopeWriteParams](t, l))
		}}}},
		{"Attend", []step{
			{cuda.AttendPlan, [2]int{1, 1}, 1024, func(t *testing.T, l launched) {
				p := paramsOf[cuda.AttendPlanParams](t, l)
				require.Equal(t, address(f.Attend.Work.Items), p.Items)
				require.Equal(t, address(f.Attend.Work.Segments), p.Segments)
				require.Equal(t, address(f.Attend.Positions), p.Positions)
				require.Equal(t, []uint64{room(roomCounts), room(roomDecodeTiles), room(roomPrefillTiles), room(roomMerges), room(roomPartList)},
					[]uint64{p.Counts, p.DecodeTiles, p.PrefillTiles, p.Merges, p.PartList})
				require.Equal(t, []int32{1, int32(cuda.AttendParts(rows)), 2, 2, 0}, []int32{p.ItemsMost, p.PartsMost, p.Group, p.DecodeQueries, p.OnlyDecode})
				require.Positive(t, p.DecodeSplit)
			}},
			{cuda.AttendDecodeQ2BF16D64, [2]int{blocks, 1}, 128, func(t *testing.T, l launched) {
				p, a := paramsOf[cuda.AttendParams](t, l), &f.Attend
				require.Equal(t, cuda.AttendParams{
					Q: address(a.Q), Out: address(a.Out), Positions: address(a.Positions), Rope: address(a.Rope),
					KV:         cuda.KVCache{Base: address(a.KV.Base), BlockStride: 2048, VOffset: 1024, TokenStride: 64, BlockTokens: 16},
					HeadStride: 32, Segments: address(a.Work.Segments), Blocks: address(a.Work.Blocks), Items: address(a.Work.Items),
					Counts: room(roomCounts), DecodeTiles: room(roomDecodeTiles), PrefillTiles: room(roomPrefillTiles), Merges: room(roomMerges),
					PartList: room(roomPartList), PartValues: room(roomPartValues), PartWeights: room(roomPartWeights),
					QStride: 128, Heads: 4, KVHeads: 2, HeadDim: 16, ItemsMost: 1, Scale: 0.25,
				}, p)
			}},
			{cuda.AttendPrefillBF16D64, [2]int{shared(cuda.AttendPrefillBF16D64), 1}, 128, nil},
			{cuda.AttendMergeBF16, [2]int{blocks, 1}, 128, nil},
		}},
		{"ProjAdd", []step{{cuda.Gemv32x32K4BF16, [2]int{8, 1}, 256, func(t *testing.T, l launched) {
			p := &f.ProjAdd
			few(cuda.GemvParams{X: address(p.X), Out: address(p.Out), W: one(&p.W), XStride: 64, OutStride: 64, Rows: rows, Cols: 64, Outputs: 64, Store: cuda.AddBF16})(t, l)
		}}}},
		{"NormGateUp", []step{{cuda.RMSNormBF16, [2]int{3, 1}, 256, nil}, {cuda.Gemv32x8BF16, [2]int{24, 1}, 256, nil}}},
		{"SiluDownAdd", []step{
			{cuda.SiluMulBF16, [2]int{rows, 1}, 256, func(t *testing.T, l launched) {
				require.Equal(t, cuda.SiluMulParams{GateUp: address(f.SiluDownAdd.GateUp), Out: room(roomGated), Rows: rows, Inner: inner}, paramsOf[cuda.SiluMulParams](t, l))
			}},
			{cuda.Gemv32x32K4BF16, [2]int{8, 1}, 256, func(t *testing.T, l launched) {
				p := &f.SiluDownAdd
				few(cuda.GemvParams{X: room(roomGated), Out: address(p.Out), W: one(&p.W), XStride: inner, OutStride: 64, Rows: rows, Cols: inner, Outputs: 64, Store: cuda.AddBF16})(t, l)
			}},
		}},
		{"MLP", []step{
			{cuda.RMSNormBF16, [2]int{3, 1}, 256, nil},
			{cuda.Gemv32x16BF16, [2]int{12, 1}, 256, func(t *testing.T, l launched) {
				few(cuda.GemvParams{
					X: room(roomNormed), Out: room(roomGated), W: one(&f.MLP.GateUp), XStride: 64, OutStride: inner,
					Rows: rows, Cols: 64, Outputs: inner, Store: cuda.GateBF16, Eps: 1e-6,
				})(t, l)
			}},
			{cuda.Gemv32x32K4BF16, [2]int{8, 1}, 256, func(t *testing.T, l launched) {
				p := &f.MLP
				few(cuda.GemvParams{X: room(roomGated), Out: address(p.Out), W: one(&p.Down), XStride: inner, OutStride: 64, Rows: rows, Cols: inner, Outputs: 64, Store: cuda.AddBF16})(t, l)
			}},
		}},
		{"MoE", []step{
			{cuda.RMSNormBF16, [2]int{3, 1}, 256, func(t *testing.T, l launched) { norm(f.MoE.X, Buffer{}, f.MoE.Norm, rows)(t, l) }},
			{cuda.Gemv32x8BF16, [2]int{1, 1}, 256, func(t *testing.T, l launched) {
				few(cuda.GemvParams{X: room(roomNormed), Out: room(roomRouter), W: one(&f.MoE.Router), XStride: hidden, OutStride: 4, Rows: rows, Cols: hidden, Outputs: 4, Store: cuda.StoreF32})(t, l)
			}},
			{cuda.MoERouteF32, [2]int{5, 1}, 128, func(t *testing.T, l launched) {
				require.Equal(t, cuda.MoERouteParams{Logits: room(roomRouter), Chosen: room(roomChosen), Weights: room(roomWeights), Rows: rows, Experts: 4, TopK: 2},
					paramsOf[cuda.MoERouteParams](t, l))
			}},
			{cuda.MoESort, [2]int{4, 1}, 1024, nil},
			{cuda.MoEGemmBF16, [2]int{cuda.MoETiles(pairs, 4), 1}, 128, func(t *testing.T, l launched) {
				p := paramsOf[cuda.MoEGemmParams](t, l)
				require.Equal(t, []uint64{room(roomNormed), room(roomSource), room(roomGateUp), room(roomTiles), room(roomTileCount)}, []uint64{p.X, p.Index, p.Out, p.Tiles, p.TileCount})
				require.Equal(t, []int32{hidden, 2 * 32, cuda.StoreBF16}, []int32{p.Cols, p.Outputs, p.Store})
				require.Equal(t, address(f.MoE.GateUp[3].Parts[1].Data), expertParts(p.Experts)[3].Data[1])
			}},
			{cuda.SiluMulBF16, [2]int{pairs, 1}, 256, nil},
			{cuda.MoEGemmBF16, [2]int{cuda.MoETiles(pairs, 4), 1}, 128, func(t *testing.T, l launched) {
				p := paramsOf[cuda.MoEGemmParams](t, l)
				require.Equal(t, []uint64{room(roomGated), 0, room(roomDown)}, []uint64{p.X, p.Index, p.Out})
				require.Equal(t, []int32{32, hidden, cuda.StoreF32}, []int32{p.Cols, p.Outputs, p.Store})
				require.Equal(t, address(f.MoE.Down[2].Parts[0].Data), expertParts(p.Experts)[2].Data[0])
			}},
			{cuda.MoECombineBF16, [2]int{rows, 1}, 256, nil},
		}},
		{"Head", []step{
			{cuda.RMSNormBF16, [2]int{3, 1}, 256, func(t *testing.T, l launched) { norm(f.Head.X, f.Head.Index, f.Head.Norm, rows)(t, l) }},
			{cuda.Gemv32x8BF16, [2]int{38, 1}, 256, func(t *testing.T, l launched) {
				p := &f.Head
				few(cuda.GemvParams{X: room(roomNormed), Out: address(p.Logits), W: one(&p.W), XStride: hidden, OutStride: vocab, Rows: rows, Cols: hidden, Outputs: vocab, Store: cuda.StoreF32})(t, l)
			}},
		}},
		{"Sample", []step{
			{cuda.SampleScan, [2]int{rows, 1}, 256, func(t *testing.T, l launched) {
				p := &f.Sample
				require.Equal(t, cuda.SampleParams{
					Logits: address(p.Logits), Params: address(p.Params), Out: address(p.Out), TopTokens: address(p.TopTokens), TopLogits: address(p.TopLogits),
					ChunkRoom: room(roomChunks), RowsMost: rows, Vocab: vocab, TopN: 3,
				}, paramsOf[cuda.SampleParams](t, l))
			}},
			{cuda.SamplePick, [2]int{rows, 1}, 1024, nil},
			{cuda.SampleTop, [2]int{rows, 1}, 1024, nil},
		}},
	} {
		t.Run(c.op, func(t *testing.T) {
			s.lines()
			require.NoError(t, d.Do(context.Background(), f.gpuOperations()[c.op]))
			got := s.launchesSince(t)
			var names, want []string
			for _, l := range got {
				names = append(names, fmt.Sprintf("%v %v %v", l.kernel, l.grid, l.block))
			}
			for _, w := range c.want {
				want = append(want, fmt.Sprintf("%v %v %v", w.kernel, w.grid, w.block))
			}
			require.Equal(t, want, names)
			for i, w := range c.want {
				if w.check != nil {
					w.check(t, got[i])
				}
			}
		})
	}
	t.Run("Sample with filters", func(t *testing.T) {
		p := f.Sample
		p.TopN, p.Filters = 0, r.alloc(rows*sizeOf[SampleFilter]())
		p.Biases, p.Counts = r.alloc(8), r.alloc(8)
		require.NoError(t, d.Do(context.Background(), func(o Ops) error { return o.Sample(&p) }))
		got := s.launchesSince(t)
		require.Len(t, got, 3)
		require.Equal(t, cuda.SampleWeigh.String(), got[1].kernel)
		k := paramsOf[cuda.SampleParams](t, got[1])
		require.Equal(t, []uint64{address(p.Filters), address(p.Biases), address(p.Counts), room(roomEdited), room(roomBinWeights), room(roomBinCounts)},
			[]uint64{k.Filters, k.Biases, k.Counts, k.Edited, k.BinWeights, k.BinCounts})
	})
}

// TestGPULaunchesManyRows: products of more rows are normalized and gated by kernels of their own.
func TestGPULaunchesManyRows(t *testing.T) {
	const rows, inner = 70, 96
	s, d := openStub(t)
	r := newRig(t, "go", 1)
	f := r.gpuFixture(rows)
	for op, want := range map[string][]string{
		"NormQKV":     {"rmsnorm_bf16 [9 1]", "gemm_small_bf16 [2 2]"},
		"ProjAdd":     {"gemm_small_bf16 [2 1]"},
		"NormGateUp":  {"rmsnorm_bf16 [9 1]", "gemm_small_bf16 [2 3]"},
		"SiluDownAdd": {"silu_mul_bf16 [70 1]", "gemm_small_bf16 [2 1]"},
		"MLP":         {"rmsnorm_bf16 [9 1]", "gemm_small_bf16 [2 3]", "silu_mul_bf16 [70 1]", "gemm_small_bf16 [2 1]"},
		"Head":        {"rmsnorm_bf16 [9 1]", "gemm_small_bf16 [2 5]"},
	} {
		s.lines()
		require.NoError(t, d.Do(context.Background(), f.gpuOperations()[op]))
		var got []string
		for _, l := range s.launchesSince(t) {
			got = append(got, fmt.Sprintf("%v %v", l.kernel, l.grid))
			if l.kernel == cuda.GemmSmallBF16.String() {
				require.Equal(t, cuda.GemmSmallShared, l.shared)
			}
		}
		require.Equal(t, want, got, op)
	}
}

// TestGPULaunchesLittleShared: where shared memory is too small for the kernels of few rows, those of many take their place.
func TestGPULaunchesLittleShared(t *testing.T) {
	s, d := openStub(t)
	f := newRig(t, "go", 1).gpuFixture(3)
	g := d.backend.(*gpu)
	for k := range g.functions {
		if cuda.Kernel(k).Image() == "gemv" {
			g.functions[k].err = errors.ErrUnsupported
		}
	}
	for op, want := range map[string][]string{
		"NormQKV": {"rmsnorm_bf16", "gemm_small_bf16"},
		"ProjAdd": {"gemm_small_bf16"},
		"MLP":     {"rmsnorm_bf16", "gemm_small_bf16", "silu_mul_bf16", "gemm_small_bf16"},
		"Head":    {"rmsnorm_bf16", "gemm_small_bf16"},
	} {
		s.lines()
		require.NoError(t, d.Do(context.Background(), f.gpuOperations()[op]))
		var got []string
		for _, l := range s.launchesSince(t) {
			got = append(got, l.kernel)
		}
		require.Equal(t, want, got, op)
	}
}

// expertParts is the table of four experts on a stub, whose memory is the host's.
func expertParts(at uint64) []cuda.WeightParts {
	return unsafe.Slice((*cuda.WeightParts)(deviceBuffer(cuda.Ptr(at), 0).addr), 4)
}

// TestGPUPlansOnce: the layers of a step share a plan, until something that it depends on has changed.
func TestGPUPlansOnce(t *testing.T) {
	s, d := openStub(t)
	r := newRig(t, "go", 1)
	f := r.gpuFixture(20)
	attend := func(o Ops) error { return o.Attend(&f.Attend) }
	f32 := f.Attend
	f32.KV.Type, f32.KV.TokenStride, f32.KV.VOffset, f32.KV.BlockStride = KVF32, 256, 128, 16*256
	f32.KV.Base = r.alloc(3 * f32.KV.BlockStride)
	extra, err := d.Alloc(100)
	require.NoError(t, err)
	lists := map[string]Buffer{"items": f.Attend.Work.Items, "segments": f.Attend.Work.Segments, "positions": f.Attend.Positions}
	for _, c := range []struct {
		name  string
		do    func(Ops) error
		plans bool
	}{
		{"the first layer", attend, true},
		{"the second", attend, false},
		{"a write beside", func(o Ops) error { return o.Write(extra, make([]byte, 100)) }, false},
		{"then a layer", attend, false},
		{"other keys", func(o Ops) error { return o.Attend(&f32) }, true},
		{"the first again", attend, true},
		{"memory that was freed", func(o Ops) error { d.Free(extra); return o.Attend(&f.Attend) }, true},
		{"then a layer", attend, false},
	} {
		s.lines()
		require.NoError(t, d.Do(context.Background(), c.do))
		planned := false
		for _, l := range s.launchesSince(t) {
			planned = planned || l.kernel == cuda.AttendPlan.String()
		}
		require.Equal(t, c.plans, planned, c.name)
	}
	for name, list := range lists {
		for _, change := range []func(Ops) error{
			func(o Ops) error { return o.Write(list.Slice(4, 4), list.bytes()[4:8]) },
			func(o Ops) error { return o.Copy(list.Slice(0, 4), f.Head.Index.Slice(40, 4)) },
		} {
			require.NoError(t, d.Do(context.Background(), change))
			s.lines()
			require.NoError(t, d.Do(context.Background(), attend))
			require.Equal(t, cuda.AttendPlan.String(), s.launchesSince(t)[0].kernel, "after a write to %s", name)
		}
	}
}

// TestGPUWide: products of many rows go to Hopper's kernels, in clusters and with tensor maps, gate and up in one; not so
// odd sizes, few rows and PTX.
func TestGPUWide(t *testing.T) {
	const rows, hidden, inner = 100, 64, 96
	stub, options := newStub(t)
	for _, set := range []string{"cuda sm_90a", "cuda ptx"} {
		d, err := open(Options{Device: "cuda", KernelSet: set}, options)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, d.Close()) })
		r := newTwin(t, d) // its device memory is aligned
		room := func(bytes int) Buffer { return r.put(make([]byte, bytes)) }
		weight := func(cols int, parts ...int) Weight { return r.weightOf(r.weight(cols, false, parts...)) }
		norm, x, wide := room(2*hidden), room(2*rows*hidden), room(2*rows*2*inner)
		gateUp, down, odd := weight(hidden, inner, inner), weight(inner, hidden), weight(hidden, 2*inner-1)
		launches := func(run func(o Ops) error) []launched {
			stub.lines()
			require.NoError(t, d.Do(context.Background(), run))
			return stub.launchesSince(t)[1:] // after the norm
		}
		up := func(w Weight, rows int) func(o Ops) error {
			return func(o Ops) error {
				return o.NormGateUp(&NormGateUpParams{X: x, Norm: norm, Eps: 1e-6, W: w, Out: wide, Rows: rows})
			}
		}
		params := MLPParams{X: x, Norm: norm, Eps: 1e-6, GateUp: gateUp, Down: down, Out: x, Rows: rows}
		mlp := func(o Ops) error { return o.(MLPOps).MLP(&params) }
		require.Equal(t, cuda.GemmSmallBF16.String(), launches(up(odd, rows))[0].kernel)
		if set == "cuda ptx" {
			require.Equal(t, cuda.GemmSmallBF16.String(), launches(up(gateUp, rows))[0].kernel)
			require.Len(t, launches(mlp), 3)
		} else {
			require.NotContains(t, launches(up(gateUp, cuda.WideLeastRows-1))[0].kernel, "sm90")
			got := launches(up(gateUp, rows))
			require.Len(t, got, 1)
			require.Contains(t, got[0].kernel, "sm90_gemm")
			p := paramsOf[cuda.WideGemmParams](t, got[0])
			require.Equal(t, []any{address(wide), int32(rows), int32(1), int32(0), [4]int32{96, 192, 192, 192}}, []any{p.Out, p.Rows, p.Steps, p.Gated, p.Ends})
			require.Equal(t, []uint64{uint64(d.backend.(*gpu).rooms[roomNormed].at), hidden, rows, 2 * hidden}, p.X[:4], "the stub's map")
			require.Equal(t, []uint64{address(gateUp.Parts[1].Data), hidden, inner, 2 * hidden}, p.W[1][:4])

			got = launches(mlp)
			require.Len(t, got, 2, "gate and up, down")
			first, second := paramsOf[cuda.WideGemmParams](t, got[0]), paramsOf[cuda.WideGemmParams](t, got[1])
			require.Equal(t, []any{int32(1), int64(inner), int32(0), int32(cuda.AddBF16)}, []any{first.Gated, first.OutStride, second.Gated, second.Store})
			require.Equal(t, first.Out, second.X[0])

			stub.quiet = 1
			require.Zero(t, testing.AllocsPerRun(20, func() { _ = d.Do(context.Background(), mlp) }))
			stub.quiet = 0
			few, in, out := weight(2048, 1024), room(2*256*2048), room(2*256*1024)
			stub.lines()
			require.NoError(t, d.Do(context.Background(), func(o Ops) error {
				return o.ProjAdd(&ProjAddParams{X: in, W: few, Out: out, Rows: 256})
			}))
			require.Regexp(t, "^cluster=[2-8],1,1$", stub.launchesSince(t)[0].rest, "few outputs: blocks divide the columns")
		}
	}
}

// TestGPUChecks: what only a GPU refuses. TestChecks has the rest.
func TestGPUChecks(t *testing.T) {
	s, d := openStub(t)
	r := newRig(t, "go", 1)
	for _, c := range []struct {
		op     string
		change func(f *fixture)
		want   string
	}{
		{"Embed", func(f *fixture) { f.Embed.Rows = -1 }, "Out [-1, 64] cannot be"},
		{"Embed", func(f *fixture) { f.Embed.Out = f.Embed.Out.Slice(1, f.Embed.Out.size-1) }, "Out is not aligned to 2 bytes"},
		{"NormQKV", func(f *fixture) { f.NormQKV.W = r.weight(64, false, 1, 1, 1, 1, 1) }, "W has 5 parts, want 4 at most"},
		{"NormGateUp", func(f *fixture) { f.NormGateUp.W.Format = 7 }, "W.Format is 7"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.KV.TokenStride += 2 }, "KV strides are 2048, 66 and 1024 bytes, want multiples of 16"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.KV.Type = 9 }, "KV.Type is 9"},
		{"QKNormRopeWrite", func(f *fixture) { f.QKNormRopeWrite.QKV = f.QKNormRopeWrite.QKV.Slice(2, 20*128*2) }, "QKV is not aligned to 4 bytes"},
		{"Attend", func(f *fixture) { f.Attend.KV.Base = f.Attend.KV.Base.Slice(8, 2048) }, "KV strides are 2048, 64 and 1024 bytes, want multiples of 16"},
		{"Attend", func(f *fixture) { f.Attend.Work.ItemCount = 2 }, "Work.Items has 4 elements, want [2, 4]"},
		{"Attend", func(f *fixture) { f.Attend.Out = f.Attend.Out.Slice(2, 20*64*2) }, "Out is not aligned to 4 bytes"},
		{"MLP", func(f *fixture) { f.MLP.Rows = 41 }, "X has 2560 elements, want [41, 64]"},
		{"MLP", func(f *fixture) { f.MLP.Norm.size = 2 }, "GateUp.Cols 64, Norm has 1"},
		{"MLP", func(f *fixture) { f.MLP.Out.size = 4 }, "Out has 2 elements, want [20, 64]"},
		{"MLP", func(f *fixture) { f.MLP.Down = f.ProjAdd.W }, "GateUp is [192, 64], Down [64, 64]"},
		{"MLP", func(f *fixture) { f.MLP.Down = r.weight(96, false, 7, 50, 1, 1, 5) }, "Down has 5 parts, want 4 at most"},
		{"MLP", func(f *fixture) { f.MLP.GateUp.Format = 7 }, "GateUp.Format is 7"},
		{"MoE", func(f *fixture) { f.MoE.TopK = 5 }, "TopK is 5 of 4 experts"},
		{"Sample", func(f *fixture) { f.Sample.TopN = 65 }, "TopN is 65, want 0 to 64"},
		{"Head", func(f *fixture) { f.Head.Logits.size = 40 }, "Logits has 10 elements, want [20, 300]"},
	} {
		f := r.gpuFixture(20)
		c.change(f)
		s.lines()
		require.ErrorContains(t, d.Do(context.Background(), f.gpuOperations()[c.op]), "kernels: "+c.op+": "+c.want)
		require.Empty(t, s.launchesSince(t), "%s: nothing has run", c.op)
	}
	for name, run := range r.gpuFixture(0).gpuOperations() {
		if name == "Head" {
			continue // wants a row to point at
		}
		s.lines()
		require.NoError(t, d.Do(context.Background(), run), "%s of no rows", name)
		require.Empty(t, s.launchesSince(t), "%s of no rows", name)
	}
}

// TestGPUNoAllocations runs each operation in the steady state.
func TestGPUNoAllocations(t *testing.T) {
	s, d := openStub(t)
	s.quiet = 1
	for _, rows := range []int{1, 40, 100} {
		r := newRig(t, "go", 1)
		f := r.gpuFixture(rows)
		filtered := f.Sample
		filtered.Filters, filtered.Biases, filtered.Counts = r.alloc(rows*sizeOf[SampleFilter]()), r.alloc(8), r.alloc(8)
		operations := f.gpuOperations()
		operations["Sample with filters"] = func(o Ops) error { return o.Sample(&filtered) }
		from, to, host := r.floats(100), r.floats(100), make([]byte, 400)
		operations["Write"] = func(o Ops) error { return o.Write(to, host) }
		operations["Read"] = func(o Ops) error { return o.Read(host, from) }
		operations["Copy"] = func(o Ops) error { return o.Copy(to, from) }
		operations["a step"] = func(o Ops) error {
			for _, name := range []string{"Write", "Embed", "NormQKV", "QKNormRopeWrite", "Attend", "ProjAdd", "MoE", "Head", "Sample", "Read"} {
				if err := operations[name](o); err != nil {
					return err
				}
			}
			return nil
		}
		for name, run := range operations {
			t.Run(fmt.Sprintf("%s/rows=%d", name, rows), func(t *testing.T) {
				ctx := context.Background()
				var err error
				for range 3 { // what uploads took is given back some time later
					require.NoError(t, d.Do(ctx, run))
				}
				live := s.live
				got := testing.AllocsPerRun(100, func() {
					if e := d.Do(ctx, run); e != nil {
						err = e
					}
				})
				require.NoError(t, err)
				require.Zero(t, got, "allocations of one call")
				require.Equal(t, live, s.live, "memory of the device")
			})
		}
	}
}
