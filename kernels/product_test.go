package kernels

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/ref"
)

// productShapes are ragged in every direction: tiles, groups and blocks end in the middle.
var productShapes = []struct {
	cols  int
	parts []int
	rows  int
}{
	{cols: 1, parts: []int{1}, rows: 1},
	{cols: 7, parts: []int{3, 2}, rows: 2},
	{cols: 64, parts: []int{64, 8, 8}, rows: 3},
	{cols: 33, parts: []int{49, 1, 100}, rows: 5},
	{cols: 96, parts: []int{97}, rows: 6},
	{cols: 256, parts: []int{40, 24, 24}, rows: 7},
	{cols: 100, parts: []int{151}, rows: 13},
	{cols: 130, parts: []int{50, 50}, rows: 70},
	{cols: 3000, parts: []int{60}, rows: 50},
}

func TestProducts(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 2)
		for i, s := range append(productShapes, productShapes...) {
			format := BF16 + Format(i/len(productShapes))
			t.Run(fmt.Sprintf("format=%s/cols=%d/parts=%v/rows=%d", format, s.cols, s.parts, s.rows), func(t *testing.T) {
				r := &rig{tb: t, dev: r.dev, rng: r.rng}
				w := r.weightIn(format, s.cols, true, s.parts...)
				tolerance := r.tolerance("product")
				if format == Int8 {
					tolerance = "int16"
				}
				x, norm := r.floats(s.rows*s.cols), r.bf16s(s.cols)
				start := r.floats(s.rows * w.Rows)

				t.Run("ProjAdd", func(t *testing.T) {
					out := write(r, start.float32s())
					r.do(func(o Ops) error { return o.ProjAdd(&ProjAddParams{X: x, W: w, Out: out, Rows: s.rows}) })
					want := r.wantProduct(w, x, Buffer{}, start, s.rows)
					if format == Int8 { // every kernel set gives the same bits
						require.Equal(t, want, slices.Clone(out.float32s()))
					}
					requireClose(t, "product", out.float32s(), want)
				})
				t.Run("NormQKV", func(t *testing.T) {
					out := write(r, start.float32s())
					r.do(func(o Ops) error {
						return o.NormQKV(&NormQKVParams{X: x, Norm: norm, Eps: 1e-6, W: w, Out: out, Rows: s.rows})
					})
					requireClose(t, tolerance, out.float32s(), r.wantProduct(w, x, norm, Buffer{}, s.rows))
				})
				t.Run("NormGateUp", func(t *testing.T) {
					out := write(r, start.float32s())
					r.do(func(o Ops) error {
						return o.NormGateUp(&NormGateUpParams{X: x, Norm: norm, Eps: 1e-6, W: w, Out: out, Rows: s.rows})
					})
					requireClose(t, tolerance, out.float32s(), r.wantProduct(w, x, norm, Buffer{}, s.rows))
				})
				t.Run("SiluDownAdd", func(t *testing.T) {
					out, gateUp := write(r, start.float32s()), r.floats(s.rows*2*s.cols)
					r.do(func(o Ops) error {
						return o.SiluDownAdd(&SiluDownAddParams{GateUp: gateUp, W: w, Out: out, Rows: s.rows})
					})
					gated := r.alloc(4 * s.rows * s.cols)
					for i := range s.rows {
						in := gateUp.float32s()[2*i*s.cols:]
						ref.SiluMul(gated.float32s()[i*s.cols:][:s.cols], in[:s.cols], in[s.cols:2*s.cols])
					}
					requireClose(t, tolerance, out.float32s(), r.wantProduct(w, gated, Buffer{}, start, s.rows))
				})
				t.Run("Head", func(t *testing.T) {
					index := make([]int32, s.rows+2) // more rows of logits than of x
					for i := range index {
						index[i] = int32(r.rng.IntN(s.rows))
					}
					logits := r.floats(len(index) * w.Rows)
					r.do(func(o Ops) error {
						return o.Head(&HeadParams{X: x, Index: r.ints(index...), Norm: norm, Eps: 1e-6, W: w, Logits: logits, Rows: len(index)})
					})
					all := r.wantProduct(w, x, norm, Buffer{}, s.rows)
					var want []float32
					for _, i := range index {
						want = append(want, all[int(i)*w.Rows:][:w.Rows]...)
					}
					requireClose(t, tolerance, logits.float32s(), want)
				})
				t.Run("Embed", func(t *testing.T) {
					if format == Int8 {
						err := r.dev.Do(t.Context(), func(o Ops) error { return o.Embed(&EmbedParams{Table: w}) })
						require.ErrorContains(t, err, "Table.Format is 2, want BF16")
						return
					}
					tokens := make([]int32, s.rows)
					var want []float32
					for i := range tokens {
						tokens[i] = int32(r.rng.IntN(w.Rows))
						want = append(want, rowOf(w, int(tokens[i]))...)
					}
					out := r.floats(s.rows * s.cols)
					r.do(func(o Ops) error {
						return o.Embed(&EmbedParams{Tokens: r.ints(tokens...), Table: w, Out: out, Rows: s.rows})
					})
					require.Equal(t, want, slices.Clone(out.float32s()))
				})
			})
		}
	})
}

// rowOf is row n of a matrix.
func rowOf(w Weight, n int) []float32 {
	row := make([]float32, w.Cols)
	for _, part := range w.Parts {
		if n < part.Rows {
			for i := range row {
				row[i] = ref.BF16(part.Data.bytes(), n*w.Cols+i)
			}
			return row
		}
		n -= part.Rows
	}
	return nil
}

// wantProduct is W·x + bias by package ref, for x normalized where there is a norm, on top of start where there is one.
func (r *rig) wantProduct(w Weight, x, norm, start Buffer, rows int) []float32 {
	want := make([]float32, rows*w.Rows)
	copy(want, start.float32s())
	row := make([]float32, w.Cols)
	for i := range rows {
		copy(row, x.float32s()[i*w.Cols:])
		if !norm.IsZero() {
			ref.RMSNorm(row, row, norm.bytes(), 1e-6)
		}
		r.product(w, row, want[i*w.Rows:][:w.Rows])
	}
	return want
}

func TestGateExtremes(t *testing.T) {
	gates := []float32{0, 1e-30, -1e-30, 1, -1, 20, -20, 60, -60, 87, -87, 88.5, -88.5, 200, -200, 1e30, -1e30}
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 1)
		n := len(gates)
		in := r.alloc(4 * 2 * n)
		copy(in.float32s(), gates)
		for i := range n {
			in.float32s()[n+i] = 1
		}
		w := r.weight(n, false, n) // the identity: what comes out is what the gate gave
		clear(w.Parts[0].Data.bytes())
		for i := range n {
			ref.PutBF16(w.Parts[0].Data.bytes(), i*n+i, 1)
		}
		out := r.alloc(4 * n)
		r.do(func(o Ops) error { return o.SiluDownAdd(&SiluDownAddParams{GateUp: in, W: w, Out: out, Rows: 1}) })
		for i, g := range gates {
			want := make([]float32, 1)
			ref.SiluMul(want, []float32{g}, []float32{1})
			floor := 1e-37 * math.Abs(float64(g)) // e^x ends at e^88
			r.round(want)
			require.InDelta(t, want[0], out.float32s()[i], tolerance[r.tolerance("gate")]*math.Abs(float64(want[0]))+floor, "gate %v", g)
		}
	})
}

func TestMoE(t *testing.T) {
	shapes := []struct {
		hidden, inner, experts, topK, rows int
		normalize                          bool
	}{
		{hidden: 64, inner: 48, experts: 8, topK: 2, rows: 9, normalize: true},
		{hidden: 33, inner: 17, experts: 5, topK: 5, rows: 3, normalize: true},
		{hidden: 128, inner: 96, experts: 16, topK: 4, rows: 1},
		{hidden: 40, inner: 24, experts: 3, topK: 1, rows: 40, normalize: true},
	}
	eachSet(t, func(t *testing.T, set string) {
		for _, s := range shapes {
			t.Run(fmt.Sprintf("experts=%d/top=%d/rows=%d", s.experts, s.topK, s.rows), func(t *testing.T) {
				r := newRig(t, set, 2)
				for format, tolerance := range map[Format]string{BF16: r.tolerance("moe"), Int8: r.tolerance("int16")} {
					p := r.moe(format, s.hidden, s.inner, s.experts, s.topK, s.rows)
					p.NormTopK = s.normalize
					want := r.wantMoE(p, s.inner)
					r.do(func(o Ops) error { return o.MoE(p) })
					requireClose(t, tolerance, p.Out.float32s(), want)
				}
			})
		}
	})
}

// moe is a random layer that adds to its input, with experts in the given format.
func (r *rig) moe(format Format, hidden, inner, experts, topK, rows int) *MoEParams {
	p := &MoEParams{X: r.floats(rows * hidden), Norm: r.bf16s(hidden), Eps: 1e-6, TopK: topK, Rows: rows}
	p.Out = p.X
	p.Router = r.weight(hidden, false, experts)
	for range experts {
		p.GateUp = append(p.GateUp, r.weightIn(format, hidden, false, inner, inner))
		p.Down = append(p.Down, r.weightIn(format, inner, false, hidden))
	}
	return p
}

// wantMoE is the same by package ref, one row at a time.
func (r *rig) wantMoE(p *MoEParams, inner int) []float32 {
	hidden := p.Router.Cols
	want := slices.Clone(p.X.float32s())
	for row := range p.Rows {
		x := make([]float32, hidden)
		ref.RMSNorm(x, p.X.float32s()[row*hidden:][:hidden], p.Norm.bytes(), p.Eps)
		logits := make([]float32, p.Router.Rows)
		r.product(p.Router, x, logits)
		experts, weights := make([]int32, p.TopK), make([]float32, p.TopK)
		ref.Route(experts, weights, logits, p.NormTopK)
		for i, e := range experts {
			gateUp, down := make([]float32, 2*inner), make([]float32, hidden)
			r.product(p.GateUp[e], x, gateUp)
			ref.SiluMul(gateUp[:inner], gateUp[:inner], gateUp[inner:])
			r.product(p.Down[e], gateUp[:inner], down)
			for j, v := range down {
				want[row*hidden+j] += weights[i] * v
			}
		}
	}
	return want
}
