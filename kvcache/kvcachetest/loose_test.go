package kvcachetest_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/kvcachetest"
)

// loose is an approximate strategy for the tests of the kit: a chunk is computed by itself and used again at any position,
// for as long as some sequence holds it. What comes after the last whole chunk is computed in its context.
type loose struct {
	bug        looseBug
	saysExact  bool
	alwaysSame bool // chunks keep one place: used again only where they were computed
}

type looseBug int

const (
	looseNone           looseBug = iota
	storedForgotten              // a chunk that was moved is said to be rotated for where it is now
	looseSaltIgnored             // tenants share chunks
	unwrittenUsed                // a chunk is used before it is written
	chunkSkipped                 // what follows does not see the first chunk
	chunkAfterNeighbour          // a chunk by itself sees a token of the one before it
	chunkMisplaced               // a chunk stands one position too late
	looseLeak                    // a chunk is kept when its last sequence goes
)

func (s loose) Name() string      { return "loose" }
func (s loose) Approximate() bool { return !s.saysExact }
func (s loose) Sharing() bool     { return s.bug == looseNone }

func (s loose) NewManager(p *kvcache.Pool, g kvcache.Geometry) (kvcache.Manager, error) {
	if !g.AnyPosition {
		return nil, fmt.Errorf("loose: keys of this model cannot be moved")
	}
	return &looseManager{
		loose: s, pool: p, geometry: g, chain: kvcache.NewKeyChain(g),
		sequences: make(map[kvcache.SeqID]*looseSequence), store: make(map[kvcache.Key]*run),
	}, nil
}

type looseManager struct {
	kvcache.Base
	loose
	pool          *kvcache.Pool
	geometry      kvcache.Geometry
	chain         *kvcache.KeyChain
	sequences     map[kvcache.SeqID]*looseSequence
	store         map[kvcache.Key]*run // whole chunks
	prompt, found int64
}

// run is a chunk, or a sequence's own end.
type run struct {
	key     kvcache.Key // of a chunk; zero otherwise
	blocks  []kvcache.BlockID
	tokens  int
	stored  int // position it was computed at
	written int
	given   int
	held    int // sequences
}

type looseSequence struct {
	runs   []*run
	starts []int // index of each run's first token
	tokens int
}

func (m *looseManager) blocksFor(tokens int) int {
	return (tokens + m.geometry.BlockTokens - 1) / m.geometry.BlockTokens
}

func (m *looseManager) Admit(id kvcache.SeqID, p kvcache.Prompt) (kvcache.Admission, error) {
	n := len(p.Tokens)
	if m.sequences[id] != nil || n == 0 {
		return kvcache.Admission{}, fmt.Errorf("loose: sequence %d: admitted already, or empty", id)
	}
	s := &looseSequence{tokens: n}
	salt := p.Salt
	if m.bug == looseSaltIgnored {
		salt = ""
	}
	start, need, all, cached := 0, 0, 0, 0
	for _, end := range append(append([]int(nil), p.Chunks...), n) {
		if end == n && start == n {
			break
		}
		r := &run{tokens: end - start, stored: start}
		if end < n { // the run with the last token is computed in its context, and can become longer
			r.key = m.chain.Next(m.chain.Root(salt), p.Tokens[start:end])
			if held := m.store[r.key]; held != nil && !p.ComputeAll && (!m.alwaysSame || held.stored == start) {
				r = held
				cached += r.tokens
			}
		}
		if r.held == 0 && len(r.blocks) == 0 {
			need += m.blocksFor(r.tokens)
		}
		all += m.blocksFor(end - start)
		s.runs, s.starts = append(s.runs, r), append(s.starts, start)
		if start = end; end == n {
			break
		}
	}
	if n > m.geometry.MaxTokens || all > m.pool.Blocks() {
		return kvcache.Admission{}, fmt.Errorf("loose: %d tokens: %w", n, kvcache.ErrTooLong)
	}
	if need > m.pool.Available() {
		return kvcache.Admission{}, kvcache.ErrNoSpace
	}
	for _, r := range s.runs {
		if r.held++; len(r.blocks) == 0 {
			r.blocks, _ = m.pool.Alloc(make([]kvcache.BlockID, 0, m.blocksFor(m.geometry.MaxTokens)), m.blocksFor(r.tokens))
			if m.bug == unwrittenUsed && r.key != (kvcache.Key{}) && m.store[r.key] == nil {
				m.store[r.key] = r
			}
			continue
		}
		for _, b := range r.blocks {
			m.pool.Ref(b)
		}
	}
	m.sequences[id] = s
	m.prompt += int64(n)
	m.found += int64(cached)
	return kvcache.Admission{Cached: cached}, nil
}

func (m *looseManager) Next(dst []kvcache.Span, id kvcache.SeqID, budget int) []kvcache.Span {
	s := m.sequences[id]
	if s == nil {
		return dst
	}
	for i, r := range s.runs {
		if n := min(budget, r.tokens-r.given); n > 0 {
			dst = append(dst, kvcache.Span{Seq: id, Start: s.starts[i] + r.given, Len: n})
			r.given += n
			budget -= n
		}
	}
	return dst
}

func (m *looseManager) View(dst []kvcache.Segment, span kvcache.Span) []kvcache.Segment {
	s, end := m.sequences[span.Seq], span.Start+span.Len
	first, last := 0, len(s.runs)-1 // the last run sees all, a chunk only itself
	if at := s.runAt(span.Start); at < last {
		first, last = at, at
		if m.bug == chunkAfterNeighbour && at == 1 {
			dst = append(dst, kvcache.Segment{Blocks: s.runs[0].blocks[:1], Len: 1, Pos: s.starts[1] - 1, Stored: s.starts[1] - 1})
		}
	} else if m.bug == chunkSkipped && last > 0 {
		first = 1
	}
	for i := first; i <= last; i++ {
		r, start := s.runs[i], s.starts[i]
		seg := kvcache.Segment{Len: min(r.tokens, end-start), Pos: start, Stored: r.stored}
		if m.bug == storedForgotten {
			seg.Stored = seg.Pos
		}
		if m.bug == chunkMisplaced && i < len(s.runs)-1 && i == last-1 {
			seg.Pos, seg.Stored = seg.Pos+1, seg.Stored+1
		}
		seg.Blocks = r.blocks[:m.blocksFor(seg.Len)]
		dst = append(dst, seg)
	}
	return dst
}

// runAt is the run that holds a token.
func (s *looseSequence) runAt(token int) int {
	at := 0
	for i, start := range s.starts {
		if start <= token {
			at = i
		}
	}
	return at
}

func (m *looseManager) Wrote(span kvcache.Span) {
	s := m.sequences[span.Seq]
	if s == nil {
		return
	}
	i := s.runAt(span.Start)
	r := s.runs[i]
	r.written = span.Start + span.Len - s.starts[i]
	if r.key != (kvcache.Key{}) && r.written == r.tokens && m.store[r.key] == nil {
		m.store[r.key] = r
	}
}

func (m *looseManager) Extend(id kvcache.SeqID, n int) error {
	s := m.sequences[id]
	if s == nil || n < 1 {
		return fmt.Errorf("loose: extending sequence %d by %d", id, n)
	}
	all := 0
	last := s.runs[len(s.runs)-1]
	for _, r := range s.runs {
		all += m.blocksFor(r.tokens)
	}
	need := m.blocksFor(last.tokens+n) - len(last.blocks)
	if s.tokens+n > m.geometry.MaxTokens || all+need > m.pool.Blocks() {
		return fmt.Errorf("loose: %d tokens: %w", s.tokens+n, kvcache.ErrTooLong)
	}
	blocks, err := m.pool.Alloc(last.blocks, need)
	if err != nil {
		return err
	}
	last.blocks, last.tokens, s.tokens = blocks, last.tokens+n, s.tokens+n
	return nil
}

func (m *looseManager) Remove(id kvcache.SeqID) {
	s := m.sequences[id]
	if s == nil {
		return
	}
	delete(m.sequences, id)
	for _, r := range s.runs {
		if r.held--; r.held == 0 && m.store[r.key] == r {
			if m.bug == looseLeak {
				continue
			}
			delete(m.store, r.key)
		}
		for _, b := range r.blocks {
			m.pool.Unref(b)
		}
	}
}

func (m *looseManager) Resize(blocks int) (int, error) { return m.pool.Resize(blocks) }

func (m *looseManager) Available() int { return m.pool.Available() }

func (m *looseManager) Stats() kvcache.Stats {
	st := m.pool.Stats()
	st.Sequences, st.PromptTokens, st.CachedTokens = len(m.sequences), m.prompt, m.found
	return st
}

func (m *looseManager) Check() error {
	refs := make(map[kvcache.BlockID]int)
	held := make(map[*run]int)
	for _, s := range m.sequences {
		for _, r := range s.runs {
			held[r]++
			for _, b := range r.blocks {
				refs[b]++
			}
		}
	}
	for r, n := range held {
		if r.held != n {
			return fmt.Errorf("loose: a chunk is held %d times, want %d", r.held, n)
		}
	}
	for b := kvcache.BlockID(1); int(b) <= m.pool.Blocks(); b++ {
		if got := m.pool.Refs(b); got != refs[b] && m.bug == looseNone {
			return fmt.Errorf("loose: block %d has %d references, want %d", b, got, refs[b])
		}
	}
	return nil
}

func TestAnApproximateStrategyPasses(t *testing.T) { kvcachetest.Run(t, loose{}) }

func TestBugsOfApproximateStrategiesAreCaught(t *testing.T) {
	for _, c := range []struct {
		name string
		s    loose
	}{
		{"it does not say that it is approximate", loose{saysExact: true}},
		{"it does not say so, and never moves a chunk", loose{saysExact: true, alwaysSame: true}},
		{"a moved chunk's rotation is forgotten", loose{bug: storedForgotten}},
		{"the tenant is ignored", loose{bug: looseSaltIgnored}},
		{"a chunk is used before it is written", loose{bug: unwrittenUsed}},
		{"a chunk is not seen", loose{bug: chunkSkipped}},
		{"a chunk by itself sees another", loose{bug: chunkAfterNeighbour}},
		{"a chunk stands at the wrong position", loose{bug: chunkMisplaced}},
		{"a chunk is kept for ever", loose{bug: looseLeak}},
	} {
		t.Run(c.name, func(t *testing.T) { caught(t, c.s) })
	}
}

// A strategy that refuses models whose keys cannot be moved is asked for no such model.
func TestAStrategyThatRefusesIsReported(t *testing.T) {
	p, err := kvcache.NewPool(8, 16)
	require.NoError(t, err)
	_, err = loose{}.NewManager(p, kvcache.Geometry{BlockTokens: 16, MaxTokens: 64})
	require.ErrorContains(t, err, "cannot be moved")
	r := record(func(tb kvcachetest.TB) { kvcachetest.Verify(tb, refusing{}) })
	require.Contains(t, r.failure, `strategy "standard" refuses`)
}

type refusing struct{ kvcache.Standard }

func (refusing) NewManager(*kvcache.Pool, kvcache.Geometry) (kvcache.Manager, error) {
	return nil, fmt.Errorf("not here")
}
