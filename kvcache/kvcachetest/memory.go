package kvcachetest

import "github.com/quire-llm/quire/kvcache"

// slot is what one token's place in device memory holds. Two slots with equal content and position hold the same keys and
// values, as far as this kit can tell.
type slot struct {
	context uint64 // the tenant and all tokens up to and with this one; 0 if the row saw anything else
	chunk   uint64 // the same from the start of the token's chunk on
	pos     int    // that its key was rotated for
	// The step in which the slot was last written and read; whether the writer's Wrote followed.
	written, read int
	confirmed     bool
}

// memory is the simulated device memory, and the host's beside it.
type memory struct {
	blockTokens int
	slots       []slot // [(blocks+1)·blockTokens]
	host        map[kvcache.Key][]slot
}

func (m *memory) resize(blocks int) {
	want := (blocks + 1) * m.blockTokens
	for len(m.slots) < want {
		m.slots = append(m.slots, slot{})
	}
	m.slots = m.slots[:want]
}

func (m *memory) block(b kvcache.BlockID) []slot {
	at := int(b) * m.blockTokens
	return m.slots[at : at+m.blockTokens]
}

// scribble makes a block's content undefined.
func (m *memory) scribble(b kvcache.BlockID) { clear(m.block(b)) }

// flight is a load or store that is under way.
type flight struct {
	move kvcache.Move
	data []slot // what it carries, if it took that at its start
	fail bool
}

// transfer does what the manager wants moved. Copies and placements are done and reported at once, as on the device's
// stream. Loads and stores fly: each is reported now or in a later call, at the latest when all is true.
func (w *world) transfer(all bool) {
	w.moves = w.manager.Moves(w.moves[:0])
	w.peak = max(w.peak, w.pool.CountUsed()) // a store may hold its block from now on
	for _, m := range w.moves {
		w.note("transfer of kind %d from block %d to %d", int(m.Kind), int(m.From), int(m.To))
		w.tally.transfers++
		w.depart(m)
	}
	flying := w.flying[:0]
	var landing []flight
	for _, f := range w.flying {
		if all || oneIn(w.in, 2) {
			landing = append(landing, f)
		} else {
			flying = append(flying, f)
		}
	}
	w.flying = flying
	for _, f := range landing {
		w.land(f)
	}
	if got := w.manager.Stats().PendingMoves; got < len(w.flying) {
		w.failf("Stats.PendingMoves: got %d, but %d were given and not reported", got, len(w.flying))
	}
}

// depart starts a transfer.
func (w *world) depart(m kvcache.Move) {
	switch m.Kind {
	case kvcache.MoveCopy, kvcache.MovePlace:
		w.mustUse(m.From, "a transfer's source")
		w.mustUse(m.To, "a transfer's target")
		for _, f := range w.flying {
			if f.move.Kind == kvcache.MoveLoad && f.move.To == m.From || m.Kind == kvcache.MovePlace && f.move.From == m.From {
				w.failf("block %d is moved while a load or store of it is under way", m.From)
			}
		}
		if w.transferFails() {
			w.memory.scribble(m.To)
			w.moved(m, errTransfer)
			return
		}
		copy(w.memory.block(m.To), w.memory.block(m.From))
		w.moved(m, nil)
	case kvcache.MoveStore:
		w.mustUse(m.From, "a store's source")
		f := flight{move: m, fail: w.transferFails()}
		if oneIn(w.in, 2) {
			f.data = append([]slot(nil), w.memory.block(m.From)...)
		}
		w.flying = append(w.flying, f)
	case kvcache.MoveLoad:
		w.mustUse(m.To, "a load's target")
		if _, ok := w.memory.host[m.Key]; !ok {
			w.failf("block %d is loaded under a key that was never stored", m.To)
		}
		w.memory.scribble(m.To)
		w.flying = append(w.flying, flight{move: m, fail: w.transferFails()})
	default:
		w.failf("Moves gave kind %d, which is none", m.Kind)
	}
}

// land ends a load or store.
func (w *world) land(f flight) {
	switch {
	case f.fail:
		w.moved(f.move, errTransfer)
		return
	case f.move.Kind == kvcache.MoveLoad:
		copy(w.memory.block(f.move.To), w.memory.host[f.move.Key])
	case f.data != nil:
		w.memory.host[f.move.Key] = f.data
	default: // the block was to be kept until now
		w.mustUse(f.move.From, "the source of a store under way")
		w.memory.host[f.move.Key] = append([]slot(nil), w.memory.block(f.move.From)...)
	}
	w.moved(f.move, nil)
}

func (w *world) moved(m kvcache.Move, err error) {
	if err != nil {
		w.note("transfer of kind %d from block %d to %d fails", int(m.Kind), int(m.From), int(m.To))
		w.disturb()
	}
	w.manager.Moved(m, err)
	w.verify()
}

func (w *world) transferFails() bool { return w.failing || w.faulty && oneIn(w.in, 6) }

// scrub makes the content of blocks undefined that begin a new life or end one: those that were cached and now belong to
// somebody under another key, and those that nobody uses and no key names.
func (w *world) scrub() {
	for len(w.blockStates) <= w.pool.Blocks() {
		w.blockStates = append(w.blockStates, blockState{})
	}
	w.blockStates = w.blockStates[:w.pool.Blocks()+1]
	for b := range w.blockStates {
		was, is := w.blockStates[b], w.blockState(kvcache.BlockID(b))
		evicted := was.cached() && is.refs > 0 && is.key != was.key
		if evicted || !w.inStep && is == (blockState{}) { // in a step, the rows of a removed sequence may still run
			w.memory.scribble(kvcache.BlockID(b))
		}
		w.blockStates[b] = is
	}
}
