package kvcache

import "fmt"

// slot is a block of a prompt, as Admit finds it.
type slot struct {
	key        Key     // of everything up to its last full block
	start, end int     // tokens
	hit        BlockID // the block that holds them already; 0: none
	piece      int
	keyed      bool
	load       bool // another tier has it
}

// Admit finds what is held of the prompt and takes blocks for the rest, which others find from now on.
func (m *sharing) Admit(id SeqID, p Prompt) (Admission, error) {
	n := len(p.Tokens)
	if _, ok := m.sequences[id]; ok {
		return Admission{}, fmt.Errorf("kvcache: admitting sequence %d: it is admitted already", id)
	}
	if n == 0 {
		return Admission{}, fmt.Errorf("kvcache: admitting sequence %d: the prompt is empty", id)
	}
	if n > m.geometry.MaxTokens {
		return Admission{}, m.tooLong(n, m.blocksFor(n))
	}
	var err error
	if m.pieces, err = m.cut(m.pieces[:0], p); err != nil {
		return Admission{}, fmt.Errorf("kvcache: admitting sequence %d: %w", id, err)
	}
	blocks := 0
	for _, pc := range m.pieces {
		blocks += m.blocksFor(pc.end - pc.start)
	}
	if blocks > m.pool.Blocks() { // the pieces' ends take what a single one does not need
		blocks = m.blocksFor(n)
		m.pieces = append(m.pieces[:0], piece{end: n})
	}
	if err := m.tooLong(n, blocks); err != nil {
		return Admission{}, err
	}
	m.look(p)
	source := m.spareLast(n)
	need, revived := 0, 0
	for i := range m.slots {
		if hit := m.slots[i].hit; hit == 0 {
			need++
		} else if m.pool.Refs(hit) == 0 {
			revived++ // it is available no longer
		}
	}
	if source != 0 && need+revived+count(m.pool.Refs(source) == 0) > m.pool.Available() {
		source = 0 // computed again, in a block of its own
	}
	if need+revived > m.pool.Available() {
		return Admission{}, ErrNoSpace
	}
	s := m.record(id)
	m.sequences[id] = s
	cached := m.settle(s, p, source, need)
	m.prompts += int64(n)
	m.cached += int64(cached)
	a := Admission{Cached: cached}
	for i := range s.runs {
		a.Approximate = a.Approximate || !s.runs[i].whole()
	}
	return a, nil
}

// follow is where the chain of a piece begins: at the tenant's root, after the prompt's first piece, or after the piece before.
func follow[T any](m *sharing, piece int, root, head, last T) T {
	switch pc := m.pieces[piece]; {
	case pc.seen == 0:
		return root
	case pc.seen < pc.start || pc.gap > 0:
		return head
	}
	return last
}

// found is how far the chain of a prompt has been found.
type found struct {
	key   Key     // of the last block
	block BlockID // that has it, if it is held
	where int8
}

// Where a block of a chain is.
const (
	held     int8 = iota // in a block, like all before it
	loadable             // in another tier
	nowhere
)

// look fills the slots: the keys of the prompt's blocks, and which of them are held, as far as that goes without a gap.
func (m *sharing) look(p Prompt) {
	m.slots = m.slots[:0]
	root := found{key: m.chain.Root(p.Salt)}
	if p.ComputeAll {
		root.where = nowhere
	}
	var head, at found
	for i, pc := range m.pieces {
		if at = follow(m, i, root, head, at); pc.gap > 0 {
			at.key = m.chain.Gap(at.key, pc.gap)
		}
		for start := pc.start; start < pc.end; start += m.geometry.BlockTokens {
			sl := slot{start: start, end: min(start+m.geometry.BlockTokens, pc.end), piece: i}
			if sl.keyed = pc.keyed && (sl.end-start == m.geometry.BlockTokens || pc.closed); sl.keyed {
				m.extendChain(&at, p.Tokens[sl.start:sl.end])
				sl.load = at.where == loadable
				if at.where == held {
					sl.hit = at.block
				}
			}
			sl.key = at.key
			m.slots = append(m.slots, sl)
		}
		if i == 0 {
			head = at
		}
	}
}

// extendChain goes one block on.
func (m *sharing) extendChain(at *found, tokens []int32) {
	at.key = m.chain.Next(at.key, tokens)
	if at.where == held {
		if b, ok := m.find(at.key, at.block, tokens); ok {
			at.block = b
			return
		}
		at.where = loadable
	}
	if at.where == loadable && (m.keep == nil || !m.keep.has(at.key)) {
		at.where = nowhere
	}
}

// spareLast sees to it that the prompt's last token is computed: where it is held or can be loaded with all before it, it gets
// a block of its own, and the rest of that is copied from the one returned, or loaded.
func (m *sharing) spareLast(tokens int) (source BlockID) {
	last := &m.slots[len(m.slots)-1]
	if last.end == tokens && (last.hit != 0 || last.load) {
		source, last.hit, last.keyed = last.hit, 0, false
	}
	return source
}

// settle gives a sequence its blocks, need of them new, and returns how many tokens it need not compute.
func (m *sharing) settle(s *shared, p Prompt, source BlockID, need int) (cached int) {
	for i := range m.slots {
		if hit := m.slots[i].hit; hit != 0 { // before anything is evicted
			m.hold(hit)
		}
	}
	if source != 0 {
		m.refer(source)
	}
	m.makeRoom(need)
	type link struct { // the end of a chain in the tree; parent is 0 at the root
		parent BlockID
		broken bool
	}
	var head, at link
	piece := -1
	for i := range m.slots {
		sl := &m.slots[i]
		if sl.piece != piece {
			if piece == 0 {
				head = at
			}
			piece = sl.piece
			pc := &m.pieces[piece]
			at = follow(m, piece, link{}, head, at)
			s.runs = append(s.runs, run{start: pc.start, end: pc.end, seen: pc.seen, gap: pc.gap, skip: pc.skip, block: len(s.blocks)})
		}
		pc := &m.pieces[piece]
		size := sl.end - sl.start
		b := sl.hit
		if b == 0 && sl.keyed && m.apart && !at.broken { // the prompt may have the same piece twice
			if twice, ok := m.find(sl.key, at.parent, p.Tokens[sl.start:sl.end]); ok {
				b = twice
				m.hold(b)
			}
		}
		spared := max(0, sl.end-max(sl.start, pc.start+pc.skip)) // if this need not be computed
		if b != 0 {
			cached += spared
		} else {
			b = m.take(s.id, m.geometry.BlockTokens)
			if pc.closed {
				m.nodes[b].whole = int32(size)
			}
			if sl.keyed && (at.broken || !m.plant(b, at.parent, sl.key, p.Tokens[sl.start:sl.end], pc.seen+pc.gap+sl.start-pc.start)) {
				at.broken = true
			}
			if sl.load {
				cached += spared - m.load(b, sl, p.Tokens)
			}
		}
		at.parent = b
		s.blocks = append(s.blocks, b)
	}
	if source != 0 {
		cached += m.copyLater(s.id, source, s.blocks[len(s.blocks)-1])
	}
	s.tokens = len(p.Tokens)
	m.begin(s, p, at.broken)
	return cached
}
