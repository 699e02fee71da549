package kvcache

// Next gives out what the sequence has to compute and whose context is written, or given out before.
func (m *sharing) Next(dst []Span, id SeqID, budget int) []Span {
	s := m.sequences[id]
	if s == nil {
		return dst
	}
	for s.done < len(s.blocks)-1 && m.whole(s.blocks[s.done]) {
		s.done++
	}
	given := -1 // run of the last span
	// Whether everything before block i is given: in the sequence, in its first run, in the run of block i.
	all, first, within := true, true, true
	r := s.runAt(s.done)
	for i := s.done; i < len(s.blocks) && budget > 0; i++ {
		if r+1 < len(s.runs) && s.runs[r+1].block == i {
			r++
			within = true
		}
		rn, n := &s.runs[r], &m.nodes[s.blocks[i]]
		missing := int(m.fill(s, i) - n.given)
		if missing <= 0 {
			continue
		}
		ready := within && !n.filling && n.owner == id
		switch {
		case rn.whole():
			ready = ready && all && m.relieved(s, r)
		case rn.seen > 0:
			ready = ready && first
		}
		take := 0
		if ready {
			take = min(budget, missing)
			span := Span{Seq: id, Start: s.first(r, i, m.geometry.BlockTokens) + int(n.given), Len: take}
			dst = addSpan(dst, span, given == r || given >= 0 && !m.apart)
			given = r
			n.given += int32(take)
			budget -= take
		}
		if take < missing {
			if !m.apart {
				break
			}
			all, within, first = false, false, first && r > 0
		}
	}
	return dst
}

// addSpan appends a span, to the last one if it may go on with this.
func addSpan(dst []Span, span Span, join bool) []Span {
	if last := len(dst) - 1; join && dst[last].Start+dst[last].Len == span.Start {
		dst[last].Len += span.Len
		return dst
	}
	return append(dst, span)
}

// whole says whether a block is written to its end.
func (m *sharing) whole(b BlockID) bool { return m.nodes[b].written >= m.nodes[b].whole }

// runAt is the run of block i.
func (s *shared) runAt(i int) int {
	r := len(s.runs) - 1
	for s.runs[r].block > i {
		r--
	}
	return r
}

// first is the index of block i's first token, in run r.
func (s *shared) first(r, i, blockTokens int) int {
	return s.runs[r].start + (i-s.runs[r].block)*blockTokens
}

// relieved says whether a run that stands for the beginning of the next one may be computed: the next one, which is computed
// by itself, has its own written by then, and from then on the tokens are this run's.
func (m *sharing) relieved(s *shared, r int) bool {
	if r+1 == len(s.runs) || s.runs[r+1].skip == 0 {
		return true
	}
	next := &s.runs[r+1]
	for i := 0; i < m.blocksFor(next.skip); i++ {
		if n := &m.nodes[s.blocks[next.block+i]]; int(n.written) < min(int(n.whole), next.skip-i*m.geometry.BlockTokens) {
			return false
		}
	}
	return true
}

// runOf is the run in which a span with a token is computed.
func (m *sharing) runOf(s *shared, token int) int {
	r := len(s.runs) - 1
	for s.runs[r].start+s.runs[r].skip > token {
		r--
	}
	if r+1 < len(s.runs) && token >= s.runs[r+1].start && !m.relieved(s, r) {
		r++ // the beginning of a run that is computed by itself
	}
	return r
}

// Wrote records that the span is written. Who waits to copy a block may do so when it is full.
func (m *sharing) Wrote(span Span) {
	s := m.sequences[span.Seq]
	if s == nil {
		return
	}
	r := m.runOf(s, span.Start)
	for token, end := span.Start, span.Start+span.Len; token < end; {
		for token == s.runs[r].end {
			r++
		}
		rn := &s.runs[r]
		i := rn.block + (token-rn.start)/m.geometry.BlockTokens
		first := s.first(r, i, m.geometry.BlockTokens)
		until := min(end, rn.end, first+m.geometry.BlockTokens)
		n := &m.nodes[s.blocks[i]]
		n.written = max(n.written, int32(until-first))
		if n.copiers > 0 && n.written == n.whole {
			m.startCopies(s.blocks[i])
		}
		token = until
	}
}
