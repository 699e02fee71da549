package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

// nullRunner answers every question with token 1 and allocates nothing.
type nullRunner struct{}

func (nullRunner) begin()                                   {}
func (nullRunner) add([]int32, []kvcache.Segment) error     { return nil }
func (nullRunner) copyBlock(from, to kvcache.BlockID) error { return nil }
func (nullRunner) readBlock(kvcache.BlockID, []byte) error  { return nil }
func (nullRunner) writeBlock(kvcache.BlockID, []byte) error { return nil }
func (nullRunner) computed() int64                          { return 0 }
func (nullRunner) run(q *questions) error {
	for i := range q.rows {
		q.out[i] = kernels.SampleOut{Token: 1, Finite: 1}
	}
	return nil
}

// TestDecodeStepAllocates nothing: planning and committing a steady decode step stays within memory it has.
func TestDecodeStepAllocates(t *testing.T) {
	s := decoding(t, 8)
	allocations := testing.AllocsPerRun(200, func() {
		require.NoError(t, s.doStep(time.Now()))
		s.events = s.events[:0]
	})
	require.Zero(t, allocations)
	require.Len(t, s.running, 8)
}

// decoding is a scheduler with n sequences past their prompts.
func decoding(t testing.TB, n int) *scheduler {
	o := fakeOptions{blocks: n * 64, blockTokens: 16, sequences: n, stepTokens: 512, context: 1 << 20}
	s, _ := o.scheduler(t)
	s.runner = nullRunner{}
	s.manager, s.learner = s.manager.(*strict).Manager, nil // which allocates
	in := &intake{text: fakeCodec{}, vocab: fakeVocab, context: 1 << 20}
	for i := range n {
		seq, err := in.sequence(&Request{Tokens: make([]int32, 20), IgnoreEOS: true})
		require.NoError(t, err)
		seq.ticket = uint64(i + 1)
		seq.tokens = append(make([]int32, 0, 4096), seq.tokens...)
		s.enqueue(seq)
	}
	require.NoError(t, s.doStep(time.Now()))
	return s
}

// BenchmarkStep is the scheduler's share of a decode step.
func BenchmarkStep(b *testing.B) {
	s := decoding(b, 64)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.doStep(time.Now()); err != nil {
			b.Fatal(err)
		}
		s.events = s.events[:0]
		if len(s.running[0].tokens) > 900 {
			b.StopTimer()
			s = decoding(b, 64)
			b.StartTimer()
		}
	}
}
