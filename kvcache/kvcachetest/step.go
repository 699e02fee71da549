package kvcachetest

import (
	"slices"

	"github.com/quire-llm/quire/kvcache"
)

// planned is a span of the step, and what its rows see.
type planned struct {
	seq     *sequence
	span    kvcache.Span
	view    []place // one for each token seen, the span's own last
	head    int     // tokens of the first chunk that come before a chunk that is read after it
	first   int     // index of the first token seen after those
	removed bool    // its sequence was removed before the step ran
}

// index is which token of the sequence the view's i-th is.
func (p *planned) index(i int) int {
	if i < p.head {
		return i
	}
	return p.first + i - p.head
}

// place is where a view says a token is.
type place struct {
	slot        int // in memory.slots
	pos, stored int
}

// stepOptions say how a step goes. The zero value computes everything that can be, oldest sequence first.
type stepOptions struct {
	budget int         // tokens; 0: no limit
	order  []*sequence // nil: as they were admitted
	twice  bool        // ask each sequence twice, with half the budget at first
	refuse bool        // make calls that must fail between planning and running
	remove []*sequence // to be removed between planning and running
}

// runStep plans a step and runs it as the engine does, and returns how many tokens were computed.
func (w *world) runStep(o stepOptions) int {
	w.step++
	w.plan = w.plan[:0]
	if o.budget == 0 {
		o.budget = 1 << 20
	}
	if o.order == nil {
		o.order = slices.Clone(w.sequences)
	}
	w.note("step %d: budget %d, %d sequences removed in it", w.step, o.budget, len(o.remove))
	w.transfer(false)
	w.inStep = true
	left := o.budget
	if o.twice {
		for _, s := range o.order {
			left -= w.give(s, min(left, (o.budget+1)/2))
		}
	}
	for _, s := range o.order {
		left -= w.give(s, left)
	}
	if o.refuse {
		w.refusals()
	}
	for _, p := range w.plan { // unchanged by what was planned after it
		if again := w.look(p.seq, p.span); !slices.Equal(again.view, p.view) {
			w.failf("View of %+v: changed since it was planned in the same step", p.span)
		}
	}
	w.transfer(false) // copies that planning asked for
	for _, s := range o.remove {
		for _, p := range w.plan {
			p.removed = p.removed || p.seq == s
		}
		w.remove(s)
	}
	for _, p := range w.plan {
		w.compute(p)
	}
	for _, p := range w.plan {
		w.confirm(p)
	}
	w.inStep = false
	w.verify()
	return o.budget - left
}

// give asks for a sequence's spans and plans them.
func (w *world) give(s *sequence, budget int) int {
	mark := kvcache.Span{Seq: 1 << 60}
	w.spans = w.manager.Next(append(w.spans[:0], mark), s.id, budget)
	if len(w.spans) == 0 || w.spans[0] != mark {
		w.failf("Next of sequence %d: did not append", s.id)
	}
	given := 0
	for _, span := range w.spans[1:] {
		w.note("  sequence %d: from token %d, %d tokens", int(span.Seq), span.Start, span.Len)
		given += span.Len
		if span.Seq != s.id || span.Len < 1 || span.Start < 0 || span.Start+span.Len > len(s.tokens) || given > budget {
			w.failf("Next of sequence %d: got %+v, with %d tokens and a budget of %d", s.id, span, len(s.tokens), budget)
		}
		for i := span.Start; i < span.Start+span.Len; i++ {
			if again := s.state[i] == computed && w.inAgain(s, i); again {
				s.again[i] = true
			} else if s.state[i] != missing {
				w.failf("Next of sequence %d: token %d is given again", s.id, i)
			}
			s.state[i] = pending
		}
		w.plan = append(w.plan, w.look(s, span))
	}
	w.scrub()
	w.peak = max(w.peak, w.pool.CountUsed())
	return given
}

// inAgain says whether a token that is computed may be given once more, to be computed in its context.
func (w *world) inAgain(s *sequence, i int) bool {
	start, inChunk := s.chunkOf(i)
	return w.approximate && inChunk && start > 0 && i < start+w.again && !s.again[i]
}

// look asks for the view of a span and checks all of it but the memory's content.
func (w *world) look(s *sequence, span kvcache.Span) *planned {
	mark := kvcache.Segment{Len: -1}
	w.view = w.manager.View(append(w.view[:0], mark), span)
	if len(w.view) == 0 || w.view[0].Len != mark.Len {
		w.failf("View of %+v: did not append", span)
	}
	p := &planned{seq: s, span: span}
	for _, seg := range w.view[1:] {
		w.walk(p, seg)
	}
	p.first = span.Start + span.Len - len(p.view)
	gap := w.afterTheHead(p)
	if whole := p.first == 0; !whole && !w.alone(p) {
		w.failf("View of %+v: sees %d tokens, want %d", span, len(p.view), span.Start+span.Len)
	}
	for i, at := range p.view {
		index := p.index(i)
		want := p.view[0].pos + i
		switch {
		case p.head > 0 && i >= p.head:
			want = i + gap
		case p.head > 0 || p.first == 0:
			want = i
		}
		if at.pos != want {
			w.failf("View of %+v: token %d stands at position %d", span, index, at.pos)
		}
		if index >= span.Start && at.stored != at.pos || !w.anyPosition && at.stored != at.pos {
			w.failf("View of %+v: token %d at position %d is rotated for %d", span, index, at.pos, at.stored)
		}
	}
	return p
}

// afterTheHead finds out whether a view is that of a chunk which is read after the first one, and how far from it.
func (w *world) afterTheHead(p *planned) (gap int) {
	start, _ := p.seq.chunkOf(p.span.Start)
	if !w.afterHead || start == 0 {
		return 0
	}
	head, end := p.seq.chunks[0], len(p.seq.tokens)
	for _, e := range slices.Backward(p.seq.chunks) {
		if e > start {
			end = e
		}
	}
	gap = max(0, min(w.gap, w.maxTokens-head-(end-start)))
	moved := p.view[len(p.view)-1].pos != p.span.Start+p.span.Len-1
	if p.first == 0 && (start != head || gap == 0 || !moved) { // it sees all that comes before it
		return 0
	}
	p.head = head
	p.first += head
	return gap
}

// alone says whether a view is that of a chunk read by itself, where the strategy may do that.
func (w *world) alone(p *planned) bool {
	start, inChunk := p.seq.chunkOf(p.span.Start)
	last, _ := p.seq.chunkOf(p.span.Start + p.span.Len - 1)
	return w.approximate && inChunk && p.first == start && last == start
}

// walk checks a segment and adds its tokens to what is seen.
func (w *world) walk(p *planned, seg kvcache.Segment) {
	if seg.Len < 1 || seg.Off < 0 || seg.Off >= w.blockTokens || seg.Pos < 0 || seg.Stored < 0 ||
		len(seg.Blocks) != roundUp(seg.Off+seg.Len, w.blockTokens) {
		w.failf("View of %+v: malformed segment %+v", p.span, seg)
	}
	for _, b := range seg.Blocks {
		w.mustUse(b, "a block that a view names")
	}
	for i := range seg.Len {
		at := seg.Off + i
		slot := int(seg.Blocks[at/w.blockTokens])*w.blockTokens + at%w.blockTokens
		p.view = append(p.view, place{slot, seg.Pos + i, seg.Stored + i})
	}
}

// compute runs a span's rows: they read what is before them and write their own. In truth all rows of the step write
// before any reads, layer by layer; in the order of planning the same is seen, since a span may count only on those
// planned before it, and a slot has one writer.
func (w *world) compute(p *planned) {
	exact := p.first == 0
	own := len(p.view) - p.span.Len
	for i, at := range p.view[:own] {
		exact = w.read(p, p.index(i), at) && exact
	}
	for i, at := range p.view[own:] {
		index := p.span.Start + i
		sl := &w.memory.slots[at.slot]
		switch {
		case sl.written == w.step:
			w.failf("%+v writes token %d to slot %d, which another span of this step writes", p.span, index, at.slot)
		case sl.read == w.step:
			w.failf("%+v writes token %d to slot %d, which another span of this step counted on", p.span, index, at.slot)
		}
		*sl = slot{chunk: p.seq.chunk[index], pos: at.stored, written: w.step, read: sl.read}
		if exact {
			sl.context = p.seq.context[index]
		}
	}
	w.tally.computed += p.span.Len
}

// read checks that a slot holds what a row is to see of token index, and says whether in its whole context.
func (w *world) read(p *planned, index int, at place) (exact bool) {
	sl := &w.memory.slots[at.slot]
	sl.read = w.step
	exact = sl.context == p.seq.context[index]
	switch {
	case !sl.confirmed && sl.written != w.step:
		w.failf("%+v reads token %d in slot %d, which nobody has written", p.span, index, at.slot)
	case !exact && !(w.approximate && sl.chunk == p.seq.chunk[index]):
		w.failf("%+v reads token %d in slot %d, which holds something else", p.span, index, at.slot)
	case sl.pos != at.stored:
		w.failf("%+v reads token %d in slot %d as rotated for %d, but it was for %d", p.span, index, at.slot, at.stored, sl.pos)
	}
	return exact
}

// confirm reports a span as written. What a removed sequence's rows wrote may be gone.
func (w *world) confirm(p *planned) {
	own := p.view[len(p.view)-p.span.Len:]
	if p.removed {
		for _, at := range own {
			w.memory.slots[at.slot] = slot{}
		}
		return
	}
	for i, at := range own {
		w.memory.slots[at.slot].confirmed = true
		p.seq.state[p.span.Start+i] = computed
	}
	w.manager.Wrote(p.span)
	w.settle(p.seq)
}

// settle compares what a sequence computed of its prompt with what it was told at admission.
func (w *world) settle(s *sequence) {
	if !s.finished() {
		return
	}
	got, want := s.computed(len(s.prompt.Tokens)), len(s.prompt.Tokens)-s.cached
	if got < want || got != want && !s.disturbed {
		w.failf("sequence %d computed %d of %d prompt tokens, with %d cached at admission", s.id, got, len(s.prompt.Tokens), s.cached)
	}
}
