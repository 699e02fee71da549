package engine

import (
	"fmt"

	"github.com/quire-llm/quire/kvcache"
)

// strict watches that the engine keeps its side of the manager's contract: the calls come in their order, for sequences
// that are admitted, under ids that are never used again. A breach panics.
type strict struct {
	kvcache.Manager
	last      kvcache.SeqID
	sequences map[kvcache.SeqID]*strictSequence
	pending   int // spans given and not yet written, of all sequences
}

type strictSequence struct {
	tokens  int // of the prompt and its extensions
	learned int // of the extensions, told to the manager
	given   []kvcache.Span
	viewed  int // of given
	content []int32
	copied  []int32
}

func newStrict(m kvcache.Manager) *strict {
	return &strict{Manager: m, sequences: map[kvcache.SeqID]*strictSequence{}}
}

func breach(format string, args ...any) {
	panic("the engine broke the contract: " + fmt.Sprintf(format, args...))
}

func (m *strict) sequence(id kvcache.SeqID, call string) *strictSequence {
	s := m.sequences[id]
	if s == nil {
		breach("%s of sequence %d, which is not admitted", call, id)
	}
	return s
}

func (m *strict) Admit(id kvcache.SeqID, p kvcache.Prompt) (kvcache.Admission, error) {
	if m.sequences[id] != nil || id < m.last || len(p.Tokens) == 0 {
		breach("Admit of sequence %d with %d tokens, after %d", id, len(p.Tokens), m.last)
	}
	if m.pending > 0 {
		breach("Admit while %d spans are pending", m.pending)
	}
	a, err := m.Manager.Admit(id, p)
	if err == nil {
		if id == m.last {
			breach("Admit of sequence %d again", id)
		}
		m.last = id
		m.sequences[id] = &strictSequence{tokens: len(p.Tokens), content: p.Tokens, copied: append([]int32(nil), p.Tokens...)}
	}
	return a, err
}

func (m *strict) Next(dst []kvcache.Span, id kvcache.SeqID, budget int) []kvcache.Span {
	s := m.sequence(id, "Next")
	if budget < 1 || len(s.given) > 0 {
		breach("Next of sequence %d with a budget of %d and %d spans pending", id, budget, len(s.given))
	}
	before := len(dst)
	dst = m.Manager.Next(dst, id, budget)
	s.given = append(s.given, dst[before:]...)
	s.viewed = 0
	m.pending += len(s.given)
	return dst
}

func (m *strict) View(dst []kvcache.Segment, span kvcache.Span) []kvcache.Segment {
	s := m.sequence(span.Seq, "View")
	if s.viewed >= len(s.given) || s.given[s.viewed] != span {
		breach("View of %+v, which Next did not give, or not in this order", span)
	}
	s.viewed++
	return m.Manager.View(dst, span)
}

func (m *strict) Wrote(span kvcache.Span) {
	s := m.sequence(span.Seq, "Wrote")
	if len(s.given) == 0 || s.given[0] != span || s.viewed == 0 {
		breach("Wrote of %+v, which Next did not give, or not in this order", span)
	}
	s.given, s.viewed = s.given[1:], s.viewed-1
	m.pending--
	m.Manager.Wrote(span)
}

func (m *strict) Extend(id kvcache.SeqID, n int) error {
	s := m.sequence(id, "Extend")
	if m.pending > 0 {
		breach("Extend of sequence %d while %d spans are pending", id, m.pending)
	}
	err := m.Manager.Extend(id, n)
	if err == nil {
		s.tokens += n
	}
	return err
}

// The optional abilities are the manager's.
func (m *strict) Learn(id kvcache.SeqID, tokens []int32) {
	s := m.sequence(id, "Learn")
	if s.learned += len(tokens); s.learned > s.tokens-len(s.content) {
		breach("Learn of %d tokens of sequence %d, with room for %d", s.learned, id, s.tokens-len(s.content))
	}
	if l, ok := m.Manager.(kvcache.Learner); ok {
		l.Learn(id, tokens)
	}
}

func (m *strict) Store() kvcache.Store {
	if t, ok := m.Manager.(kvcache.Tiered); ok {
		return t.Store()
	}
	return nil
}

func (m *strict) Remove(id kvcache.SeqID) {
	s := m.sequence(id, "Remove")
	for i := range s.content {
		if s.content[i] != s.copied[i] {
			breach("the prompt of sequence %d has changed at token %d", id, i)
		}
	}
	m.pending -= len(s.given) // of a step that has failed
	delete(m.sequences, id)
	m.Manager.Remove(id)
}
