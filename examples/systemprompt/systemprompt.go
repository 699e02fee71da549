// Package systemprompt is a KV-cache strategy of somebody else's: it knows the texts that many requests begin with, and keeps
// what was computed of them. It uses package kvcache's public contract and nothing more.
//
// The requests of one application often begin with the same thousand tokens: instructions, tools, examples. The strategy is
// told these prompts. The first request that begins with one computes it; the blocks that hold nothing else are published, and
// outlive the request; every later request that begins alike finds them. All else is private to its sequence and forgotten
// with it, so that no other text pushes the prompts out of the cache.
package systemprompt

import (
	"fmt"

	"github.com/quire-llm/quire/kvcache"
)

// SystemPrompt keeps the beginnings that it is told.
type SystemPrompt struct {
	// Prompts are their token ids. A request that begins with only a part of one shares that part.
	Prompts [][]int32
}

// Name is "system-prompt".
func (SystemPrompt) Name() string { return "system-prompt" }

// NewManager makes a manager over a pool that nothing else uses.
func (s SystemPrompt) NewManager(p *kvcache.Pool, g kvcache.Geometry) (kvcache.Manager, error) {
	if g.BlockTokens != p.BlockTokens() || g.MaxTokens < 1 {
		return nil, fmt.Errorf("systemprompt: making a manager: got sequences of at most %d tokens in blocks of %d, and a pool with blocks of %d",
			g.MaxTokens, g.BlockTokens, p.BlockTokens())
	}
	for i, prompt := range s.Prompts {
		if len(prompt) >= g.MaxTokens {
			return nil, fmt.Errorf("systemprompt: making a manager: prompt %d has %d tokens, want less than the longest sequence's %d",
				i, len(prompt), g.MaxTokens)
		}
	}
	return &manager{
		pool: p, geometry: g, prompts: s.Prompts, chain: kvcache.NewKeyChain(g),
		sequences: make(map[kvcache.SeqID]*sequence),
	}, nil
}

// manager keeps the books. Base says that there are no transfers.
type manager struct {
	kvcache.Base
	pool      *kvcache.Pool
	geometry  kvcache.Geometry
	prompts   [][]int32
	chain     *kvcache.KeyChain
	sequences map[kvcache.SeqID]*sequence
	idle      []*sequence // records of removed sequences, with their memory

	promptTokens, cachedTokens int64 // of all admissions
}

// sequence is one request.
//
//	blocks   |-- 0 --|-- 1 --|-- 2 --|-- 3 --|-- 4 --        0, 1 and 2 hold a system prompt and nothing else: they have keys
//	tokens   |.. found ..|.. written ..|.. given ..|.. missing ..|
type sequence struct {
	blocks []kvcache.BlockID // the table: block i holds tokens i·BlockTokens and on
	keys   []kvcache.Key     // of the first blocks
	tokens int               // prompt and extensions
	given  int               // found, or in a span that Next has given
	wrote  int               // found, or written before all later steps
}

// Admit finds what is held of the system prompt and takes blocks for the rest.
func (m *manager) Admit(id kvcache.SeqID, p kvcache.Prompt) (kvcache.Admission, error) {
	n := len(p.Tokens)
	if _, ok := m.sequences[id]; ok || n == 0 {
		return kvcache.Admission{}, fmt.Errorf("systemprompt: admitting sequence %d with %d tokens: it is admitted already, or the prompt is empty", id, n)
	}
	if err := m.fits(n); err != nil {
		return kvcache.Admission{}, err
	}
	s := m.record()
	m.nameBlocks(s, p)
	kept := m.find(s, p)
	// Everything that may fail comes before the first change. A block that nobody uses is counted by Available, but not any
	// more once this sequence has it.
	if m.blocksFor(n)-len(s.blocks)+kept > m.pool.Available() {
		m.idle = append(m.idle, s)
		return kvcache.Admission{}, kvcache.ErrNoSpace
	}
	for _, b := range s.blocks {
		m.pool.Ref(b) // before Alloc, which might evict it
	}
	cached := len(s.blocks) * m.geometry.BlockTokens
	s.blocks = m.take(s.blocks, m.blocksFor(n))
	s.tokens, s.given, s.wrote = n, cached, cached
	m.sequences[id] = s
	m.promptTokens += int64(n)
	m.cachedTokens += int64(cached)
	return kvcache.Admission{Cached: cached}, nil
}

// fits says whether so many tokens can ever be held.
func (m *manager) fits(tokens int) error {
	if blocks := m.blocksFor(tokens); tokens > m.geometry.MaxTokens || blocks > m.pool.Blocks() {
		return fmt.Errorf("%w: %d tokens in %d blocks, of at most %d tokens in %d blocks",
			kvcache.ErrTooLong, tokens, blocks, m.geometry.MaxTokens, m.pool.Blocks())
	}
	return nil
}

func (m *manager) blocksFor(tokens int) int {
	return (tokens + m.geometry.BlockTokens - 1) / m.geometry.BlockTokens
}

// record is an empty record for a new sequence, as large as it may ever become: Extend runs in every step and allocates
// nothing.
func (m *manager) record() *sequence {
	if last := len(m.idle) - 1; last >= 0 {
		s := m.idle[last]
		m.idle = m.idle[:last]
		*s = sequence{blocks: s.blocks[:0], keys: s.keys[:0]}
		return s
	}
	return &sequence{blocks: make([]kvcache.BlockID, 0, min(m.blocksFor(m.geometry.MaxTokens), m.pool.Blocks()))}
}

// nameBlocks computes the keys of the blocks that hold nothing but a system prompt. A key stands for the model, the tenant and all
// tokens up to the block's end, so that equal keys mean equal content.
func (m *manager) nameBlocks(s *sequence, p kvcache.Prompt) {
	same := 0
	for _, prompt := range m.prompts {
		same = max(same, commonTokens(prompt, p.Tokens))
	}
	key := m.chain.Root(p.Salt)
	for end := m.geometry.BlockTokens; end <= same; end += m.geometry.BlockTokens {
		key = m.chain.Next(key, p.Tokens[end-m.geometry.BlockTokens:end])
		s.keys = append(s.keys, key)
	}
}

// commonTokens is how many tokens a and b have in common at their beginning.
func commonTokens(a, b []int32) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// find fills the sequence's table with the blocks that are held already, up to the first that is not, and returns how many of
// them nobody uses. It takes no references. The prompt's last token is never among them: its logits are wanted.
func (m *manager) find(s *sequence, p kvcache.Prompt) (kept int) {
	if p.ComputeAll {
		return 0
	}
	for i, key := range s.keys {
		b, ok := m.pool.Lookup(key)
		if !ok || (i+1)*m.geometry.BlockTokens >= len(p.Tokens) {
			break
		}
		if !m.pool.InUse(b) {
			kept++
		}
		s.blocks = append(s.blocks, b)
	}
	return kept
}

// take lengthens a table. There must be room.
func (m *manager) take(table []kvcache.BlockID, blocks int) []kvcache.BlockID {
	table, err := m.pool.Alloc(table, blocks-len(table))
	if err != nil {
		panic("systemprompt: no block where there was room") // a broken invariant: the caller has counted
	}
	return table
}

// Next gives the tokens out in order.
func (m *manager) Next(dst []kvcache.Span, id kvcache.SeqID, budget int) []kvcache.Span {
	s := m.sequences[id]
	if s == nil || budget < 1 || s.given == s.tokens {
		return dst
	}
	n := min(budget, s.tokens-s.given)
	s.given += n
	return append(dst, kvcache.Span{Seq: id, Start: s.given - n, Len: n})
}

// View is one segment: everything up to the end of the span. The engine sees by itself which rows name the same blocks.
func (m *manager) View(dst []kvcache.Segment, span kvcache.Span) []kvcache.Segment {
	s := m.sequences[span.Seq]
	if s == nil {
		return dst
	}
	end := span.Start + span.Len
	return append(dst, kvcache.Segment{Blocks: s.blocks[:m.blocksFor(end)], Len: end})
}

// Wrote publishes the blocks of the system prompt that have become full. Before that nobody may find them: they would be read
// unwritten if this sequence went away. Where two sequences compute the same block, the first one's is published, and the
// other's stays private.
func (m *manager) Wrote(span kvcache.Span) {
	s := m.sequences[span.Seq]
	if s == nil {
		return
	}
	first := s.wrote / m.geometry.BlockTokens
	s.wrote = max(s.wrote, span.Start+span.Len)
	for i := first; i < min(len(s.keys), s.wrote/m.geometry.BlockTokens); i++ {
		m.pool.Publish(s.blocks[i], s.keys[i])
	}
}

// Extend takes a block where the last one is full.
func (m *manager) Extend(id kvcache.SeqID, n int) error {
	s := m.sequences[id]
	if s == nil || n < 1 {
		return fmt.Errorf("systemprompt: extending sequence %d by %d tokens: no such sequence, or no tokens", id, n)
	}
	if err := m.fits(s.tokens + n); err != nil {
		return err
	}
	if m.blocksFor(s.tokens+n)-len(s.blocks) > m.pool.Available() {
		return kvcache.ErrNoSpace
	}
	s.blocks = m.take(s.blocks, m.blocksFor(s.tokens+n))
	s.tokens += n
	return nil
}

// Remove lets go of the sequence's blocks: those without a key are free, the others stay until their memory is needed. The
// last one goes first, so that it is evicted first: a prompt's end is of no use without its beginning.
func (m *manager) Remove(id kvcache.SeqID) {
	s := m.sequences[id]
	if s == nil {
		return
	}
	for i := len(s.blocks) - 1; i >= 0; i-- {
		m.pool.Unref(s.blocks[i])
	}
	delete(m.sequences, id)
	m.idle = append(m.idle, s)
}

// Resize grows the pool, or shrinks it down to the highest block in use.
func (m *manager) Resize(blocks int) (int, error) { return m.pool.Resize(blocks) }

// Available is what is free or kept: a kept block is given up for a sequence that needs the memory.
func (m *manager) Available() int { return m.pool.Available() }

// Stats are the pool's counts and those of the sequences.
func (m *manager) Stats() kvcache.Stats {
	st := m.pool.Stats()
	st.Sequences, st.PromptTokens, st.CachedTokens = len(m.sequences), m.promptTokens, m.cachedTokens
	return st
}
