//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/ref"
)

// These tests compare every operation on the machine's GPU with the CPU's kernels in plain Go, which are package ref.
// Without a GPU they are skipped, unless QUIRE_REQUIRE_GPU is set: then they fail. Each buffer is an allocation of its own
// and of exactly its size, so that compute-sanitizer finds overruns; with -short there are few shapes, for it.

// gpuTolerance bounds the largest error of a GPU's operation, as a part of the largest number of the result. What comes
// out is rounded to bfloat16, 2⁻⁹ of it, and so is what lies between.
var gpuTolerance = map[string]float64{
	"product":  0.0045, // an input as it is, the sum in float32; rounded, and once more with what it is added to
	"normed":   0.012,  // the input rounded twice
	"gated":    0.012,
	"rotate":   0.012, // normed, weighted and turned, each rounded
	"attend":   0.008, // weights rounded
	"turned":   0.016, // and queries
	"mlp":      0.02,  // normed, gated, multiplied and added, each rounded
	"moe":      0.025,
	"logsum":   2e-5, // in nats
	"float8":   1.0 / 16,
	"subfloat": 1.0 / 1024, // of a head's largest number: steps of float8 near 0
}

// requireNear demands that got is within the named tolerance of want.
func requireNear(tb testing.TB, what string, got, want []float32) {
	tb.Helper()
	require.Len(tb, got, len(want))
	largest, worst, at := 1e-30, 0.0, 0
	for i := range want {
		largest = max(largest, math.Abs(float64(want[i])))
		if diff := math.Abs(float64(got[i]) - float64(want[i])); !(diff <= worst) {
			worst, at = diff, i
		}
	}
	if !(worst <= gpuTolerance[what]*largest) {
		tb.Fatalf("%s: element %d of %d: got %v, want %v; off by %.2g of the largest, %.2g is allowed",
			what, at, len(want), got[at], want[at], worst/largest, gpuTolerance[what])
	}
}

// realTwin opens the machine's GPU beside a CPU.
func realTwin(t testing.TB) *twin {
	t.Helper()
	d, err := open(Options{Device: "cuda"}, gpuOptions{exact: true})
	if errors.Is(err, errors.ErrUnsupported) && os.Getenv("QUIRE_REQUIRE_GPU") == "" {
		t.Skipf("no GPU to test on (set QUIRE_REQUIRE_GPU=1 to make this a failure): %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return newTwin(t, d)
}

// in is the twin for a subtest, at whose end its memory on the GPU is given back.
func (w *twin) in(t *testing.T) *twin {
	sub := &twin{rig: &rig{tb: t, dev: w.dev, rng: w.rng}, gpu: w.gpu}
	t.Cleanup(func() {
		for _, b := range sub.puts {
			w.gpu.Free(b)
		}
	})
	return sub
}

// some is what a run with -short takes of all cases: the first, and every n-th.
func some[T any](all []T, n int) []T {
	if !testing.Short() {
		return all
	}
	var few []T
	for i := 0; i < len(all); i += n {
		few = append(few, all[i])
	}
	return few
}

// gpuProductShapes are ragged in every direction, on both sides of the sizes at which other kernels take over.
var gpuProductShapes = []struct {
	cols  int
	parts []int
	rows  int
}{
	{cols: 64, parts: []int{64, 8, 8}, rows: 3},
	{cols: 1, parts: []int{1}, rows: 1},
	{cols: 7, parts: []int{3, 2}, rows: 2},
	{cols: 33, parts: []int{49, 1, 100}, rows: 17},
	{cols: 96, parts: []int{97}, rows: 16},
	{cols: 1024, parts: []int{1024, 256, 256}, rows: 1},
	{cols: 256, parts: []int{40, 24, 24, 9}, rows: 7},
	{cols: 130, parts: []int{50, 50}, rows: 70},
	{cols: 100, parts: []int{9001}, rows: 13},
	{cols: 512, parts: []int{333, 500}, rows: 65},
	{cols: 3000, parts: []int{60}, rows: 50},
	{cols: 72, parts: []int{5001}, rows: 16},
	{cols: 40, parts: []int{4500}, rows: 300},
	{cols: 128, parts: []int{2048, 2048}, rows: 1030},
	{cols: 1024, parts: []int{256, 128, 128}, rows: 65},
	{cols: 200, parts: []int{1000}, rows: 100},
	{cols: 72, parts: []int{40, 24, 8, 136}, rows: 127},
	{cols: 2048, parts: []int{128}, rows: 128},
	{cols: 1536, parts: []int{264}, rows: 129},
	{cols: 256, parts: []int{504, 504}, rows: 250},
	{cols: 136, parts: []int{2048, 1024, 1024}, rows: 256},
	{cols: 328, parts: []int{640, 8}, rows: 300},
	{cols: 64, parts: []int{1536, 1536}, rows: 512},
	{cols: 64, parts: []int{512}, rows: 4096},
}

func TestCUDAProducts(t *testing.T) {
	all := realTwin(t)
	shapes := gpuProductShapes
	if testing.Short() {
		shapes = shapes[:9]
	}
	for _, s := range shapes {
		t.Run(fmt.Sprintf("cols=%d/parts=%v/rows=%d", s.cols, s.parts, s.rows), func(t *testing.T) {
			w := all.in(t)
			m := w.scaledWeight(s.cols, true, s.parts...)
			gm := w.weightOf(m)
			x, gx := w.acts(s.rows * s.cols)
			norm := w.bf16s(s.cols)
			gnorm := w.same(norm)
			start, _ := w.acts(s.rows * m.Rows)

			t.Run("ProjAdd", func(t *testing.T) {
				w := w.in(t)
				out, gout := write(w.rig, start.float32s()), w.activations(start)
				w.do(func(o Ops) error { return o.ProjAdd(&ProjAddParams{X: x, W: m, Out: out, Rows: s.rows}) })
				w.on(func(o Ops) error { return o.ProjAdd(&ProjAddParams{X: gx, W: gm, Out: gout, Rows: s.rows}) })
				requireNear(t, "product", bf16Numbers(w.get(gout)), out.float32s())
			})
			t.Run("NormQKV", func(t *testing.T) {
				w := w.in(t)
				out, gout := write(w.rig, start.float32s()), w.activations(start)
				w.do(func(o Ops) error {
					return o.NormQKV(&NormQKVParams{X: x, Norm: norm, Eps: 1e-6, W: m, Out: out, Rows: s.rows})
				})
				w.on(func(o Ops) error {
					return o.NormQKV(&NormQKVParams{X: gx, Norm: gnorm, Eps: 1e-6, W: gm, Out: gout, Rows: s.rows})
				})
				requireNear(t, "normed", bf16Numbers(w.get(gout)), out.float32s())
			})
			t.Run("NormGateUp", func(t *testing.T) {
				w := w.in(t)
				out, gout := write(w.rig, start.float32s()), w.activations(start)
				w.do(func(o Ops) error {
					return o.NormGateUp(&NormGateUpParams{X: x, Norm: norm, Eps: 1e-6, W: m, Out: out, Rows: s.rows})
				})
				w.on(func(o Ops) error {
					return o.NormGateUp(&NormGateUpParams{X: gx, Norm: gnorm, Eps: 1e-6, W: gm, Out: gout, Rows: s.rows})
				})
				requireNear(t, "normed", bf16Numbers(w.get(gout)), out.float32s())
			})
			t.Run("SiluDownAdd", func(t *testing.T) {
				w := w.in(t)
				out, gout := write(w.rig, start.float32s()), w.activations(start)
				gateUp, ggateUp := w.acts(s.rows * 2 * s.cols)
				w.do(func(o Ops) error {
					return o.SiluDownAdd(&SiluDownAddParams{GateUp: gateUp, W: m, Out: out, Rows: s.rows})
				})
				w.on(func(o Ops) error {
					return o.SiluDownAdd(&SiluDownAddParams{GateUp: ggateUp, W: gm, Out: gout, Rows: s.rows})
				})
				requireNear(t, "gated", bf16Numbers(w.get(gout)), out.float32s())
			})
			t.Run("Head", func(t *testing.T) {
				w := w.in(t)
				index := make([]int32, s.rows+2) // more rows of logits than of x
				for i := range index {
					index[i] = int32(w.rng.IntN(s.rows))
				}
				ids := w.ints(index...)
				logits, glogits := w.floats(len(index)*m.Rows), w.put(make([]byte, 4*len(index)*m.Rows))
				w.do(func(o Ops) error {
					return o.Head(&HeadParams{X: x, Index: ids, Norm: norm, Eps: 1e-6, W: m, Logits: logits, Rows: len(index)})
				})
				gids := w.same(ids)
				w.on(func(o Ops) error {
					return o.Head(&HeadParams{X: gx, Index: gids, Norm: gnorm, Eps: 1e-6, W: gm, Logits: glogits, Rows: len(index)})
				})
				requireNear(t, "normed", f32Numbers(w.get(glogits)), logits.float32s())
			})
			t.Run("Embed", func(t *testing.T) {
				w := w.in(t)
				tokens := make([]int32, s.rows)
				var want []float32
				for i := range tokens {
					tokens[i] = int32(w.rng.IntN(m.Rows))
					want = append(want, rowOf(m, int(tokens[i]))...)
				}
				ids, gout := w.put(AsBytes(tokens)), w.put(make([]byte, 2*s.rows*s.cols))
				w.on(func(o Ops) error { return o.Embed(&EmbedParams{Tokens: ids, Table: gm, Out: gout, Rows: s.rows}) })
				require.Equal(t, want, bf16Numbers(w.get(gout)))
			})
		})
	}
}

// TestCUDAMLP compares a whole MLP with the CPU's two operations, and with the GPU's own.
func TestCUDAMLP(t *testing.T) {
	all := realTwin(t)
	for _, s := range some([]struct{ hidden, inner, rows int }{
		{hidden: 64, inner: 48, rows: 9},
		{hidden: 1, inner: 1, rows: 1},
		{hidden: 33, inner: 17, rows: 3},
		{hidden: 1024, inner: 3072, rows: 1},
		{hidden: 256, inner: 129, rows: 8},
		{hidden: 136, inner: 1000, rows: 16},
		{hidden: 128, inner: 200, rows: 17},
		{hidden: 100, inner: 77, rows: 40},
		{hidden: 512, inner: 640, rows: 64},
		{hidden: 264, inner: 96, rows: 65},
		{hidden: 72, inner: 328, rows: 300},
		{hidden: 256, inner: 512, rows: 256},
		{hidden: 128, inner: 48, rows: 1000},
	}, 2) {
		t.Run(fmt.Sprintf("hidden=%d/inner=%d/rows=%d", s.hidden, s.inner, s.rows), func(t *testing.T) {
			w := all.in(t)
			gateUp, down := w.scaledWeight(s.hidden, true, s.inner, s.inner), w.scaledWeight(s.inner, true, s.hidden)
			ggateUp, gdown := w.weightOf(gateUp), w.weightOf(down)
			x, gx := w.acts(s.rows * s.hidden)
			norm := w.bf16s(s.hidden)
			gnorm := w.same(norm)
			between, gbetween := w.floats(s.rows*2*s.inner), w.put(make([]byte, 4*s.rows*s.inner))
			gtwo := w.activations(x)
			w.do(func(o Ops) error {
				return errors.Join(
					o.NormGateUp(&NormGateUpParams{X: x, Norm: norm, Eps: 1e-6, W: gateUp, Out: between, Rows: s.rows}),
					o.SiluDownAdd(&SiluDownAddParams{GateUp: between, W: down, Out: x, Rows: s.rows}))
			})
			w.on(func(o Ops) error {
				return errors.Join(
					o.NormGateUp(&NormGateUpParams{X: gtwo, Norm: gnorm, Eps: 1e-6, W: ggateUp, Out: gbetween, Rows: s.rows}),
					o.SiluDownAdd(&SiluDownAddParams{GateUp: gbetween, W: gdown, Out: gtwo, Rows: s.rows}))
			})
			w.on(func(o Ops) error {
				return o.(MLPOps).MLP(&MLPParams{X: gx, Norm: gnorm, Eps: 1e-6, GateUp: ggateUp, Down: gdown, Out: gx, Rows: s.rows})
			})
			requireNear(t, "mlp", bf16Numbers(w.get(gx)), x.float32s())
			requireNear(t, "mlp", bf16Numbers(w.get(gx)), bf16Numbers(w.get(gtwo)))
		})
	}
}

// f32Numbers reads float32.
func f32Numbers(b []byte) []float32 {
	out := make([]float32, len(b)/4)
	copy(AsBytes(out), b)
	return out
}

func TestCUDAMoE(t *testing.T) {
	all := realTwin(t)
	rows, compared := 0, 0
	for _, s := range some([]struct {
		hidden, inner, experts, topK, rows int
		normalize                          bool
	}{
		{hidden: 64, inner: 48, experts: 8, topK: 2, rows: 9, normalize: true},
		{hidden: 33, inner: 17, experts: 5, topK: 5, rows: 3, normalize: true},
		{hidden: 128, inner: 96, experts: 16, topK: 4, rows: 1},
		{hidden: 40, inner: 24, experts: 3, topK: 1, rows: 70, normalize: true},
		{hidden: 128, inner: 64, experts: 128, topK: 8, rows: 33, normalize: true},
		{hidden: 72, inner: 40, experts: 9, topK: 3, rows: 300},
	}, 2) {
		t.Run(fmt.Sprintf("experts=%d/top=%d/rows=%d", s.experts, s.topK, s.rows), func(t *testing.T) {
			w := all.in(t)
			p := w.moe(BF16, s.hidden, s.inner, s.experts, s.topK, s.rows)
			p.NormTopK = s.normalize
			for i, v := range p.X.float32s() {
				p.X.float32s()[i] = ref.RoundBF16(v)
			}
			for e := range p.GateUp {
				for _, m := range []Weight{p.GateUp[e], p.Down[e]} {
					for _, part := range m.Parts {
						scale(part.Data, m.Cols)
					}
				}
			}
			g := *p
			g.X = w.activations(p.X)
			g.Out, g.Norm, g.Router = g.X, w.same(p.Norm), w.weightOf(p.Router)
			g.GateUp, g.Down = w.sameWeights(p.GateUp), w.sameWeights(p.Down)
			clear := w.clearChoices(p)
			for range 2 { // the second finds the tables of the first
				w.do(func(o Ops) error { return o.MoE(p) })
				w.on(func(o Ops) error { return o.MoE(&g) })
				got := bf16Numbers(w.get(g.Out))
				rows += s.rows
				for r := range s.rows {
					if clear[r] {
						compared++
						requireNear(t, "moe", got[r*s.hidden:][:s.hidden], p.Out.float32s()[r*s.hidden:][:s.hidden])
					}
				}
				for i := range got { // the second time both begin with the same numbers, and make up their own minds
					p.X.float32s()[i] = got[i]
				}
				clear = w.clearChoices(p)
			}
		})
	}
	require.Greater(t, 3*compared, rows, "rows whose choice is clear")
}

// clearChoices says which rows' last expert leads the next one by more than rounding can make up for.
func (w *twin) clearChoices(p *MoEParams) []bool {
	logits := w.wantProduct(p.Router, p.X, p.Norm, Buffer{}, p.Rows)
	choice := make([]bool, p.Rows)
	for r := range choice {
		row := slices.Sorted(slices.Values(logits[r*p.Router.Rows:][:p.Router.Rows]))
		slices.Reverse(row)
		choice[r] = p.TopK == len(row) || row[p.TopK-1]-row[p.TopK] > 0.02*max(row[0], -row[len(row)-1])
	}
	return choice
}
