package kvcache

// transfers are the moves of a sharing manager.
type transfers struct {
	queue  []Move     // asked for and not yet given to the engine
	copies []copyWait // that wait for their source to be written
	stores []storeWait
	flying int // given to the engine and not yet reported
	saving int // of those, stores
}

// copyWait is a sequence that waits for a block to copy it.
type copyWait struct {
	id       SeqID
	from, to BlockID
}

// storeWait is a block that is to be stored in another tier, if it is still there when its turn comes.
type storeWait struct {
	block BlockID
	key   Key
}

// savingAtOnce is the most stores that may be under way: their blocks cannot be evicted, and each takes memory on the host.
const savingAtOnce = 16

func (t *transfers) pending() int { return len(t.queue) + len(t.copies) + len(t.stores) + t.flying }

// refer holds a block for a transfer.
func (m *sharing) refer(b BlockID) {
	if m.keep != nil {
		m.keep.remove(m, b)
	}
	m.pool.Ref(b)
	m.nodes[b].transfers++
}

// release lets go of a block that a transfer has held.
func (m *sharing) release(b BlockID) {
	m.nodes[b].transfers--
	m.pool.Unref(b)
	switch {
	case m.pool.isCached(b) && m.wanted(b):
		m.pin(b)
	case m.keep != nil:
		m.keep.add(m, b)
	}
}

// load asks for a block's content from another tier. It returns how many tokens are computed all the same: the last one of a
// prompt.
func (m *sharing) load(b BlockID, sl *slot, prompt []int32) (again int) {
	tokens := len(prompt)
	n := &m.nodes[b]
	text := m.textOf(b)[:copy(m.textOf(b), prompt[sl.start:sl.end])] // outlives the sequence, as the transfer does
	n.filling, n.brought = true, int32(sl.end-sl.start)
	again = count(sl.end == tokens)
	n.brought -= int32(again)
	m.refer(b)
	m.transfers.queue = append(m.transfers.queue, Move{Kind: MoveLoad, To: b, Key: sl.key, Tokens: text})
	return again
}

// copyLater asks for a copy of all but the last token of a full block, as soon as that is written. The caller holds from.
func (m *sharing) copyLater(id SeqID, from, to BlockID) int {
	n := &m.nodes[to]
	n.filling, n.brought = true, n.whole-1
	m.refer(to)
	m.nodes[from].copiers++
	m.transfers.copies = append(m.transfers.copies, copyWait{id, from, to})
	if m.whole(from) && !m.nodes[from].filling {
		m.startCopies(from)
	}
	return int(n.brought)
}

// startCopies asks for all copies of a block that has become full.
func (m *sharing) startCopies(from BlockID) {
	m.takeCopies(func(w copyWait) bool { return w.from == from }, func(w copyWait) {
		m.transfers.queue = append(m.transfers.queue, Move{Kind: MoveCopy, From: w.from, To: w.to})
	})
}

// cancelCopies ends a sequence's wait.
func (m *sharing) cancelCopies(id SeqID) {
	m.takeCopies(func(w copyWait) bool { return w.id == id }, m.cancelCopy)
}

// dropCopies ends the wait for a block that nobody will write: those who wait compute their own.
func (m *sharing) dropCopies(from BlockID) {
	if m.nodes[from].copiers > 0 {
		m.takeCopies(func(w copyWait) bool { return w.from == from }, m.cancelCopy)
	}
}

func (m *sharing) cancelCopy(w copyWait) {
	m.nodes[w.to].filling = false
	m.release(w.to)
	m.release(w.from)
}

// takeCopies takes those who wait out of the list, and does something with each.
func (m *sharing) takeCopies(which func(copyWait) bool, do func(copyWait)) {
	t := &m.transfers
	kept := 0
	for _, w := range t.copies {
		if which(w) {
			m.nodes[w.from].copiers--
			do(w)
		} else {
			t.copies[kept] = w
			kept++
		}
	}
	t.copies = t.copies[:kept]
}

// save asks for a block to be stored in another tier.
func (m *sharing) save(b BlockID) {
	if key, ok := m.pool.Key(b); ok && m.keep.tier != nil && !m.keep.has(key) {
		m.transfers.stores = append(m.transfers.stores, storeWait{b, key})
	}
}

// Moves gives out what was asked for, and as many stores as may be under way.
func (m *sharing) Moves(dst []Move) []Move {
	t := &m.transfers
	dst = append(dst, t.queue...)
	t.flying += len(t.queue)
	t.queue = t.queue[:0]
	next := 0
	for ; next < len(t.stores) && t.saving < savingAtOnce; next++ {
		w := t.stores[next]
		if key, ok := m.pool.Key(w.block); !ok || key != w.key || m.nodes[w.block].storing || !m.whole(w.block) || m.keep.has(w.key) {
			continue // evicted meanwhile, or stored
		}
		m.refer(w.block)
		m.nodes[w.block].storing = true
		dst = append(dst, Move{Kind: MoveStore, From: w.block, Key: w.key, Tokens: m.textOf(w.block)[:m.nodes[w.block].whole]})
		t.flying++
		t.saving++
	}
	t.stores = t.stores[:copy(t.stores, t.stores[next:])]
	return dst
}

// Moved ends a transfer. What a copy or a load did not bring is computed by the block's owner.
func (m *sharing) Moved(mv Move, err error) {
	m.transfers.flying--
	switch mv.Kind {
	case MoveStore:
		m.transfers.saving--
		m.nodes[mv.From].storing = false
		m.release(mv.From)
	case MoveLoad, MoveCopy:
		n := &m.nodes[mv.To]
		n.filling = false
		if err == nil {
			n.written, n.given = n.brought, n.brought
		}
		if n.copiers > 0 && m.whole(mv.To) {
			m.startCopies(mv.To)
		}
		m.release(mv.To)
		if mv.Kind == MoveCopy {
			m.release(mv.From)
		}
	}
	if m.keep != nil {
		m.keep.trim(m)
	}
}
