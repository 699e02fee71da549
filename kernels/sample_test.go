package kernels

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/ref"
)

func TestSample(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		for _, vocab := range []int{1, 2, 17, 4095, 4096, 4097, 10007} {
			t.Run(fmt.Sprintf("vocab=%d", vocab), func(t *testing.T) {
				r := newRig(t, set, 2)
				const rows = 24
				topN := min(5, vocab)
				logits := r.floats(rows * vocab)
				var params []SampleRow
				for i := range rows {
					row := SampleRow{Temperature: []float32{0, 0.3, 1, 2.5}[i%4], Want: -1, Seed: r.rng.Uint64(), Counter: r.rng.Uint64()}
					if i%5 == 4 {
						row.Want = int32(r.rng.IntN(vocab))
					}
					params = append(params, row)
				}
				p := &SampleParams{
					Logits: logits, Params: write(r, params), Out: r.alloc(rows * sizeOf[SampleOut]()), Vocab: vocab, Rows: rows,
					TopN: topN, TopTokens: r.alloc(4 * rows * topN), TopLogits: r.alloc(4 * rows * topN),
				}
				before := bits(logits)
				r.do(func(o Ops) error { return o.Sample(p) })
				require.Equal(t, before, bits(logits), "logits")
				for i, got := range outOf(p) {
					row := p.row(i)
					uniform := ref.Uniform(params[i].Seed, params[i].Counter)
					want := ref.Draw(row, params[i].Temperature, int(params[i].Want), uniform)
					require.EqualValues(t, want.Argmax, got.Argmax)
					require.EqualValues(t, 1, got.Finite)
					require.InEpsilon(t, 1+math.Abs(float64(want.LogSumExp)), 1+math.Abs(float64(got.LogSumExp)), tolerance["logsum"])
					require.Equal(t, row[got.Token], got.Logit)
					if int(got.Token) != want.Token { // allowed at the edge between two tokens only
						low := ref.Draw(row, params[i].Temperature, -1, uniform-1e-6)
						high := ref.Draw(row, params[i].Temperature, -1, uniform+1e-6)
						require.Contains(t, []int{low.Token, high.Token}, int(got.Token))
					}
					tokens, values := make([]int32, topN), make([]float32, topN)
					ref.Top(tokens, values, row)
					require.Equal(t, tokens, slices.Clone(p.TopTokens.int32s()[i*topN:][:topN]))
					require.Equal(t, values, slices.Clone(p.TopLogits.float32s()[i*topN:][:topN]))
				}
			})
		}
	})
}

// outOf is what the sampler has said.
func outOf(p *SampleParams) []SampleOut {
	out := make([]SampleOut, p.Rows)
	copy(AsBytes(out), p.Out.bytes())
	return out
}

// sampleOne samples one row.
func (r *rig) sampleOne(logits []float32, row SampleRow) SampleOut {
	p := &SampleParams{Logits: write(r, logits), Params: write(r, []SampleRow{row}), Out: r.alloc(sizeOf[SampleOut]()), Vocab: len(logits), Rows: 1}
	r.do(func(o Ops) error { return o.Sample(p) })
	return outOf(p)[0]
}

func TestSampleTies(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 2)
		logits := make([]float32, 9000)
		for _, ids := range [][]int{{0, 8999}, {17, 18}, {4095, 4096}, {5000, 5001, 8192}} {
			clear(logits)
			for _, id := range ids {
				logits[id] = 3
			}
			require.EqualValues(t, ids[0], r.sampleOne(logits, SampleRow{Want: -1}).Token, "ties at %v", ids)
		}
		clear(logits)
		require.EqualValues(t, 0, r.sampleOne(logits, SampleRow{Want: -1}).Token)
		for i := range logits {
			logits[i] = -1e30
		}
		require.EqualValues(t, 0, r.sampleOne(logits, SampleRow{Want: -1}).Token)
	})
}

func TestSampleNotFinite(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 2)
		for _, vocab := range []int{1, 30, 5000} {
			for _, bad := range []float32{nan, inf, -inf} {
				for _, at := range []int{0, vocab / 2, vocab - 1} {
					for _, temperature := range []float32{0, 1} {
						logits := slices.Clone(r.floats(vocab).float32s())
						logits[at] = bad
						got := r.sampleOne(logits, SampleRow{Want: -1, Temperature: temperature})
						require.EqualValues(t, 0, got.Finite, "%v at %d of %d", bad, at, vocab)
						require.Less(t, int(got.Token), vocab)
					}
				}
			}
		}
	})
}

// TestSampleExtremes has temperatures and logits at which careless arithmetic overflows.
func TestSampleExtremes(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 1)
		logits := []float32{-3e38, 1, 3e38, 2.9e38, -5}
		for _, temperature := range []float32{0, 1e-45, 1e-30, 1, 1e30} {
			for seed := range uint64(20) {
				got := r.sampleOne(logits, SampleRow{Want: -1, Temperature: temperature, Seed: seed})
				require.EqualValues(t, 1, got.Finite)
				require.EqualValues(t, 2, got.Token, "temperature %v", temperature)
				require.EqualValues(t, float32(3e38), got.LogSumExp)
			}
		}
	})
}

// TestSampleFollowsTheDistribution draws often and compares the counts with the probabilities.
func TestSampleFollowsTheDistribution(t *testing.T) {
	const rows, draws = 500, 20000
	logits := []float32{1, 0, 2, -1, 0.5}
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 2)
		all := make([]float32, 0, rows*len(logits))
		for range rows {
			all = append(all, logits...)
		}
		p := &SampleParams{Logits: write(r, all), Params: r.alloc(rows * sizeOf[SampleRow]()), Out: r.alloc(rows * sizeOf[SampleOut]()), Vocab: len(logits), Rows: rows}
		counts := make([]int, len(logits))
		for n := 0; n < draws; n += rows {
			for i := range p.params() {
				p.params()[i] = SampleRow{Temperature: 0.8, Want: -1, Seed: 42, Counter: uint64(n + i)}
			}
			r.do(func(o Ops) error { return o.Sample(p) })
			for _, out := range outOf(p) {
				counts[out.Token]++
			}
		}
		var total float64
		for _, l := range logits {
			total += math.Exp(float64(l) / 0.8)
		}
		for id, l := range logits {
			share := math.Exp(float64(l)/0.8) / total
			deviation := math.Sqrt(share * (1 - share) / draws)
			require.InDelta(t, share, float64(counts[id])/draws, 5*deviation, "token %d", id)
		}
	})
}
