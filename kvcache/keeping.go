package kvcache

// keeping says which of the blocks that nobody holds are kept, and which goes first. Candidates are the leaves of the tree: what
// follows a block is of no use without it.
//
// The default is GreedyDual (Young 1994; with costs, Cao and Irani 1997): a block that is let go of gets the priority
// clock + cost, the one with the least is evicted, and the clock moves on to that. So a block's cost counts against its age,
// measured in what was evicted meanwhile, and no priority ever needs to be computed again. LRU is the same with equal costs,
// and the time itself for a clock.
type keeping struct {
	most  int // blocks that nobody holds; 0: as many as there are
	lru   bool
	tier  Store // nil: none
	clock float64
	heap  []BlockID // least priority first
}

// costPosition is the position at which attention costs a token as much as all matrix products: 3,900 for Qwen3-0.6B's shape
// (0.9 GFLOP of products, 0.23 MFLOP of attention for each position).
const costPosition = 4096

// cost is what it takes to compute a block again while its parent is there, in tokens at position 0.
func (n *node) cost() float64 {
	return float64(n.whole) * (1 + float64(n.depth)/costPosition)
}

// resized makes room for all blocks of a pool.
func (k *keeping) resized(blocks int) {
	if cap(k.heap) < blocks {
		k.heap = append(make([]BlockID, 0, blocks), k.heap...)
	}
}

// has says whether another tier holds a block.
func (k *keeping) has(key Key) bool { return k.tier != nil && k.tier.Has(key) }

// stamp gives a block that was just let go of its priority.
func (k *keeping) stamp(n *node) {
	if k.lru {
		k.clock++
		n.priority = k.clock
	} else {
		n.priority = k.clock + n.cost()
	}
}

// add makes a block a candidate if it is a cached leaf.
func (k *keeping) add(m *sharing, b BlockID) {
	if n := &m.nodes[b]; m.pool.isCached(b) && n.child == 0 && n.place == 0 {
		k.heap = append(k.heap, b)
		n.place = int32(len(k.heap))
		k.up(m, len(k.heap)-1)
	}
}

// remove takes a block out of the candidates, if it is one.
func (k *keeping) remove(m *sharing, b BlockID) {
	i := int(m.nodes[b].place) - 1
	if i < 0 {
		return
	}
	last := len(k.heap) - 1
	k.swap(m, i, last)
	k.heap = k.heap[:last]
	m.nodes[b].place = 0
	if i < last {
		k.up(m, i)
		k.down(m, i)
	}
}

// least is the candidate that goes first; 0: there is none.
func (k *keeping) least(m *sharing) BlockID {
	if len(k.heap) == 0 {
		return 0
	}
	if b := k.heap[0]; !k.lru {
		k.clock = max(k.clock, m.nodes[b].priority)
	}
	return k.heap[0]
}

// trim evicts what exceeds the budget.
func (k *keeping) trim(m *sharing) {
	for k.most > 0 && m.pool.Cached() > k.most && len(k.heap) > 0 {
		m.evict()
	}
}

func (k *keeping) before(m *sharing, i, j int) bool {
	return m.nodes[k.heap[i]].priority < m.nodes[k.heap[j]].priority
}

func (k *keeping) swap(m *sharing, i, j int) {
	k.heap[i], k.heap[j] = k.heap[j], k.heap[i]
	m.nodes[k.heap[i]].place, m.nodes[k.heap[j]].place = int32(i+1), int32(j+1)
}

func (k *keeping) up(m *sharing, i int) {
	for i > 0 && k.before(m, i, (i-1)/2) {
		k.swap(m, i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (k *keeping) down(m *sharing, i int) {
	for {
		child := 2*i + 1
		if child >= len(k.heap) {
			return
		}
		if child+1 < len(k.heap) && k.before(m, child+1, child) {
			child++
		}
		if !k.before(m, child, i) {
			return
		}
		k.swap(m, i, child)
		i = child
	}
}
