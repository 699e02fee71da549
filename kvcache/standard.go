package kvcache

import (
	"errors"
	"fmt"
)

// Standard gives every sequence blocks of its own and shares nothing. It is what the other strategies are measured
// against, and the shortest complete example of one.
type Standard struct{}

// Name is "standard".
func (Standard) Name() string { return "standard" }

// NewManager makes a manager over a pool that nothing else uses.
func (Standard) NewManager(p *Pool, g Geometry) (Manager, error) {
	if err := g.check(p); err != nil {
		return nil, fmt.Errorf("kvcache: making a standard manager: %w", err)
	}
	return &standard{pool: p, geometry: g, sequences: make(map[SeqID]*private)}, nil
}

// check says whether a pool and a geometry go together.
func (g Geometry) check(p *Pool) error {
	var errs []error
	if g.BlockTokens != p.BlockTokens() {
		errs = append(errs, fmt.Errorf("blocks of %d tokens in the geometry, %d in the pool", g.BlockTokens, p.BlockTokens()))
	}
	if g.MaxTokens < 1 {
		errs = append(errs, fmt.Errorf("got %d tokens for the longest sequence, want at least 1", g.MaxTokens))
	}
	return errors.Join(errs...)
}

// standard is the manager of [Standard].
type standard struct {
	Base
	pool      *Pool
	geometry  Geometry
	sequences map[SeqID]*private
	idle      []*private // records of removed sequences, with their tables' memory
	prompts   int64      // tokens of all admissions
}

// private is a sequence whose blocks are its own.
//
//	tokens   |.... written ....|.... pending ....|.... to give out ....|
//	         0              written            given                tokens
type private struct {
	blocks []BlockID // the table: block i holds tokens i·BlockTokens and on
	tokens int       // prompt and extensions
	given  int       // in a span that Next has given
	wrote  int       // written before all later steps
}

// Admit takes all blocks of the prompt. Nothing is ever cached.
func (m *standard) Admit(id SeqID, p Prompt) (Admission, error) {
	if _, ok := m.sequences[id]; ok {
		return Admission{}, fmt.Errorf("kvcache: admitting sequence %d: it is admitted already", id)
	}
	if len(p.Tokens) == 0 {
		return Admission{}, fmt.Errorf("kvcache: admitting sequence %d: the prompt is empty", id)
	}
	s := m.record()
	if err := m.reserve(s, len(p.Tokens)); err != nil {
		m.idle = append(m.idle, s)
		return Admission{}, err
	}
	m.sequences[id] = s
	m.prompts += int64(len(p.Tokens))
	return Admission{}, nil
}

// record is a record for a new sequence.
func (m *standard) record() *private {
	if last := len(m.idle) - 1; last >= 0 {
		s := m.idle[last]
		m.idle = m.idle[:last]
		return s
	}
	longest := min(m.blocksFor(m.geometry.MaxTokens), m.pool.Blocks())
	return &private{blocks: make([]BlockID, 0, longest)} // Extend never has to grow the table
}

// reserve makes room for n more tokens.
func (m *standard) reserve(s *private, n int) error {
	tokens := s.tokens + n
	blocks := m.blocksFor(tokens)
	if tokens > m.geometry.MaxTokens || blocks > m.pool.Blocks() {
		return fmt.Errorf("%w: %d tokens in %d blocks, of at most %d tokens in %d blocks",
			ErrTooLong, tokens, blocks, m.geometry.MaxTokens, m.pool.Blocks())
	}
	table, err := m.pool.Alloc(s.blocks, blocks-len(s.blocks))
	if err != nil {
		return err
	}
	s.blocks, s.tokens = table, tokens
	return nil
}

func (m *standard) blocksFor(tokens int) int {
	return (tokens + m.geometry.BlockTokens - 1) / m.geometry.BlockTokens
}

// Next gives the tokens out in order.
func (m *standard) Next(dst []Span, id SeqID, budget int) []Span {
	s := m.sequences[id]
	if s == nil {
		return dst
	}
	n := min(budget, s.tokens-s.given)
	if n < 1 {
		return dst
	}
	dst = append(dst, Span{Seq: id, Start: s.given, Len: n})
	s.given += n
	return dst
}

// View is one segment: everything up to the end of the span.
func (m *standard) View(dst []Segment, span Span) []Segment {
	s := m.sequences[span.Seq]
	if s == nil {
		return dst
	}
	end := span.Start + span.Len
	return append(dst, Segment{Blocks: s.blocks[:m.blocksFor(end)], Len: end})
}

// Wrote records that the span is written.
func (m *standard) Wrote(span Span) {
	if s := m.sequences[span.Seq]; s != nil {
		s.wrote = max(s.wrote, span.Start+span.Len)
	}
}

// Extend takes a block where the last one is full.
func (m *standard) Extend(id SeqID, n int) error {
	s := m.sequences[id]
	if s == nil || n < 1 {
		return fmt.Errorf("kvcache: extending sequence %d by %d tokens: no such sequence, or no tokens", id, n)
	}
	return m.reserve(s, n)
}

// Remove frees the sequence's blocks.
func (m *standard) Remove(id SeqID) {
	s := m.sequences[id]
	if s == nil {
		return
	}
	for i := len(s.blocks) - 1; i >= 0; i-- {
		m.pool.Unref(s.blocks[i])
	}
	*s = private{blocks: s.blocks[:0]}
	m.idle = append(m.idle, s)
	delete(m.sequences, id)
}

// Resize grows the pool, or shrinks it down to the highest block in use.
func (m *standard) Resize(blocks int) (int, error) { return m.pool.Resize(blocks) }

// Available is what is free: nothing is ever kept for reuse.
func (m *standard) Available() int { return m.pool.Available() }

// Stats are the pool's counts and those of the sequences.
func (m *standard) Stats() Stats {
	st := m.pool.Stats()
	st.Sequences, st.PromptTokens = len(m.sequences), m.prompts
	return st
}

// Check verifies the pool, and that each block in use is in exactly one table.
func (m *standard) Check() error {
	if err := m.pool.Check(); err != nil {
		return err
	}
	held := 0
	for id, s := range m.sequences {
		if !(0 <= s.wrote && s.wrote <= s.given && s.given <= s.tokens && s.tokens <= m.geometry.MaxTokens) {
			return fmt.Errorf("kvcache: sequence %d: wrote %d, gave %d, of %d tokens", id, s.wrote, s.given, s.tokens)
		}
		if got, want := len(s.blocks), m.blocksFor(s.tokens); got != want {
			return fmt.Errorf("kvcache: sequence %d has %d blocks for %d tokens, want %d", id, got, s.tokens, want)
		}
		for _, b := range s.blocks {
			if refs := m.pool.Refs(b); refs != 1 { // with the count below: no block is in two tables
				return fmt.Errorf("kvcache: sequence %d has block %d with %d references, want 1", id, b, refs)
			}
		}
		held += len(s.blocks)
	}
	if used := m.pool.Used(); held != used {
		return fmt.Errorf("kvcache: sequences hold %d blocks, the pool has %d in use", held, used)
	}
	return nil
}
