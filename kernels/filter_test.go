package kernels

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/ref"
)

// filteredRows is sampling of random rows with random filters: some logits tie, some filters are empty, and each field is
// set in some rows.
func (r *rig) filteredRows(rows, vocab int) *SampleParams {
	logits, spread := r.floats(rows*vocab), []float32{0.1, 1, 4}[r.rng.IntN(3)]
	ties := r.rng.IntN(2) == 0
	for i, l := range logits.float32s() {
		if l *= spread; ties {
			l = float32(math.Round(float64(2*l))) / 2
		}
		logits.float32s()[i] = l
	}
	some := func(values ...float32) float32 { return values[r.rng.IntN(len(values))] }
	var params []SampleRow
	var filters []SampleFilter
	var biases []TokenBias
	var counts []TokenCount
	for range rows {
		params = append(params, SampleRow{Temperature: some(0, 0.3, 1, 2), Want: -1, Seed: r.rng.Uint64(), Counter: r.rng.Uint64()})
		f := SampleFilter{
			TopK:     int32(some(0, 0, 1, 2, 7, float32(vocab/2), float32(vocab), 1e6)),
			TopP:     some(0, 0, 0.1, 0.5, 0.9, 0.999, 1),
			MinP:     some(0, 0, 0.01, 0.3, 1),
			TypicalP: some(0, 0, 0.2, 0.9, 1),
			Bias:     int32(len(biases)), Count: int32(len(counts)),
		}
		if r.rng.IntN(2) == 0 {
			f.RepetitionPenalty, f.PresencePenalty, f.FrequencyPenalty = some(0, 0.5, 1.3), some(0, 1, -0.5), some(0, 0.3)
		}
		for token := range int32(vocab) {
			switch r.rng.IntN(12) {
			case 0:
				biases = append(biases, TokenBias{token, some(-1, 2, 5, float32(math.Inf(-1)))})
			case 1:
				counts = append(counts, TokenCount{token, r.rng.Int32N(4)})
			}
		}
		if r.rng.IntN(3) > 0 {
			f.Biases, f.Counts = int32(len(biases))-f.Bias, int32(len(counts))-f.Count
		}
		if r.rng.IntN(5) == 0 {
			f = SampleFilter{}
		}
		filters = append(filters, f)
	}
	return &SampleParams{
		Logits: logits, Params: write(r, params), Out: r.alloc(rows * sizeOf[SampleOut]()), Vocab: vocab, Rows: rows,
		Filters: write(r, filters), Biases: write(r, biases), Counts: write(r, counts),
	}
}

// edited is a row after biases and penalties, token by token.
func edited(p *SampleParams, r int) []float32 {
	f, logits := p.filters()[r], slices.Clone(p.row(r))
	biases, counts := p.edits(&f)
	for id := range logits {
		for _, b := range biases {
			if int(b.Token) == id {
				logits[id] += b.Bias
			}
		}
		for _, c := range counts {
			if int(c.Token) == id {
				logits[id] = ref.Penalize(logits[id], f.RepetitionPenalty, f.PresencePenalty, f.FrequencyPenalty, c.Output)
			}
		}
	}
	return logits
}

func refFilter(f SampleFilter) ref.Filter {
	return ref.Filter{TopK: int(f.TopK), TopP: f.TopP, MinP: f.MinP, TypicalP: f.TypicalP}
}

// TestFilter compares what is left and what is drawn with package ref, which sorts the whole vocabulary.
func TestFilter(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		for _, vocab := range []int{1, 2, 17, 300, 2500} {
			t.Run(fmt.Sprintf("vocab=%d", vocab), func(t *testing.T) {
				r := newRig(t, set, 2)
				for range 3 {
					p := r.filteredRows(40, vocab)
					before := bits(p.Logits)
					r.do(func(o Ops) error { return o.Sample(p) })
					require.Equal(t, before, bits(p.Logits), "logits")
					for i, got := range outOf(p) {
						requireFiltered(t, p, i, got)
					}
				}
			})
		}
	})
}

func requireFiltered(t *testing.T, p *SampleParams, i int, got SampleOut) {
	t.Helper()
	row, f, logits := p.params()[i], p.filters()[i], p.row(i)
	plain := ref.Draw(logits, row.Temperature, -1, 0)
	require.EqualValues(t, plain.Argmax, got.Argmax)
	require.Equal(t, logits[got.Token], got.Logit)
	require.InDelta(t, plain.LogSumExp, got.LogSumExp, 1e-5)
	if f == (SampleFilter{}) {
		return // TestSample has these
	}
	logits = edited(p, i)
	largest := slices.Index(logits, slices.Max(logits))
	if math.IsInf(float64(logits[largest]), -1) {
		largest = plain.Argmax // all are masked
	} else if row.Temperature > 0 {
		ids, weights := ref.Keep(logits, row.Temperature, refFilter(f))
		var left []int
		for _, c := range keep(make([]candidate, p.Vocab), logits, logits[largest], row.Temperature, &f) {
			require.Equal(t, weights[len(left)], c.weight)
			left = append(left, int(c.id))
		}
		require.Equal(t, ids, left, "%+v", f)
		largest = ids[ref.Pick(weights, ref.Uniform(row.Seed, row.Counter))]
	}
	require.EqualValues(t, largest, got.Token, "%+v at temperature %v", f, row.Temperature)
}

// TestFilterAlone: a row's token does not depend on the other rows, nor on the number of threads.
func TestFilterAlone(t *testing.T) {
	r := newRig(t, "", 3)
	all := r.filteredRows(32, 700)
	r.do(func(o Ops) error { return o.Sample(all) })
	single := newRig(t, "", 1)
	for i, want := range outOf(all) {
		p := *all
		p.Rows, p.Out = 1, single.alloc(sizeOf[SampleOut]())
		p.Logits, p.Params, p.Filters = write(single, all.row(i)), write(single, all.params()[i:i+1]), write(single, all.filters()[i:i+1])
		if all.filters()[i] == (SampleFilter{}) {
			p.Filters, p.Biases, p.Counts = Buffer{}, Buffer{}, Buffer{}
		}
		single.do(func(o Ops) error { return o.Sample(&p) })
		require.Equal(t, want, outOf(&p)[0], "row %d", i)
	}
}

// sampleFiltered samples one row.
func (r *rig) sampleFiltered(logits []float32, row SampleRow, f SampleFilter, biases []TokenBias, counts []TokenCount) SampleOut {
	f.Biases, f.Counts = int32(len(biases)), int32(len(counts))
	p := &SampleParams{
		Logits: write(r, logits), Params: write(r, []SampleRow{row}), Out: r.alloc(sizeOf[SampleOut]()), Vocab: len(logits), Rows: 1,
		Filters: write(r, []SampleFilter{f}), Biases: write(r, biases), Counts: write(r, counts),
	}
	r.do(func(o Ops) error { return o.Sample(p) })
	return outOf(p)[0]
}

// TestFilterGreedy: at temperature 0 biases, masks and penalties decide, and the order in which they come.
func TestFilterGreedy(t *testing.T) {
	never := float32(math.Inf(-1))
	logits := []float32{2, 1.5, -1, 1}
	for _, c := range []struct {
		name   string
		logits []float32
		filter SampleFilter
		biases []TokenBias
		counts []TokenCount
		want   int32
	}{
		{name: "nothing", want: 0},
		{name: "bias", biases: []TokenBias{{3, 1.5}}, want: 3},
		{name: "mask", biases: []TokenBias{{0, never}}, want: 1},
		{name: "all masked", biases: []TokenBias{{0, never}, {1, never}, {2, never}, {3, never}}, want: 0},
		{name: "repetition of a prompt token", filter: SampleFilter{RepetitionPenalty: 2}, counts: []TokenCount{{0, 0}}, want: 1},
		{name: "repetition of a negative logit", logits: []float32{-1, -1.5}, filter: SampleFilter{RepetitionPenalty: 2}, counts: []TokenCount{{0, 0}}, want: 1},
		{name: "presence of a prompt token", filter: SampleFilter{PresencePenalty: 2}, counts: []TokenCount{{0, 0}}, want: 0},
		{name: "presence", filter: SampleFilter{PresencePenalty: 0.4}, counts: []TokenCount{{0, 5}}, want: 0},
		{name: "more presence", filter: SampleFilter{PresencePenalty: 0.6}, counts: []TokenCount{{0, 5}}, want: 1},
		{name: "frequency", filter: SampleFilter{FrequencyPenalty: 0.2}, counts: []TokenCount{{0, 2}}, want: 0},
		{name: "more frequency", filter: SampleFilter{FrequencyPenalty: 0.2}, counts: []TokenCount{{0, 3}}, want: 1},
		{name: "the bias comes before the penalty", logits: []float32{4, 2.5}, filter: SampleFilter{RepetitionPenalty: 2}, biases: []TokenBias{{0, 0.9}}, counts: []TokenCount{{0, 1}}, want: 1},
		{name: "beyond the finite numbers", logits: []float32{1, 3e38}, filter: SampleFilter{RepetitionPenalty: 0.1}, counts: []TokenCount{{0, 1}, {1, 1}}, want: 1},
		{name: "far below them", logits: []float32{-3e38, -3e38}, filter: SampleFilter{RepetitionPenalty: 10}, biases: []TokenBias{{1, never}}, counts: []TokenCount{{0, 1}}, want: 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, "", 1)
			if c.logits == nil {
				c.logits = logits
			}
			for _, row := range []SampleRow{{Want: -1}, {Want: -1, Temperature: 1e-30}} { // near 0 is the same
				got := r.sampleFiltered(c.logits, row, c.filter, c.biases, c.counts)
				require.Equal(t, c.want, got.Token)
				require.Equal(t, c.logits[c.want], got.Logit)
			}
			want := int32(len(c.logits) - 1)
			got := r.sampleFiltered(c.logits, SampleRow{Want: want}, c.filter, c.biases, c.counts)
			require.Equal(t, want, got.Token, "what is wanted is taken")
		})
	}
}

// TestFilterDistribution draws often with each filter and compares the counts with the probabilities, by χ². The tokens
// that are left, and their odds, are worked out by hand.
func TestFilterDistribution(t *testing.T) {
	// Probabilities of 0.4, 0.2, 0.15, 0.1, 0.1 and 0.05, not in falling order.
	odds := []float64{2, 8, 1, 4, 3, 2}
	var logits []float32
	for _, n := range odds {
		logits = append(logits, float32(math.Log(n)))
	}
	log := func(n float64) float32 { return float32(math.Log(n)) }
	for _, c := range []struct {
		name        string
		temperature float32
		filter      SampleFilter
		biases      []TokenBias
		counts      []TokenCount
		odds        []float64
	}{
		{name: "top-k", filter: SampleFilter{TopK: 3}, odds: []float64{0, 8, 0, 4, 3, 0}},
		{name: "top-k cuts a tie", filter: SampleFilter{TopK: 4}, odds: []float64{2, 8, 0, 4, 3, 0}},
		{name: "top-p", filter: SampleFilter{TopP: 0.61}, odds: []float64{0, 8, 0, 4, 3, 0}},
		{name: "top-p of less than the first", filter: SampleFilter{TopP: 0.3}, odds: []float64{0, 8, 0, 0, 0, 0}},
		{name: "min-p", filter: SampleFilter{MinP: 0.26}, odds: []float64{0, 8, 0, 4, 3, 0}},
		// −ln p: 2.30 0.92 3.00 1.61 1.90 2.30, entropy 1.58.
		{name: "typical", filter: SampleFilter{TypicalP: 0.36}, odds: []float64{0, 8, 0, 4, 3, 0}},
		{name: "typical without the first", filter: SampleFilter{TypicalP: 0.3}, odds: []float64{0, 0, 0, 4, 3, 0}},
		// Halved exponents: the odds' roots.
		{name: "temperature before top-p", temperature: 2, filter: SampleFilter{TopP: 0.5}, odds: []float64{0, math.Sqrt(8), 0, 2, math.Sqrt(3), 0}},
		// 8 of 15 is 0.53 of what top-k leaves.
		{name: "top-k before top-p", filter: SampleFilter{TopK: 3, TopP: 0.53}, odds: []float64{0, 8, 0, 0, 0, 0}},
		{name: "repetition", filter: SampleFilter{RepetitionPenalty: 2}, counts: []TokenCount{{1, 1}, {3, 0}}, odds: []float64{2, math.Sqrt(8), 1, 2, 3, 2}},
		{name: "presence", filter: SampleFilter{PresencePenalty: log(2)}, counts: []TokenCount{{1, 3}, {3, 0}}, odds: []float64{2, 4, 1, 4, 3, 2}},
		{name: "frequency", filter: SampleFilter{FrequencyPenalty: log(2)}, counts: []TokenCount{{1, 3}, {3, 0}}, odds: []float64{2, 1, 1, 4, 3, 2}},
		{name: "bias", biases: []TokenBias{{2, log(6)}, {1, float32(math.Inf(-1))}}, odds: []float64{2, 0, 6, 4, 3, 2}},
		{name: "all together", filter: SampleFilter{TopK: 5, TopP: 0.8, MinP: 0.3, PresencePenalty: log(2)}, biases: []TokenBias{{1, log(1.5)}}, counts: []TokenCount{{1, 1}}, odds: []float64{2, 6, 0, 4, 3, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			const rows, rounds = 500, 20
			r := newRig(t, "", 2)
			c.filter.Biases, c.filter.Counts = int32(len(c.biases)), int32(len(c.counts))
			p := &SampleParams{
				Logits: write(r, slices.Repeat(logits, rows)), Params: r.alloc(rows * sizeOf[SampleRow]()), Out: r.alloc(rows * sizeOf[SampleOut]()),
				Filters: write(r, slices.Repeat([]SampleFilter{c.filter}, rows)), Biases: write(r, c.biases), Counts: write(r, c.counts),
				Vocab: len(logits), Rows: rows,
			}
			counts := make([]int, len(logits))
			for round := range rounds {
				for i := range p.params() { // many seeds, few tokens of each
					p.params()[i] = SampleRow{Temperature: cmp.Or(c.temperature, 1), Want: -1, Seed: uint64(i), Counter: uint64(round)}
				}
				r.do(func(o Ops) error { return o.Sample(p) })
				for _, out := range outOf(p) {
					counts[out.Token]++
				}
			}
			require.Less(t, chiSquare(counts, c.odds), 4.0, "counts %v of odds %v", counts, c.odds)
			require.Greater(t, chiSquare(counts, odds), 10.0, "the test would not see the filter missing")
		})
	}
}

// chiSquare is how many standard deviations the χ² of counts lies above what is expected with the given odds, by Wilson and
// Hilferty's cube root. A count where there should be none is infinitely far off.
func chiSquare(counts []int, odds []float64) float64 {
	total, n := 0.0, 0
	for i := range counts {
		total += odds[i]
		n += counts[i]
	}
	sum, freedom := 0.0, -1.0
	for i, count := range counts {
		expected := odds[i] / total * float64(n)
		if expected > 0 {
			sum += (float64(count) - expected) * (float64(count) - expected) / expected
			freedom++
		} else if count > 0 {
			return math.Inf(1)
		}
	}
	if freedom == 0 {
		return 0
	}
	part := 2 / (9 * freedom)
	return (math.Cbrt(sum/freedom) - (1 - part)) / math.Sqrt(part)
}

// TestChiSquare checks the check: the 1 % points of three distributions.
func TestChiSquare(t *testing.T) {
	for _, c := range []struct {
		counts []int
		odds   []float64
		want   float64
	}{
		{[]int{500, 500, 0}, []float64{1, 1, 0}, -1.65},  // 0, the least
		{[]int{541, 459}, []float64{1, 1}, 2.33},         // 6.7 with 1 degree
		{[]int{300, 360, 340}, []float64{1, 1, 1}, 1.75}, // 5.6 with 2: p = 0.061, one-sided z 1.55
		{[]int{10, 990, 1}, []float64{1, 99, 0}, math.Inf(1)},
	} {
		require.InDelta(t, c.want, chiSquare(c.counts, c.odds), 0.3, "%v", c.counts)
	}
}

func TestFilterRefuses(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		change func(*SampleParams, *SampleFilter)
		want   string
	}{
		{func(p *SampleParams, f *SampleFilter) { p.Filters.size -= 4 }, "Filters has"},
		{func(p *SampleParams, f *SampleFilter) { p.Vocab, p.Rows = 1<<24, 0 }, "Vocab is 16777216"},
		{func(p *SampleParams, f *SampleFilter) { f.TopK = -1 }, "Filters[1].TopK is -1"},
		{func(p *SampleParams, f *SampleFilter) { f.TopP = 1.5 }, "Filters[1].TopP is 1.5, want 0 to 1"},
		{func(p *SampleParams, f *SampleFilter) { f.MinP = nan }, "Filters[1].MinP is NaN"},
		{func(p *SampleParams, f *SampleFilter) { f.TypicalP = -1 }, "Filters[1].TypicalP is -1"},
		{func(p *SampleParams, f *SampleFilter) { f.RepetitionPenalty = -1 }, "Filters[1].RepetitionPenalty is -1"},
		{func(p *SampleParams, f *SampleFilter) { f.RepetitionPenalty = inf }, "Filters[1].RepetitionPenalty is +Inf"},
		{func(p *SampleParams, f *SampleFilter) { f.PresencePenalty = nan }, "Filters[1] has penalties NaN and 0"},
		{func(p *SampleParams, f *SampleFilter) { f.FrequencyPenalty = inf }, "Filters[1] has penalties 0 and +Inf"},
		{func(p *SampleParams, f *SampleFilter) { f.Bias, f.Biases = 1, 2 }, "Filters[1] has Biases 1 to 3 of 2"},
		{func(p *SampleParams, f *SampleFilter) { f.Bias = -1 }, "Filters[1] has Biases -1 to"},
		{func(p *SampleParams, f *SampleFilter) { f.Counts = -1 }, "Filters[1] has Counts 0 to -1 of 1"},
		{func(p *SampleParams, f *SampleFilter) { *(*TokenBias)(p.Biases.addr) = TokenBias{30, 1} }, "Filters[1], bias 0: token 30, 1"},
		{func(p *SampleParams, f *SampleFilter) { *(*TokenBias)(p.Biases.addr) = TokenBias{-1, 1} }, "Filters[1], bias 0: token -1, 1"},
		{func(p *SampleParams, f *SampleFilter) { *(*TokenBias)(p.Biases.addr) = TokenBias{1, inf} }, "Filters[1], bias 0: token 1, +Inf"},
		{func(p *SampleParams, f *SampleFilter) { *(*TokenBias)(p.Biases.addr) = TokenBias{1, nan} }, "Filters[1], bias 0: token 1, NaN"},
		{func(p *SampleParams, f *SampleFilter) { *(*TokenCount)(p.Counts.addr) = TokenCount{30, 1} }, "Filters[1], count 0: token 30, 1 times"},
		{func(p *SampleParams, f *SampleFilter) { *(*TokenCount)(p.Counts.addr) = TokenCount{3, -1} }, "Filters[1], count 0: token 3, -1 times"},
	} {
		t.Run(c.want, func(t *testing.T) {
			r := newRig(t, "", 1)
			p := &SampleParams{
				Logits: r.floats(60), Params: write(r, []SampleRow{{Want: -1}, {Want: -1}}), Out: r.alloc(2 * sizeOf[SampleOut]()), Vocab: 30, Rows: 2,
				Filters: write(r, []SampleFilter{{}, {Biases: 2, Counts: 1}}), Biases: r.alloc(16), Counts: r.alloc(8),
			}
			r.do(func(o Ops) error { return o.Sample(p) })
			c.change(p, &p.filters()[min(1, p.Rows)])
			err := r.dev.Do(context.Background(), func(o Ops) error { return o.Sample(p) })
			require.ErrorContains(t, err, "kernels: Sample: ")
			require.ErrorContains(t, err, c.want)
		})
	}
}

// TestFilterAllocates nothing once the largest shape was seen.
func TestFilterAllocates(t *testing.T) {
	r := newRig(t, "", 2)
	p := r.filteredRows(20, 5000)
	run := func(o Ops) error { return o.Sample(p) }
	ctx := context.Background()
	require.NoError(t, r.dev.Do(ctx, run))
	require.Zero(t, testing.AllocsPerRun(10, func() {
		if err := r.dev.Do(ctx, run); err != nil {
			panic(err)
		}
	}))
}
