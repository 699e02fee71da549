package kvcache

import "fmt"

// Check verifies the pool, the sequences, the tree and the candidates for eviction by a walk over everything.
func (m *sharing) Check() error {
	if err := m.pool.Check(); err != nil {
		return err
	}
	held, pinned := make([]int32, len(m.nodes)), 0
	for id, s := range m.sequences {
		if err := m.checkSequence(s); err != nil {
			return fmt.Errorf("kvcache: sequence %d: %w", id, err)
		}
		for _, b := range s.blocks {
			held[b]++
		}
	}
	for b := BlockID(1); int(b) <= m.pool.Blocks(); b++ {
		if err := m.checkNode(b, held[b]); err != nil {
			return fmt.Errorf("kvcache: block %d: %w", b, err)
		}
		if m.pool.InUse(b) {
			pinned += int(m.nodes[b].pins)
		}
	}
	if pinned != m.registry.blocks {
		return fmt.Errorf("kvcache: %d blocks are pinned, want %d", pinned, m.registry.blocks)
	}
	return m.checkCandidates()
}

func (m *sharing) checkSequence(s *shared) error {
	blocks, tokens := 0, 0
	for r := range s.runs {
		rn := &s.runs[r]
		if rn.block != blocks || rn.start != tokens {
			return fmt.Errorf("run %d begins with block %d and token %d, want %d and %d", r, rn.block, rn.start, blocks, tokens)
		}
		blocks += m.blocksFor(rn.end - rn.start)
		if tokens = rn.end; r+1 < len(s.runs) && s.runs[r+1].skip > 0 {
			tokens = rn.start // the next one begins there, too
		}
	}
	if len(s.blocks) != blocks || s.tokens != tokens || tokens > m.geometry.MaxTokens {
		return fmt.Errorf("%d blocks for %d tokens of at most %d, want %d for %d", len(s.blocks), s.tokens, m.geometry.MaxTokens, blocks, tokens)
	}
	for i, b := range s.blocks {
		if i < s.done && !m.whole(b) {
			return fmt.Errorf("block %d of %d is taken for written", i, s.done)
		}
		n := &m.nodes[b]
		if _, ok := m.sequences[n.owner]; !ok && n.written < n.whole {
			return fmt.Errorf("nobody computes what block %d lacks", b)
		}
		if _, ok := m.pool.Key(b); !ok && n.holders > 1 {
			return fmt.Errorf("block %d is shared and has no key", b)
		}
	}
	return nil
}

func (m *sharing) checkNode(b BlockID, held int32) error {
	n := &m.nodes[b]
	if got, want := m.pool.Refs(b), int(held+n.transfers+n.pins); got != want || m.pool.InUse(b) && n.holders != held {
		return fmt.Errorf("has %d references, want those of %d sequences and %d transfers", got, held, n.transfers)
	}
	_, keyed := m.pool.Key(b)
	switch {
	case !m.pool.InUse(b) && !keyed:
		return nil
	case !(0 <= n.written && n.written <= n.given && n.given <= n.whole && int(n.whole) <= m.geometry.BlockTokens):
		return fmt.Errorf("wrote %d, gave %d, of %d tokens", n.written, n.given, n.whole)
	case !keyed && (n.child != 0 || n.parent != 0):
		return fmt.Errorf("has no key and is in the tree")
	case n.pins > 0 && !m.wanted(b):
		return fmt.Errorf("is pinned for no chunk")
	case keyed && held == 0 && !m.whole(b):
		return fmt.Errorf("is kept, with %d of %d tokens written", n.written, n.whole)
	case m.keep == nil && held == 0 && keyed && n.pins == 0:
		return fmt.Errorf("is kept, and nobody holds it")
	case m.keep != nil && (n.place > 0) != (m.pool.isCached(b) && n.child == 0):
		return fmt.Errorf("has place %d among the candidates", n.place)
	}
	if up := n.parent; up != 0 {
		if _, ok := m.pool.Key(up); !ok || m.nodes[up].holders < n.holders && !m.apart || n.holders > 0 && m.nodes[up].holders == 0 || n.pins > 0 && !m.pool.InUse(up) {
			return fmt.Errorf("has parent %d, which fewer sequences hold, or which has no key", up)
		}
	}
	for c := n.child; c != 0; c = m.nodes[c].older {
		if m.nodes[c].parent != b || m.nodes[c].older != 0 && m.nodes[m.nodes[c].older].younger != c {
			return fmt.Errorf("has child %d, which does not know it", c)
		}
	}
	return nil
}

func (m *sharing) checkCandidates() error {
	if m.keep == nil {
		return nil
	}
	for i, b := range m.keep.heap {
		if m.nodes[b].place != int32(i+1) || i > 0 && m.keep.before(m, i, (i-1)/2) {
			return fmt.Errorf("kvcache: candidate %d, block %d, is out of place", i, b)
		}
	}
	if n := m.keep.most; n > 0 && m.pool.Cached() > n && len(m.keep.heap) > 0 {
		return fmt.Errorf("kvcache: %d blocks are kept, of at most %d", m.pool.Cached(), n)
	}
	return nil
}
