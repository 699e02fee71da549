package kernels

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/ref"
)

// keep is the tokens that the plain-Go set leaves of a row, which has been edited.
func keep(_ []candidate, logits []float32, _, temperature float32, f *SampleFilter) []candidate {
	var left []candidate
	search(goSet, logits, temperature, *f, func(s *filtering, p *SampleParams) { left = s.left(p) })
	return left
}

// search does all steps but the last for a row, which has been edited, and shows it.
func search(set kernelSet, logits []float32, temperature float32, f SampleFilter, show func(*filtering, *SampleParams)) {
	var m memory
	defer m.freeAll()
	c, err := newCPU(set, 1, &m)
	if err != nil {
		panic(err)
	}
	defer c.close()
	copied := func(data []byte) Buffer {
		b, err := m.alloc(len(data))
		if err != nil {
			panic(err)
		}
		copy(b.bytes(), data)
		return b
	}
	f.Bias, f.Biases, f.Count, f.Counts = 0, 0, 0, 0
	p := &SampleParams{
		Logits: copied(AsBytes(logits)), Vocab: len(logits), Rows: 1,
		Params:  copied(AsBytes([]SampleRow{{Temperature: temperature, Want: -1}})),
		Out:     copied(AsBytes([]SampleOut{{Argmax: int32(slices.Index(logits, slices.Max(logits))), Finite: 1}})),
		Filters: copied(AsBytes([]SampleFilter{f})),
	}
	if err := c.makeRoom(p, 1); err != nil {
		panic(err)
	}
	c.args.filter.begin(0, 0)
	c.search(1)
	show(c.args.filter.at(0), p)
}

// left is a copy of the tokens that are left.
func (s *filtering) left(p *SampleParams) []candidate {
	if s.room != nil {
		return slices.Clone(s.keep(p))
	}
	var all []candidate
	for id, l := range p.row(0) {
		if w := s.weight(l); w > 0 {
			all = append(all, candidate{float64(l), w, int32(id)})
		}
	}
	return all
}

// requireKept compares what is left with package ref.
func requireKept(t *testing.T, logits []float32, temperature float32, f SampleFilter, left []candidate) {
	t.Helper()
	ids, weights := ref.Keep(logits, temperature, refFilter(f))
	requireLeft(t, ids, weights, left)
}

func requireLeft(t *testing.T, ids []int, weights []uint64, left []candidate) {
	t.Helper()
	require.Len(t, left, len(ids))
	for i, c := range left {
		if int(c.id) != ids[i] || c.weight != weights[i] {
			require.Fail(t, "not the same", "got token %d of weight %d, want %d of %d", c.id, c.weight, ids[i], weights[i])
		}
	}
}

// eachKernelSet runs a test on every kernel set without a device.
func eachKernelSet(t *testing.T, run func(t *testing.T, set kernelSet, rng *rand.Rand)) {
	for _, set := range kernelSets() {
		t.Run(set.name, func(t *testing.T) { run(t, set, newRand(t)) })
	}
}

// TestWeights compares the kernels' weights with package ref's, number by number: of exponents from 0 to −30, most of them near
// 0, where a weight shows the most bits; of those next to where the halvings change; and of what else temperatures make.
func TestWeights(t *testing.T) {
	eachKernelSet(t, func(t *testing.T, set kernelSet, rng *rand.Rand) {
		for _, temperature := range []float32{1, 0.7, 1.3, 3e-5, 1e-38, 2e4, 3e38} {
			for _, largest := range []float32{0, 17.3, -2.5e3, 1e-30} {
				logits := []float32{largest}
				for range 10_000 {
					logits = append(logits, float32(float64(largest)-30*math.Pow(rng.Float64(), 4)*float64(temperature)))
				}
				for n := range 41 {
					l := float32(float64(largest) - (float64(n)+0.5)*math.Ln2*float64(temperature))
					for range 8 {
						logits = append(logits, min(l, largest))
						l = math.Nextafter32(l, float32(math.Inf(-1)))
					}
				}
				logits = append(logits, -math.MaxFloat32, float32(math.Inf(-1)), largest)
				logits = slices.DeleteFunc(logits, func(l float32) bool { return l > largest })
				requireWeights(t, set, logits, temperature)
			}
		}
	})
}

// TestWeightsUnfused has the exponents at which a fused multiply-add would change the weight: a few of a million.
func TestWeightsUnfused(t *testing.T) {
	logits, rng := []float32{0}, newRand(t)
	for len(logits) < 20 {
		if l := -float32(rng.Float64()); fusedWeight(float64(l)) != ref.Weight(float64(l)) {
			logits = append(logits, l)
		}
	}
	for _, set := range kernelSets() {
		t.Run(set.name, func(t *testing.T) { requireWeights(t, set, logits, 1) })
	}
}

// fusedWeight is ref.Weight with fused multiply-adds.
func fusedWeight(x float64) uint64 {
	halvings := int64(math.FMA(x, -1/math.Ln2, 0.5))
	r := math.FMA(float64(halvings), math.Ln2, x)
	rr, even, odd := r*r, 1.0/3628800, 1.0/362880
	for _, term := range [][2]float64{{40320, 5040}, {720, 120}, {24, 6}, {2, 1}} {
		even, odd = math.FMA(even, rr, 1/term[0]), math.FMA(odd, rr, 1/term[1])
	}
	e := math.FMA(odd, r, math.FMA(even, rr, 1))
	return uint64(int64(e*(1<<61))) >> (21 + halvings)
}

func requireWeights(t *testing.T, set kernelSet, logits []float32, temperature float32) {
	t.Helper()
	least := SampleFilter{MinP: 1e-11} // 11 units; all others are in a sum
	search(set, logits, temperature, least, func(s *filtering, p *SampleParams) {
		var want, got []candidate
		for id, l := range logits {
			if w := ref.Weight((float64(l) - float64(logits[0])) / float64(temperature)); w >= least.least() {
				want = append(want, candidate{float64(l), w, int32(id)})
			}
		}
		got, _ = s.pack(p.Vocab)
		require.Equal(t, want, heavy(got, least.least()), "temperature %v, largest %v", temperature, logits[0])
	})
	search(set, logits, temperature, SampleFilter{TypicalP: 0.5}, func(s *filtering, p *SampleParams) {
		sums, moment := make([]uint64, ceilDiv(len(logits), filterBlock)), 0.0
		for id, l := range logits {
			x := (float64(l) - float64(logits[0])) / float64(temperature)
			if w := ref.Weight(x); w > 0 {
				sums[id/filterBlock] += w
				moment += float64(w) * x
			}
		}
		require.Equal(t, sums, s.blockSums(p.Vocab), "temperature %v, largest %v", temperature, logits[0])
		require.InDelta(t, moment/float64(total(sums)), s.mean, 1e-11)
	})
}

// TestKeep compares what is left of larger vocabularies than package ref is made for, of several distributions.
func TestKeep(t *testing.T) {
	vocab, rng, guesses := 30_011, newRand(t), 0
	if testing.Short() {
		vocab = 9_001
	}
	for _, c := range []struct {
		name  string
		logit func(id int) float32
	}{
		{"wide", func(int) float32 { return float32(4 * rng.NormFloat64()) }},
		{"narrow", func(int) float32 { return float32(rng.NormFloat64()) }},
		{"peaked", func(id int) float32 { return float32(20/(1+id/100)) + float32(rng.NormFloat64()) }},
		{"ties", func(int) float32 { return float32(math.Round(3 * rng.NormFloat64())) }},
		{"equal", func(int) float32 { return -3 }},
		{"masked", func(id int) float32 {
			if id%1000 > 3 {
				return float32(math.Inf(-1))
			}
			return float32(2 * rng.NormFloat64())
		}},
		{"clustered", func(int) float32 { return float32(math.Exp(-80 * rng.Float64())) }},
	} {
		logits := make([]float32, vocab)
		for id := range logits {
			logits[id] = c.logit(id)
		}
		for _, f := range []SampleFilter{
			{TopK: 1}, {TopK: 50}, {TopK: 3000}, {TopP: 0.5}, {TopP: 0.95}, {TopP: 0.9999}, {MinP: 0.05}, {MinP: 1e-9},
			{TypicalP: 0.2}, {TypicalP: 0.95}, {TypicalP: 0.9999}, {TopK: 200, TopP: 0.8, MinP: 0.01}, {TopP: 0.9, TypicalP: 0.9},
			{MinP: 1e-6, TypicalP: 0.5}, {TopK: 500, TopP: 0.95, MinP: 1e-4, TypicalP: 0.7},
		} {
			temperature := []float32{0.3, 1, 2}[rng.IntN(3)]
			ids, weights := ref.Keep(logits, temperature, refFilter(f))
			for _, set := range kernelSets() {
				t.Run(fmt.Sprintf("%s/%+v/%s", c.name, f, set.name), func(t *testing.T) {
					search(set, logits, temperature, f, func(s *filtering, p *SampleParams) {
						if s.guessed {
							guesses++
						}
						requireLeft(t, ids, weights, s.left(p))
					})
				})
			}
		}
	}
	require.NotZero(t, guesses, "guesses that were right")
}

// TestKeepGuessMissed has a vocabulary whose larger part is unlike the one that a guess looks at.
func TestKeepGuessMissed(t *testing.T) {
	eachKernelSet(t, func(t *testing.T, set kernelSet, rng *rand.Rand) {
		logits := make([]float32, 20_000)
		for id := range logits {
			if logits[id] = -3; id%filterBlock < guessRun {
				logits[id] = -2 - rng.Float32()/2
			}
		}
		logits[5] = 0
		for _, f := range []SampleFilter{{TopP: 0.97}, {TypicalP: 0.97}} {
			search(set, logits, 1, f, func(s *filtering, p *SampleParams) {
				require.False(t, s.guessed)
				require.Equal(t, s.loose, s.mark)
				s.mark = s.edge(1)
				_, guessed := s.guess(logits, total(s.blockSums(p.Vocab))-s.need)
				require.True(t, guessed, "the guess was made")
			})
			search(set, logits, 1, f, func(s *filtering, p *SampleParams) { requireKept(t, logits, 1, f, s.left(p)) })
		}
	})
}

// TestKeepTypicalClose has tokens as far above the mean as others are below, where the last bits of the mean decide.
func TestKeepTypicalClose(t *testing.T) {
	// Exponents 0, −1/T and −2/T with e^(2/T) = 4: one token weighs as much as four of the last kind.
	temperature := float32(2 / math.Log(4))
	logits := slices.Repeat([]float32{1}, 100_000)
	logits[70_000] = 2
	for _, id := range []int{3, 40_000, 90_000, 99_999} {
		logits[id] = 0
	}
	f := SampleFilter{TypicalP: 1 - 2e-5}
	eachKernelSet(t, func(t *testing.T, set kernelSet, _ *rand.Rand) {
		search(set, logits, temperature, f, func(s *filtering, p *SampleParams) {
			left, spare := s.pack(p.Vocab)
			s.judge(left, logits)
			end := last(left, spare, s.need)
			require.NotEqual(t, logits[0], logits[end.id])
			require.True(t, s.close(left, &end, logits))
			require.False(t, s.close(left, &candidate{score: end.score - 1e-3, id: end.id}, logits))
		})
		search(set, logits, temperature, f, func(s *filtering, p *SampleParams) {
			requireKept(t, logits, temperature, f, s.left(p))
		})
	})
}

// TestLast compares with sorting.
func TestLast(t *testing.T) {
	rng := newRand(t)
	for _, score := range []func() float64{
		rng.NormFloat64,
		func() float64 { return math.Round(rng.NormFloat64()) },
		func() float64 { return 7 },
		func() float64 { return math.Ldexp(1, -rng.IntN(300)) },
		func() float64 { return -math.Ldexp(rng.Float64(), rng.IntN(200)) },
	} {
		for _, n := range []int{1, 2, 300, 2000} {
			left := make([]candidate, n)
			for i := range left {
				left[i] = candidate{score(), rng.Uint64N(1 << uint(rng.IntN(41))), int32(i)}
			}
			sorted := slices.Clone(left)
			slices.SortFunc(sorted, func(a, b candidate) int {
				if a.before(&b) {
					return -1
				}
				return 1
			})
			for _, need := range []uint64{1, 1 + weight(left)/3, weight(left)} {
				want, sum := 0, sorted[0].weight
				for sum < need && want < n-1 {
					want++
					sum += sorted[want].weight
				}
				got := last(left, make([]candidate, n), need)
				require.Equal(t, sorted[want], got, "%d candidates, %d of %d", n, need, weight(left))
				front := slices.Clone(sorted[:want+1])
				slices.SortFunc(front, func(a, b candidate) int { return cmp.Compare(a.id, b.id) })
				require.Equal(t, front, leading(slices.Clone(left), got))
			}
		}
	}
}

// TestFilterAlike: every kernel set takes the same tokens with any number of threads, and gives the logits back as they
// came, even where a token is edited several times.
func TestFilterAlike(t *testing.T) {
	seed := newRand(t).Uint64()
	var want []int32
	for _, set := range kernelSets() {
		for _, threads := range []int{1, 2, 3} {
			t.Run(fmt.Sprintf("%s/threads=%d", set.name, threads), func(t *testing.T) {
				r := newRig(t, set.name, threads)
				r.rng = rand.New(rand.NewPCG(seed, 0))
				p := r.filteredRows(7, 9001)
				biases := []TokenBias{{5, 1}, {17, 4}, {5, 2}, {17, -9}}
				p.Biases = write(r, append(slices.Clone(p.allBiases()), biases...))
				for i := range p.filters() {
					if f := &p.filters()[i]; f.Biases == 0 {
						f.Bias, f.Biases = int32(len(p.allBiases())-len(biases)), int32(len(biases))
					}
				}
				before := bits(p.Logits)
				r.do(func(o Ops) error { return o.Sample(p) })
				require.Equal(t, before, bits(p.Logits), "logits")
				var got []int32
				for _, out := range outOf(p) {
					got = append(got, out.Token)
				}
				if want == nil {
					want = got
				}
				require.Equal(t, want, got, "tokens, seed %d", seed)
			})
		}
	}
}

// TestFilterSetsAllocate nothing once the largest shape was seen, with fewer rows than threads and with more.
func TestFilterSetsAllocate(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 2)
		for _, rows := range []int{1, 5} {
			p := r.filteredRows(rows, 20_000)
			ctx, run := context.Background(), func(o Ops) error { return o.Sample(p) }
			require.NoError(t, r.dev.Do(ctx, run))
			require.Zero(t, testing.AllocsPerRun(100, func() {
				if err := r.dev.Do(ctx, run); err != nil {
					panic(err)
				}
			}))
		}
	})
}

// allBiases is the list in device memory.
func (p *SampleParams) allBiases() []TokenBias {
	biases, _ := p.edits(&SampleFilter{Biases: int32(p.Biases.size / sizeOf[TokenBias]())})
	return biases
}
