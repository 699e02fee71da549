package kvcache

// Learner is an optional ability of a Manager: what was generated can be found again like what was asked.
type Learner interface {
	// Learn tells the ids of a sequence's next tokens, after its prompt and those told before. There must be room for them:
	// Extend comes first. Next, View and Wrote may come before: a step is planned while the one that draws its tokens runs. An
	// unknown sequence is ignored.
	Learn(id SeqID, tokens []int32)
}

// begin remembers where a sequence's chain ends, if it goes on with what will be generated.
func (m *sharing) begin(s *shared, p Prompt, broken bool) {
	pc, last := &m.pieces[len(m.pieces)-1], &m.slots[len(m.slots)-1]
	full := last.end-last.start == m.geometry.BlockTokens
	if m.keep == nil || !pc.keyed || pc.closed || broken || full && !last.keyed {
		return
	}
	s.open, s.key = true, last.key
	if !full {
		s.text = append(s.text, p.Tokens[last.start:last.end]...)
	}
	s.chained = (last.end - pc.start) / m.geometry.BlockTokens
}

// Learn publishes each block that becomes full of known tokens.
func (m *sharing) Learn(id SeqID, tokens []int32) {
	s := m.sequences[id]
	if s == nil {
		return
	}
	for _, t := range tokens {
		if !s.open {
			return
		}
		if s.text = append(s.text, t); len(s.text) == m.geometry.BlockTokens {
			s.open = m.lengthen(s)
			s.text = s.text[:0]
		}
	}
}

// lengthen publishes the block of a sequence whose tokens have become known. It returns false if that cannot be: another
// sequence has the same tokens in a block of its own.
func (m *sharing) lengthen(s *shared) bool {
	last := &s.runs[len(s.runs)-1]
	at := last.block + s.chained
	if at >= len(s.blocks) {
		return false
	}
	parent := BlockID(0)
	if at > 0 {
		parent = s.blocks[at-1]
	}
	s.key = m.chain.Next(s.key, s.text)
	depth := last.stored() + s.chained*m.geometry.BlockTokens
	s.chained++
	return m.plant(s.blocks[at], parent, s.key, s.text, depth)
}
