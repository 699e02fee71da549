package kvcache

// node is what the sharing manager knows of a block.
//
//	|.... written ....|.... pending ....|.... its owner's to compute ....|
//	0                written           given                           whole
//
// Blocks with a key form a tree. Whoever holds a block holds its parent, too, so that what nobody holds is evicted from
// the leaves on.
type node struct {
	parent, child          BlockID // 0: none; child is the youngest
	older, younger         BlockID // with the same parent
	written, given, whole  int32   // tokens
	depth                  int32   // position of the block's first token when its keys were written
	holders                int32   // sequences; one that has it twice counts twice
	transfers              int32   // that refer to the block
	copiers                int32   // sequences that wait to copy it
	pins                   int32   // 1: it is held because the chunk is pinned
	brought                int32   // tokens that a transfer brings
	owner                  SeqID   // who computes what is missing
	heirs                  uint32  // number of the removal that owner was last settled by
	left, filling, storing bool    // its owner is gone; a transfer brings its content; a transfer takes it away
	place                  int32   // 1 + index among those that may be evicted; 0: not there
	priority               float64 // of those
}

// plant publishes a block with its tokens, as a child of parent. It returns false if there is such a block already.
func (m *sharing) plant(b, parent BlockID, key Key, tokens []int32, depth int) bool {
	if _, taken := m.pool.Lookup(key); taken {
		return false
	}
	m.pool.Publish(b, key)
	copy(m.textOf(b), tokens)
	n := &m.nodes[b]
	n.parent, n.depth = parent, int32(depth)
	if parent != 0 {
		up := &m.nodes[parent]
		if n.older = up.child; n.older != 0 {
			m.nodes[n.older].younger = b
		}
		up.child = b
	}
	return true
}

// textOf is the room for a block's token ids.
func (m *sharing) textOf(b BlockID) []int32 {
	n := m.geometry.BlockTokens
	return m.text[int(b)*n : int(b)*n+n]
}

// find is the block that holds tokens after parent, under their key. The token ids are compared, and the parent's were when
// it was found itself, so that the whole text is the same.
func (m *sharing) find(key Key, parent BlockID, tokens []int32) (BlockID, bool) {
	b, ok := m.pool.Lookup(key)
	if !ok {
		return 0, false
	}
	n := &m.nodes[b]
	if n.parent != parent || int(n.whole) != len(tokens) || !equalTokens(m.textOf(b)[:n.whole], tokens) {
		return 0, false
	}
	return b, true
}

func equalTokens(a, b []int32) bool {
	for i, t := range a {
		if t != b[i] {
			return false
		}
	}
	return true
}

// forget takes a block out of the tree, so that nobody finds it any more; a block that nothing refers to becomes free. It must
// have no children.
func (m *sharing) forget(b BlockID) {
	if _, ok := m.pool.Key(b); !ok {
		return
	}
	if m.keep != nil {
		m.keep.remove(m, b)
	}
	n := &m.nodes[b]
	if n.child != 0 {
		panic("kvcache: a block is forgotten before what follows it") // a broken invariant
	}
	if n.older != 0 {
		m.nodes[n.older].younger = n.younger
	}
	switch {
	case n.younger != 0:
		m.nodes[n.younger].older = n.older
	case n.parent != 0:
		m.nodes[n.parent].child = n.older
	}
	parent := n.parent
	n.parent, n.older, n.younger = 0, 0, 0
	if m.pool.isCached(b) {
		m.pool.evict(b)
	} else {
		m.pool.Forget(b)
	}
	if m.keep != nil && parent != 0 {
		m.keep.add(m, parent) // it may be a leaf now
	}
}

// drop forgets a block that nobody holds, and everything after it.
func (m *sharing) drop(b BlockID) {
	for at := b; ; {
		if child := m.nodes[at].child; child != 0 {
			at = child
			continue
		}
		up := m.nodes[at].parent
		m.forget(at)
		if at == b {
			return
		}
		at = up
	}
}

// evict gives up one cached block: the one that the keeping would miss least, or, if a transfer holds on to all that follow
// the others, the least recently used with what follows it.
func (m *sharing) evict() {
	if b := m.keep.least(m); b != 0 {
		m.forget(b)
		return
	}
	m.drop(m.pool.blocks[0].next)
}
