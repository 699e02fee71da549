package kvcache

// cut is where a segment of a sequence's view begins.
type cut struct {
	run   int
	block int // index in the table
	start int // token
}

// View shows a span what it sees. Blocks that other sequences hold are segments apart from those that they do not, so that a
// kernel may attend once for all rows that see the same segment. Where nothing is shared there is one segment.
func (m *sharing) View(dst []Segment, span Span) []Segment {
	s := m.sequences[span.Seq]
	if s == nil {
		return dst
	}
	end := span.Start + span.Len
	r := m.runOf(s, span.Start)
	rn := &s.runs[r]
	if rn.whole() {
		return m.viewTo(dst, s, end)
	}
	dst = m.viewTo(dst, s, rn.seen)
	n := end - rn.start
	blocks := s.blocks[rn.block : rn.block+m.blocksFor(n)]
	return append(dst, Segment{Blocks: blocks, Len: n, Pos: rn.stored(), Stored: rn.stored()})
}

// viewTo appends what comes before a token, each at its place in the sequence.
func (m *sharing) viewTo(dst []Segment, s *shared, end int) []Segment {
	if s.cutsAt != m.changes {
		m.recut(s)
	}
	for i := range s.cuts {
		c := &s.cuts[i]
		if c.start >= end {
			break
		}
		until := s.tokens
		if i+1 < len(s.cuts) {
			until = s.cuts[i+1].start
		}
		rn := &s.runs[c.run]
		seg := Segment{Len: min(until, end) - c.start, Pos: c.start, Stored: c.start - rn.start + rn.stored()}
		seg.Off = (c.start - rn.start) % m.geometry.BlockTokens
		seg.Blocks = s.blocks[c.block : c.block+m.blocksFor(seg.Off+seg.Len)]
		dst = append(dst, seg)
	}
	return dst
}

// recut finds out where the segments begin: where another run does that does not simply go on, and where the holders differ.
// In a run fewer and fewer sequences hold what comes later.
func (m *sharing) recut(s *shared) {
	s.cuts, s.cutsAt = s.cuts[:0], m.changes
	b := m.geometry.BlockTokens
	holders := int32(0) // of the block before; 0: a segment begins anyway
	for r := range s.runs {
		rn := &s.runs[r]
		if r > 0 {
			if before := &s.runs[r-1]; (before.end-before.start)%b != 0 || !before.whole() || !rn.whole() || rn.skip > 0 {
				holders = 0
			}
		}
		past := len(s.blocks)
		if r+1 < len(s.runs) {
			past = s.runs[r+1].block
		}
		for i := rn.block + rn.skip/b; i < past; i++ {
			now := m.nodes[s.blocks[i]].holders
			if now != holders {
				s.cuts = append(s.cuts, cut{run: r, block: i, start: max(s.first(r, i, b), rn.start+rn.skip)})
			}
			if holders = now; now == 1 {
				break
			}
		}
	}
}
