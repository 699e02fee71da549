package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// BenchmarkFilter is rows of Qwen3's vocabulary, spread as a model's logits are, with one filter each.
func BenchmarkFilter(b *testing.B) {
	for _, set := range kernelSets() {
		for _, rows := range []int{1, 8} {
			for _, c := range []struct {
				name   string
				filter SampleFilter
			}{
				{"none", SampleFilter{}},
				{"top-k-50", SampleFilter{TopK: 50}},
				{"top-k-20,top-p-0.95", SampleFilter{TopK: 20, TopP: 0.95}},
				{"top-p-0.95", SampleFilter{TopP: 0.95}},
				{"min-p-0.05", SampleFilter{MinP: 0.05}},
				{"typical-p-0.95", SampleFilter{TypicalP: 0.95}},
				{"presence", SampleFilter{PresencePenalty: 1, Counts: 500}},
				{"presence,top-k-20,top-p-0.95", SampleFilter{TopK: 20, TopP: 0.95, PresencePenalty: 1, Counts: 500}},
			} {
				b.Run(fmt.Sprintf("set=%s/rows=%d/filter=%s", set.name, rows, c.name), func(b *testing.B) {
					benchmarkFilter(b, set.name, rows, c.filter)
				})
			}
		}
	}
}

func benchmarkFilter(b *testing.B, set string, rows int, f SampleFilter) {
	r := newRig(b, set, 2)
	r.rng = rand.New(rand.NewPCG(1, 1))
	const vocab = 151936
	logits := r.floats(rows * vocab)
	for i := range logits.float32s() {
		logits.float32s()[i] *= 3
	}
	counts := make([]TokenCount, f.Counts)
	for i := range counts {
		counts[i] = TokenCount{int32(300 * i), 1}
	}
	p := &SampleParams{
		Logits: logits, Params: write(r, slices.Repeat([]SampleRow{{Temperature: 0.7, Want: -1}}, rows)),
		Out: r.alloc(rows * sizeOf[SampleOut]()), Vocab: vocab, Rows: rows,
		Filters: write(r, slices.Repeat([]SampleFilter{f}, rows)), Counts: write(r, counts),
	}
	run := func(o Ops) error { return o.Sample(p) }
	i, best := 0, time.Duration(math.MaxInt64)
	for b.Loop() {
		for row := range p.params() { // another token each time
			p.params()[row].Counter = uint64(rows*i + row)
		}
		i++
		start := time.Now()
		r.do(run)
		best = min(best, time.Since(start))
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(i*rows), "µs/row")
	b.ReportMetric(best.Seconds()*1e6/float64(rows), "best-µs/row") // of a machine that others use, too
}
