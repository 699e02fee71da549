//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/cuda"
)

// TestCUDAWide compares each kernel for products of many rows, whichever a shape would choose, with the kernels for all
// devices, which TestCUDAProducts compares with the CPU.
func TestCUDAWide(t *testing.T) {
	all := realTwin(t)
	g := all.gpu.backend.(*gpu)
	if !g.wide {
		t.Skip("the images are not those of compute capability 9.0")
	}
	defer func() { g.wide, g.tiles = true, nil }()
	kinds := cuda.WideKinds()
	for _, s := range some([]struct {
		cols  int
		parts []int
		rows  int
		gated bool
	}{
		{cols: 72, parts: []int{40, 24, 8, 136}, rows: 65},
		{cols: 1024, parts: []int{512, 256, 256}, rows: 129},
		{cols: 328, parts: []int{504, 504}, rows: 250, gated: true},
		{cols: 2048, parts: []int{1024}, rows: 256},
		{cols: 1024, parts: []int{1024}, rows: 300, gated: true},
		{cols: 200, parts: []int{1000}, rows: 1000},
		{cols: 512, parts: []int{2048, 1024, 1024}, rows: 2100},
		{cols: 256, parts: []int{3072, 3072}, rows: 1030, gated: true},
	}, 3) {
		t.Run(fmt.Sprintf("cols=%d/parts=%v/rows=%d/gated=%v", s.cols, s.parts, s.rows, s.gated), func(t *testing.T) {
			w := all.in(t)
			m := w.weightOf(w.scaledWeight(s.cols, true, s.parts...))
			_, x := w.acts(s.rows * s.cols)
			norm := w.same(w.bf16s(s.cols))
			start, _ := w.acts(s.rows * m.Rows)
			index := make([]int32, s.rows)
			for i := range index {
				index[i] = int32(s.rows - 1 - i)
			}
			ids := w.put(AsBytes(index))
			operations := map[string]func() []float32{
				"ProjAdd": func() []float32 {
					w := w.in(t)
					out := w.activations(start)
					w.on(func(o Ops) error { return o.ProjAdd(&ProjAddParams{X: x, W: m, Out: out, Rows: s.rows}) })
					return bf16Numbers(w.get(out))
				},
				"NormQKV": func() []float32 {
					w := w.in(t)
					out := w.put(make([]byte, 2*s.rows*m.Rows))
					w.on(func(o Ops) error {
						return o.NormQKV(&NormQKVParams{X: x, Norm: norm, Eps: 1e-6, W: m, Out: out, Rows: s.rows})
					})
					return bf16Numbers(w.get(out))
				},
				"Head": func() []float32 {
					w := w.in(t)
					logits := w.put(make([]byte, 4*s.rows*m.Rows))
					w.on(func(o Ops) error {
						return o.Head(&HeadParams{X: x, Index: ids, Norm: norm, Eps: 1e-6, W: m, Logits: logits, Rows: s.rows})
					})
					return f32Numbers(w.get(logits))
				},
			}
			if s.gated {
				down := w.weightOf(w.scaledWeight(m.Rows/2, true, s.cols))
				hidden := w.get(x)
				operations["MLP"] = func() []float32 {
					w := w.in(t)
					out := w.put(hidden)
					w.on(func(o Ops) error {
						return o.(MLPOps).MLP(&MLPParams{X: x, Norm: norm, Eps: 1e-6, GateUp: m, Down: down, Out: out, Rows: s.rows})
					})
					return bf16Numbers(w.get(out))
				}
			}
			for name, run := range operations {
				tolerance := "product"
				if name == "MLP" {
					tolerance = "mlp"
				}
				g.wide, g.tiles = false, nil
				want := run()
				g.wide = true
				for i := range kinds {
					g.tiles = &kinds[i]
					t.Run(fmt.Sprintf("%s/%s", name, kinds[i].Kernel), func(t *testing.T) {
						got := run()
						requireNear(t, tolerance, got, want)
						require.Equal(t, got, run(), "the same again")
					})
				}
			}
		})
	}
}
