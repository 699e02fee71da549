package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

// nullRunner answers every question with token 1 and allocates nothing. It says whether it overlaps.
type nullRunner bool

func (nullRunner) begin()                                   {}
func (nullRunner) add([]int32, []kvcache.Segment) error     { return nil }
func (nullRunner) copyBlock(from, to kvcache.BlockID) error { return nil }
func (nullRunner) readBlock(kvcache.BlockID, []byte) error  { return nil }
func (nullRunner) writeBlock(kvcache.BlockID, []byte) error { return nil }
func (nullRunner) computed() int64                          { return 0 }
func (nullRunner) collect() error                           { return nil }
func (n nullRunner) overlaps() bool                         { return bool(n) }
func (nullRunner) submit(q *questions) error {
	for i := range q.rows {
		q.out[i] = kernels.SampleOut{Token: 1, Finite: 1}
	}
	return nil
}

// TestDecodeStepAllocates nothing: planning and committing a steady decode step stays within memory it has.
func TestDecodeStepAllocates(t *testing.T) {
	for _, overlap := range []bool{false, true} {
		for _, cache := range steady {
			s := decoding(t, 40, overlap, cache)
			allocations := testing.AllocsPerRun(200, func() {
				require.NoError(t, s.doStep(time.Now()))
				s.events = s.events[:0]
			})
			require.Zero(t, allocations, "%s, overlap %v", cache.Name(), overlap)
			require.Len(t, s.running, 40)
		}
	}
}

// steady are the strategies whose share of a step is measured.
var steady = []kvcache.Strategy{kvcache.Standard{}, kvcache.Cascade{}, kvcache.Reuse{}, kvcache.Chunked{}}

// decoding is a scheduler with n sequences past their prompts.
func decoding(t testing.TB, n int, overlap bool, cache kvcache.Strategy) *scheduler {
	o := fakeOptions{blocks: n * 64, blockTokens: 16, sequences: n, stepTokens: 512, context: 1 << 20, cache: cache}
	s, _ := o.scheduler(t)
	s.runner = nullRunner(overlap)
	s.manager = s.manager.(*strict).Manager // strict allocates
	s.learner, _ = s.manager.(kvcache.Learner)
	in := &intake{text: fakeCodec{}, vocab: fakeVocab, context: 1 << 20}
	for i := range n {
		seq, err := in.sequence(&Request{Tokens: make([]int32, 20+i%16), IgnoreEOS: true})
		require.NoError(t, err)
		seq.ticket = uint64(i + 1)
		seq.tokens = append(make([]int32, 0, 4096), seq.tokens...)
		s.enqueue(seq)
	}
	for len(s.waiting) > 0 || slices.ContainsFunc(s.running, func(seq *sequence) bool { return !seq.decoding }) {
		require.NoError(t, s.doStep(time.Now()))
		s.events = s.events[:0]
	}
	return s
}

// BenchmarkStep is the scheduler's share of a decode step.
func BenchmarkStep(b *testing.B) {
	for _, cache := range steady {
		for _, rows := range []int{1, 64, 256} {
			for _, overlap := range []bool{false, true} {
				b.Run(fmt.Sprintf("cache=%s/rows=%d/overlap=%v", cache.Name(), rows, overlap), func(b *testing.B) {
					s := decoding(b, rows, overlap, cache)
					b.ReportAllocs()
					for b.Loop() {
						if err := s.doStep(time.Now()); err != nil {
							b.Fatal(err)
						}
						s.events = s.events[:0]
						if len(s.running[0].tokens) > 900 {
							b.StopTimer()
							s = decoding(b, rows, overlap, cache)
							b.StartTimer()
						}
					}
				})
			}
		}
	}
}

// BenchmarkEnter is the scheduler's share of a step in which everybody comes at once.
func BenchmarkEnter(b *testing.B) {
	for _, cache := range steady {
		for _, rows := range []int{64, 256} {
			b.Run(fmt.Sprintf("cache=%s/rows=%d", cache.Name(), rows), func(b *testing.B) {
				in := &intake{text: fakeCodec{}, vocab: fakeVocab, context: 1 << 20}
				o := fakeOptions{blocks: rows * 64, blockTokens: 16, sequences: rows, stepTokens: 1 << 20, context: 1 << 20, cache: cache}
				for b.Loop() {
					b.StopTimer()
					s, _ := o.scheduler(b)
					s.runner = nullRunner(false)
					s.manager = s.manager.(*strict).Manager
					for i := range rows {
						seq, err := in.sequence(&Request{Tokens: slices.Repeat([]int32{int32(i % fakeVocab)}, 100+i), IgnoreEOS: true})
						if err != nil {
							b.Fatal(err)
						}
						seq.ticket = uint64(i + 1)
						s.enqueue(seq)
					}
					b.StartTimer()
					if err := s.doStep(time.Now()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
