package kvcachetest

import (
	"slices"

	"github.com/quire-llm/quire/kvcache"
)

// verify checks what must hold after every call.
func (w *world) verify() {
	w.t.Helper()
	if err := w.pool.Check(); err != nil {
		w.failf("%v", err)
	}
	if err := w.manager.Check(); err != nil {
		w.failf("Check: %v", err)
	}
	if w.pool.Blocks()+1 != len(w.memory.slots)/w.blockTokens {
		w.memory.resize(w.pool.Blocks()) // a finished relocation shrinks the pool by itself
	}
	w.scrub()
	w.verifyStats()
}

// verifyStats compares the manager's counts with the twin's and with a scan of the pool.
func (w *world) verifyStats() {
	st := w.manager.Stats()
	used := w.pool.CountUsed()
	w.peak = max(w.peak, used)
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"Sequences", st.Sequences, len(w.sequences)},
		{"Blocks", st.Blocks, w.pool.Blocks()},
		{"BlocksUsed", st.BlocksUsed, used},
		{"BlocksCached", st.BlocksCached, w.countCached()},
		{"BlocksPeak", st.BlocksPeak, w.peak},
		{"SharedBlocks", st.SharedBlocks, w.pool.CountShared()},
		{"PromptTokens", int(st.PromptTokens), w.tally.prompt},
		{"CachedTokens", int(st.CachedTokens), w.tally.cached},
	} {
		if c.got != c.want {
			w.failf("Stats.%s: got %d, want %d", c.name, c.got, c.want)
		}
	}
	if st.WaitingSpans < 0 || st.WaitingSpans > len(w.sequences) {
		w.failf("Stats.WaitingSpans: got %d of %d sequences", st.WaitingSpans, len(w.sequences))
	}
	need := 0
	for _, s := range w.sequences {
		need += s.blocks(len(s.tokens), w.blockTokens, w.again)
	}
	if used > need+2*st.PendingMoves { // a source and a target each
		w.failf("%d blocks are in use; %d sequences need at most %d, and %d transfers are pending", used, len(w.sequences), need, st.PendingMoves)
	}
	available := w.manager.Available()
	if available < 0 || available > w.pool.Available() {
		w.failf("Available: got %d, the pool has %d", available, w.pool.Available())
	}
	if idle := len(w.sequences) == 0 && st.PendingMoves == 0; idle && (available != w.pool.Blocks() || used != 0) {
		w.failf("with no sequence and no transfer, %d of %d blocks are available and %d in use", available, w.pool.Blocks(), used)
	}
}

// countCached counts the blocks that nothing refers to and that have a key.
func (w *world) countCached() int {
	n := 0
	for b := 1; b <= w.pool.Blocks(); b++ {
		if w.blockState(kvcache.BlockID(b)).cached() {
			n++
		}
	}
	return n
}

// snapshot is all that a failed call must leave alone.
type snapshot struct {
	stats     kvcache.Stats
	available int
	blocks    []blockState
}

// blockState is what the pool says of a block.
type blockState struct {
	refs  int
	keyed bool
	key   kvcache.Key
}

func (s blockState) cached() bool { return s.refs == 0 && s.keyed }

func (w *world) blockState(b kvcache.BlockID) blockState {
	key, keyed := w.pool.Key(b)
	return blockState{w.pool.Refs(b), keyed, key}
}

func (w *world) remember(s *snapshot) {
	s.stats, s.available = w.manager.Stats(), w.manager.Available()
	s.blocks = s.blocks[:0]
	for b := kvcache.BlockID(0); int(b) <= w.pool.Blocks(); b++ {
		s.blocks = append(s.blocks, w.blockState(b))
	}
}

// unchanged fails if a call that failed has changed anything since w.before was taken.
func (w *world) unchanged(call string, err error) {
	w.remember(&w.after)
	if w.before.stats != w.after.stats || w.before.available != w.after.available {
		w.failf("%s failed (%v) and changed the counts: got %+v, available %d, want %+v, available %d",
			call, err, w.after.stats, w.after.available, w.before.stats, w.before.available)
	}
	if !slices.Equal(w.before.blocks, w.after.blocks) {
		w.failf("%s failed (%v) and changed references or keys of blocks", call, err)
	}
	w.verify()
}
