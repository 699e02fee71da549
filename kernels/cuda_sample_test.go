//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/ref"
)

// sampled is a sampling's results.
type sampled struct {
	out       []SampleOut
	topTokens []int32
	topLogits []float32
}

// sampleBoth samples the same rows on both devices.
func (w *twin) sampleBoth(p *SampleParams) (cpu, gpu sampled) {
	w.tb.Helper()
	n := p.Rows * p.TopN
	p.TopTokens, p.TopLogits = w.alloc(4*n), w.alloc(4*n)
	g := *p
	g.Logits, g.Params, g.Filters = w.same(p.Logits), w.same(p.Params), w.same(p.Filters)
	g.Biases, g.Counts = w.same(p.Biases), w.same(p.Counts)
	g.Out, g.TopTokens, g.TopLogits = w.put(make([]byte, p.Out.size)), w.put(make([]byte, 4*n)), w.put(make([]byte, 4*n))
	w.do(func(o Ops) error { return o.Sample(p) })
	w.on(func(o Ops) error { return o.Sample(&g) })
	require.Equal(w.tb, p.Logits.bytes(), w.get(g.Logits), "logits")
	read := func(out, tokens, logits []byte) sampled {
		s := sampled{make([]SampleOut, p.Rows), make([]int32, n), make([]float32, n)}
		copy(AsBytes(s.out), out)
		copy(AsBytes(s.topTokens), tokens)
		copy(AsBytes(s.topLogits), logits)
		return s
	}
	return read(p.Out.bytes(), p.TopTokens.bytes(), p.TopLogits.bytes()), read(w.get(g.Out), w.get(g.TopTokens), w.get(g.TopLogits))
}

// requireSampled demands the CPU's results. A row without filters that is drawn may fall on the other side of an edge
// between two tokens.
func requireSampled(t *testing.T, p *SampleParams, cpu, gpu sampled) {
	t.Helper()
	for i, want := range cpu.out {
		got, row := gpu.out[i], p.params()[i]
		require.Equal(t, want.Finite, got.Finite, "row %d", i)
		if want.Finite == 0 {
			continue
		}
		require.Equal(t, want.Argmax, got.Argmax, "row %d", i)
		require.InDelta(t, want.LogSumExp, got.LogSumExp, gpuTolerance["logsum"]*(1+float64(max(want.LogSumExp, -want.LogSumExp))), "row %d", i)
		require.Equal(t, p.row(i)[got.Token], got.Logit, "row %d", i)
		if got.Token == want.Token {
			continue
		}
		uniform := ref.Uniform(row.Seed, row.Counter)
		low := ref.Draw(p.row(i), row.Temperature, -1, uniform-1e-5)
		high := ref.Draw(p.row(i), row.Temperature, -1, uniform+1e-5)
		require.False(t, p.filtered(i), "row %d with %+v, %+v: got token %d, want %d", i, row, p.filters(), got.Token, want.Token)
		require.LessOrEqual(t, low.Token, int(got.Token), "row %d at an edge between tokens", i)
		require.LessOrEqual(t, int(got.Token), high.Token, "row %d at an edge between tokens", i)
	}
	require.Equal(t, cpu.topTokens, gpu.topTokens)
	require.Equal(t, cpu.topLogits, gpu.topLogits)
}

func TestCUDASample(t *testing.T) {
	all := realTwin(t)
	for _, vocab := range some([]int{1, 17, 2048, 2, 300, 2047, 2049, 10007, 151936}, 2) {
		for _, topN := range []int{0, 5, 64} {
			t.Run(fmt.Sprintf("vocab=%d/top=%d", vocab, topN), func(t *testing.T) {
				w := all.in(t)
				rows := 24
				var params []SampleRow
				for i := range rows {
					row := SampleRow{Temperature: []float32{0, 0.3, 1, 2.5}[i%4], Want: -1, Seed: w.rng.Uint64(), Counter: w.rng.Uint64()}
					if i%5 == 4 {
						row.Want = int32(w.rng.IntN(vocab))
					}
					params = append(params, row)
				}
				p := &SampleParams{
					Logits: w.floats(rows * vocab), Params: write(w.rig, params), Out: w.alloc(rows * sizeOf[SampleOut]()), Vocab: vocab, Rows: rows,
					TopN: min(topN, vocab),
				}
				for i, l := range p.Logits.float32s() { // ties
					if i%3 == 0 {
						p.Logits.float32s()[i] = float32(int(l*4)) / 4
					}
				}
				cpu, gpu := w.sampleBoth(p)
				requireSampled(t, p, cpu, gpu)
			})
		}
	}
}

func TestCUDAFilter(t *testing.T) {
	all := realTwin(t)
	for _, vocab := range some([]int{17, 1, 2500, 2, 300, 5000, 20011}, 2) {
		t.Run(fmt.Sprintf("vocab=%d", vocab), func(t *testing.T) {
			w := all.in(t)
			rows := 40
			if vocab > 10000 {
				rows = 12
			}
			for range 3 {
				p := w.filteredRows(rows, vocab)
				cpu, gpu := w.sampleBoth(p)
				requireSampled(t, p, cpu, gpu)
			}
		})
	}
}

// TestCUDANotFinite: a row with a number that is none is noticed, and the others are as they would be without it.
func TestCUDANotFinite(t *testing.T) {
	w := realTwin(t)
	const rows, vocab = 4, 5000
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		for _, at := range []int{0, 2500, vocab - 1} {
			p := &SampleParams{
				Logits: w.floats(rows * vocab), Params: write(w.rig, slices.Repeat([]SampleRow{{Want: -1, Temperature: 1}}, rows)),
				Out: w.alloc(rows * sizeOf[SampleOut]()), Vocab: vocab, Rows: rows,
			}
			p.Logits.float32s()[2*vocab+at] = bad
			cpu, gpu := w.sampleBoth(p)
			requireSampled(t, p, cpu, gpu)
			require.EqualValues(t, []int32{1, 1, 0, 1}, []int32{gpu.out[0].Finite, gpu.out[1].Finite, gpu.out[2].Finite, gpu.out[3].Finite})
			require.Less(t, uint32(gpu.out[2].Token), uint32(vocab))
		}
	}
}
