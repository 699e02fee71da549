package kvcachetest

import (
	"testing"

	"github.com/quire-llm/quire/kvcache"
)

// benchTokens is the length of benchmark prompts, of which the first half is the same in all.
const benchTokens = 512

// Bench measures what a strategy costs on the host: a decode step for each sequence, and a prompt's life.
func Bench(b *testing.B, s kvcache.Strategy) {
	b.Run("decode/sequences=64", func(b *testing.B) {
		d := newDecoding(b, s, 64)
		b.ReportAllocs()
		steps := 0
		for b.Loop() {
			d.step()
			if steps++; steps == 2*benchTokens { // the sequences become as long as they may
				b.StopTimer()
				d, steps = newDecoding(b, s, 64), 0
				b.StartTimer()
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/token")
	})
	b.Run("prompt/tokens=512", func(b *testing.B) {
		m := newBenchManager(b, s)
		var d decoding
		d.manager = m
		b.ReportAllocs()
		id := kvcache.SeqID(0)
		for b.Loop() {
			id++
			d.admit(b, id)
			m.Remove(id)
			d.moves()
		}
	})
}

// decodeWithoutAllocating counts the heap allocations of a steady decode step: it is on the critical path.
func decodeWithoutAllocating(t TB, s kvcache.Strategy) {
	t.Helper()
	d := newDecoding(t, s, 8)
	const steps = 100
	d.step()
	if got := testing.AllocsPerRun(2, func() {
		for range steps {
			d.step()
		}
	}); got != 0 {
		t.Fatalf("kvcachetest: strategy %q: %v allocations in %d decode steps of 8 sequences, want 0", s.Name(), got, steps)
	}
}

// decoding is a manager with sequences that have computed their prompts.
type decoding struct {
	t         TB
	manager   kvcache.Manager
	sequences int
	spans     []kvcache.Span
	view      []kvcache.Segment
	transfers []kvcache.Move
}

func newBenchManager(t TB, s kvcache.Strategy) kvcache.Manager {
	const blockTokens = 16
	pool, err := kvcache.NewPool(64*4*benchTokens/blockTokens, blockTokens)
	if err != nil {
		t.Fatalf("kvcachetest: %v", err)
	}
	m, err := s.NewManager(pool, kvcache.Geometry{BlockTokens: blockTokens, BytesPerToken: 64, MaxTokens: 4 * benchTokens, AnyPosition: true})
	if err != nil {
		t.Fatalf("kvcachetest: %v", err)
	}
	return m
}

func newDecoding(t TB, s kvcache.Strategy, sequences int) *decoding {
	d := &decoding{t: t, manager: newBenchManager(t, s), sequences: sequences}
	for id := range kvcache.SeqID(sequences) {
		d.admit(t, id)
	}
	return d
}

// admit takes a prompt in and computes it.
func (d *decoding) admit(t TB, id kvcache.SeqID) {
	p := kvPrompt{Tokens: make([]int32, benchTokens), Chunks: []int{benchTokens / 2}}
	for i := range p.Tokens {
		p.Tokens[i] = int32(i)
		if i >= benchTokens/2 {
			p.Tokens[i] += int32(id) << 10
		}
	}
	if _, err := d.manager.Admit(id, p); err != nil {
		t.Fatalf("kvcachetest: %v", err)
	}
	d.moves()
	for spans := 0; d.compute(id); spans++ {
		if spans > benchTokens {
			t.Fatalf("kvcachetest: Next of sequence %d still gives spans after %d, for a prompt of %d tokens", id, spans, benchTokens)
		}
		d.moves()
	}
}

func (d *decoding) moves() {
	d.transfers = d.manager.Moves(d.transfers[:0])
	for _, m := range d.transfers {
		d.manager.Moved(m, nil)
	}
}

// compute does what a sequence has to compute and says whether there was anything.
func (d *decoding) compute(id kvcache.SeqID) bool {
	d.spans = d.manager.Next(d.spans[:0], id, benchTokens)
	for _, span := range d.spans {
		d.view = d.manager.View(d.view[:0], span)
	}
	for _, span := range d.spans {
		d.manager.Wrote(span)
	}
	return len(d.spans) > 0
}

// step is one more token of each sequence.
func (d *decoding) step() {
	for id := range kvcache.SeqID(d.sequences) {
		if err := d.manager.Extend(id, 1); err != nil {
			d.t.Fatalf("kvcachetest: %v", err)
		}
	}
	d.moves()
	for id := range kvcache.SeqID(d.sequences) {
		d.compute(id)
	}
}
