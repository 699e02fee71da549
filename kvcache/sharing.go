package kvcache

import "fmt"

// policy is what tells the sharing strategies apart.
type policy struct {
	name string
	// cut appends the pieces of a prompt. It may refuse one.
	cut func(dst []piece, p Prompt) ([]piece, error)
	// apart says that some pieces are computed without all that comes before them, so that they may stand anywhere.
	apart bool
	// gap is how far from a head of so many tokens a registered chunk of so many is read.
	gap func(head, tokens int) int
	// chunks may be registered.
	chunks bool
	// keep is how blocks outlive their sequences; nil: what nobody uses is dropped at once.
	keep *keeping
}

// piece is a run of a prompt's tokens that lies in blocks of its own.
//
//	tokens     |...... seen ......|  by the piece's rows while they are computed, besides the piece itself
//	           |.............. start ..............|#### piece ####|
//	positions  |...... seen ......|- gap -|#### piece ####|           while they are computed
//
// seen is start and gap is 0 where the whole context counts. The last piece of a prompt is the one that the sequence goes on in.
type piece struct {
	start, end int
	seen, gap  int
	skip       int  // tokens at its beginning that others see from the piece before it, where they are computed again
	keyed      bool // found by its content
	closed     bool // nothing is added later: a last block that is not full has a key, too
}

// sharer is a strategy that shares blocks; Reuse can be put over it.
type sharer interface {
	Strategy
	policy(g Geometry) (policy, error)
}

// sharing is the manager of all strategies that share blocks. What a prompt's blocks hold is named by a chain of keys, and
// the blocks with keys form a tree in which the content of a block is that of its tokens after its parent's. A block is
// published when it is handed out: whoever has the same tokens to compute finds it and waits for the one who computes it.
//
//	sequence 1   |--- 1 ---|--- 2 ---|--- 3 ---|- 4        1 and 2 have three holders, 3 has one
//	sequence 2   |--- 1 ---|--- 2 ---|--- 5 ---|- 6        5 has two, and is written by the older of them
//	sequence 3   |--- 1 ---|--- 2 ---|--- 5 ---|- 7        4, 6 and 7 are private
type sharing struct {
	policy
	pool     *Pool
	geometry Geometry
	chain    *KeyChain

	sequences map[SeqID]*shared
	nodes     []node    // [blocks+1]
	text      []int32   // [blocks+1, BlockTokens] token ids of blocks with a key
	changes   uint64    // of who holds what; see shared.cuts
	removals  uint32    // that left something for others to compute
	idle      []*shared // records of removed sequences, with their tables' memory
	transfers transfers
	registry  registry

	prompts, cached int64 // tokens of all admissions

	pieces []piece // scratch of Admit
	slots  []slot  // scratch of Admit
}

// shared is a sequence.
type shared struct {
	id     SeqID
	blocks []BlockID // the tables of all runs, one after the other
	runs   []run
	tokens int // prompt and extensions
	done   int // blocks before this one are written and full

	cuts   []cut // of the view, right while cutsAt is sharing.changes
	cutsAt uint64

	// The chain goes on with what is generated, for as long as all blocks of the sequence are in the tree.
	open    bool
	chained int     // blocks of the last run that have keys
	key     Key     // of the last of them
	text    []int32 // known tokens after that block
}

// run is a piece in its sequence's table.
type run struct {
	start, end, seen, gap, skip int // as of the piece; the last run's end moves
	block                       int // index of the first block in the table
}

// whole says whether the run's rows see everything before it, at its place.
func (r *run) whole() bool { return r.seen == r.start && r.gap == 0 }

// stored is the position that the run's first token has in the rows that compute it.
func (r *run) stored() int { return r.seen + r.gap }

// newSharing makes the manager of a policy.
func newSharing(p *Pool, g Geometry, pol policy) (Manager, error) {
	if err := g.check(p); err != nil {
		return nil, fmt.Errorf("kvcache: making a %s manager: %w", pol.name, err)
	}
	m := &sharing{
		policy: pol, pool: p, geometry: g, chain: NewKeyChain(g),
		sequences: make(map[SeqID]*shared), changes: 1,
	}
	m.resized()
	if pol.chunks {
		m.registry.pinned = make(map[Key]int)
		return chunkRegistry{m}, nil
	}
	return m, nil
}

// resized gives the pool's blocks their records.
func (m *sharing) resized() {
	if n := m.pool.Blocks() + 1 - len(m.nodes); n > 0 {
		m.nodes = append(m.nodes, make([]node, n)...)
		m.text = append(m.text, make([]int32, n*m.geometry.BlockTokens)...)
	}
	if m.keep != nil {
		m.keep.resized(m.pool.Blocks())
	}
}

func (m *sharing) blocksFor(tokens int) int {
	return (tokens + m.geometry.BlockTokens - 1) / m.geometry.BlockTokens
}

// tooLong is the error of a sequence of tokens in blocks that can never fit.
func (m *sharing) tooLong(tokens, blocks int) error {
	if tokens <= m.geometry.MaxTokens && blocks <= m.pool.Blocks() {
		return nil
	}
	return fmt.Errorf("%w: %d tokens in %d blocks, of at most %d tokens in %d blocks",
		ErrTooLong, tokens, blocks, m.geometry.MaxTokens, m.pool.Blocks())
}

// record is a record for a new sequence.
func (m *sharing) record(id SeqID) *shared {
	if last := len(m.idle) - 1; last >= 0 {
		s := m.idle[last]
		m.idle = m.idle[:last]
		*s = shared{id: id, blocks: s.blocks[:0], runs: s.runs[:0], cuts: s.cuts[:0], text: s.text[:0]}
		return s
	}
	longest := min(m.blocksFor(m.geometry.MaxTokens), m.pool.Blocks())
	return &shared{
		id: id, blocks: make([]BlockID, 0, longest), text: make([]int32, 0, m.geometry.BlockTokens),
		runs: make([]run, 0, 1), cuts: make([]cut, 0, 4),
	}
}

// Extend takes blocks where the last one is full.
func (m *sharing) Extend(id SeqID, n int) error {
	s := m.sequences[id]
	if s == nil || n < 1 {
		return fmt.Errorf("kvcache: extending sequence %d by %d tokens: no such sequence, or no tokens", id, n)
	}
	last := &s.runs[len(s.runs)-1]
	blocks := last.block + m.blocksFor(last.end+n-last.start)
	if err := m.tooLong(s.tokens+n, blocks); err != nil {
		return err
	}
	need := blocks - len(s.blocks)
	if need > m.pool.Available() {
		return ErrNoSpace
	}
	if need > 0 && m.nodes[s.blocks[len(s.blocks)-1]].holders > 1 {
		s.cutsAt = 0 // what is private begins here
	}
	m.makeRoom(need)
	for range need {
		s.blocks = append(s.blocks, m.take(id, m.geometry.BlockTokens))
	}
	last.end += n
	s.tokens += n
	return nil
}

// take hands out a block for one sequence, which computes whole tokens in it. There must be room.
func (m *sharing) take(id SeqID, whole int) BlockID {
	var one [1]BlockID
	got, err := m.pool.Alloc(one[:0], 1)
	if err != nil {
		panic("kvcache: no block where there was room") // a broken invariant: the caller has made room
	}
	m.nodes[got[0]] = node{owner: id, whole: int32(whole), holders: 1}
	return got[0]
}

// hold adds a sequence to a block's holders.
func (m *sharing) hold(b BlockID) {
	if m.keep != nil {
		m.keep.remove(m, b)
	}
	m.pool.Ref(b)
	m.nodes[b].holders++
	m.changes++
}

// Remove lets go of the sequence's blocks, the last one first, and passes on what others wait for.
func (m *sharing) Remove(id SeqID) {
	s := m.sequences[id]
	if s == nil {
		return
	}
	delete(m.sequences, id)
	m.cancelCopies(id)
	left := false
	for i := len(s.blocks) - 1; i >= 0; i-- {
		b := s.blocks[i]
		n := &m.nodes[b]
		n.holders--
		if n.holders > 0 {
			m.changes++
			if n.owner == id && n.written < n.whole {
				n.given, n.left, left = n.written, true, true
			}
		} else if m.whole(b) && !n.filling && m.wanted(b) {
			if n.pins == 0 {
				m.pin(b)
			}
		} else {
			m.abandoned(b)
		}
		m.pool.Unref(b)
		if m.keep != nil && n.holders == 0 {
			m.keep.stamp(n)
			m.keep.add(m, b)
			m.save(b)
		}
	}
	if left {
		m.passOn()
	}
	m.idle = append(m.idle, s)
	if m.keep != nil {
		m.keep.trim(m)
	}
}

// abandoned takes a block that nobody holds any more out of the tree, unless it is to be kept.
func (m *sharing) abandoned(b BlockID) {
	n := &m.nodes[b]
	if m.keep != nil && n.written == n.whole && !n.filling {
		return
	}
	m.dropCopies(b)
	m.drop(b)
}

// passOn makes the oldest holder of each block that was left the one who computes it.
func (m *sharing) passOn() {
	for id, s := range m.sequences {
		for _, b := range s.blocks[s.done:] {
			if n := &m.nodes[b]; n.left && (n.heirs != m.removals+1 || id < n.owner) {
				n.owner, n.heirs = id, m.removals+1
			}
		}
	}
	m.removals++
	for _, s := range m.sequences {
		for _, b := range s.blocks[s.done:] {
			m.nodes[b].left = false
		}
	}
}

// Resize grows the pool, or shrinks it down to the highest block in use.
func (m *sharing) Resize(blocks int) (int, error) {
	for b := BlockID(m.pool.Blocks()); blocks >= 1 && int(b) > blocks && !m.pool.InUse(b); b-- {
		if m.pool.isCached(b) {
			m.drop(b) // with what follows it, which the pool knows nothing of
		}
	}
	got, err := m.pool.Resize(blocks)
	m.resized()
	return got, err
}

// Available is what is free or may be evicted.
func (m *sharing) Available() int { return m.pool.Available() }

// makeRoom evicts until n blocks are free. So many must be available.
func (m *sharing) makeRoom(n int) {
	for m.keep != nil && m.pool.Free() < n {
		m.evict()
	}
}

// Stats are the pool's counts and those of the sequences.
func (m *sharing) Stats() Stats {
	st := m.pool.Stats()
	st.Sequences, st.PromptTokens, st.CachedTokens = len(m.sequences), m.prompts, m.cached
	st.PendingMoves, st.BlocksPinned = m.transfers.pending(), m.registry.blocks
	for _, s := range m.sequences {
		st.WaitingSpans += count(m.waits(s))
	}
	return st
}

// waits says whether what the sequence lacks first is for another to compute, or for a transfer to bring.
func (m *sharing) waits(s *shared) bool {
	for i := s.done; i < len(s.blocks); i++ {
		n := &m.nodes[s.blocks[i]]
		if n.given < m.fill(s, i) {
			return n.filling || n.owner != s.id
		}
	}
	return false
}

// fill is how many tokens block i of a sequence holds for it.
func (m *sharing) fill(s *shared, i int) int32 {
	last := &s.runs[len(s.runs)-1]
	if i < len(s.blocks)-1 {
		return m.nodes[s.blocks[i]].whole
	}
	return int32(last.end - last.start - (i-last.block)*m.geometry.BlockTokens)
}
