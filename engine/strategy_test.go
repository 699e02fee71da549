package engine

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kvcache"
)

// altered is the standard strategy with some of its calls replaced.
type altered struct {
	kvcache.Standard
	name  string
	admit func(kvcache.SeqID, kvcache.Prompt) (kvcache.Admission, error)
	next  func(m kvcache.Manager, dst []kvcache.Span, id kvcache.SeqID, budget int) []kvcache.Span
}

type alteredManager struct {
	kvcache.Manager
	by altered
}

func (a altered) Name() string { return a.name }

func (a altered) NewManager(p *kvcache.Pool, g kvcache.Geometry) (kvcache.Manager, error) {
	m, err := a.Standard.NewManager(p, g)
	return alteredManager{m, a}, err
}

func (m alteredManager) Admit(id kvcache.SeqID, p kvcache.Prompt) (kvcache.Admission, error) {
	if m.by.admit != nil {
		return m.by.admit(id, p)
	}
	return m.Manager.Admit(id, p)
}

func (m alteredManager) Next(dst []kvcache.Span, id kvcache.SeqID, budget int) []kvcache.Span {
	if m.by.next != nil {
		return m.by.next(m.Manager, dst, id, budget)
	}
	return m.Manager.Next(dst, id, budget)
}

// TestBrokenStrategies: a strategy that breaks its contract ends the engine with an error that names it. It neither hangs
// nor computes nonsense.
func TestBrokenStrategies(t *testing.T) {
	spans := func(lens ...int) func(kvcache.Manager, []kvcache.Span, kvcache.SeqID, int) []kvcache.Span {
		return func(_ kvcache.Manager, dst []kvcache.Span, id kvcache.SeqID, _ int) []kvcache.Span {
			start := 0
			for _, n := range lens {
				dst = append(dst, kvcache.Span{Seq: id, Start: start, Len: n})
				start += n
			}
			return dst
		}
	}
	for _, c := range []struct {
		strategy altered
		want     string
	}{
		{altered{name: "idle", next: spans()}, `strategy "idle" gives nothing to compute for any of 1 sequences`},
		{altered{name: "greedy", next: spans(33)}, `strategy "greedy" gave span {Seq:1 Start:0 Len:33} for sequence 1 of 40 tokens and a budget of 32`},
		{altered{name: "too many", next: spans(20, 13)}, `gave span {Seq:1 Start:20 Len:13} for sequence 1 of 40 tokens and a budget of 12`},
		{altered{name: "empty", next: spans(0)}, `gave span {Seq:1 Start:0 Len:0}`},
	} {
		t.Run(c.strategy.name, func(t *testing.T) {
			o := small
			o.cache = c.strategy
			e, _ := o.start(t)
			_, err := collect(e, Request{Tokens: make([]int32, 40), MaxTokens: 1})
			require.ErrorIs(t, err, ErrClosed)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, e.Close(), c.want)
		})
	}
}

// TestNeverAdmitted: a request that finds no room although nothing runs fails, and does not wait for what cannot come.
func TestNeverAdmitted(t *testing.T) {
	o := small
	o.cache = altered{name: "full", admit: func(kvcache.SeqID, kvcache.Prompt) (kvcache.Admission, error) {
		return kvcache.Admission{}, kvcache.ErrNoSpace
	}}
	e, _ := o.start(t)
	_, err := collect(e, Request{Tokens: []int32{1}, MaxTokens: 1})
	require.ErrorIs(t, err, kvcache.ErrTooLong)
	require.NoError(t, e.Close())
}

// TestManySpans: a strategy may give a sequence's tokens out in several spans of one step.
func TestManySpans(t *testing.T) {
	o := small
	o.cache = altered{name: "crumbs", next: func(m kvcache.Manager, dst []kvcache.Span, id kvcache.SeqID, budget int) []kvcache.Span {
		for before := -1; budget > 0 && before < len(dst); {
			before = len(dst)
			dst = m.Next(dst, id, min(budget, 5))
			if len(dst) > before {
				budget -= dst[before].Len
			}
		}
		return dst
	}}
	e, runner := o.start(t)
	r := Request{Tokens: []int32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, MaxTokens: 30, PromptLogprobs: true, IgnoreEOS: true}
	tokens, err := collect(e, r)
	require.NoError(t, err)
	checkResult(t, r, tokens[len(tokens)-1].Result, o.context)
	require.NoError(t, e.Close())
	require.Equal(t, []int{5, 5, 2}, runner.steps[0])
}

// moveStrategy asks for a copy, a relocation and a load.
type moveStrategy struct {
	kvcache.Standard
	done *[]error
}
type moveManager struct {
	kvcache.Manager
	asked *bool
	done  *[]error
}

func (s moveStrategy) NewManager(p *kvcache.Pool, g kvcache.Geometry) (kvcache.Manager, error) {
	m, err := s.Standard.NewManager(p, g)
	return moveManager{m, new(bool), s.done}, err
}

func (m moveManager) Moves(dst []kvcache.Move) []kvcache.Move {
	if *m.asked {
		return dst
	}
	*m.asked = true
	return append(dst, kvcache.Move{Kind: kvcache.MoveCopy, From: 60, To: 61},
		kvcache.Move{Kind: kvcache.MovePlace, From: 61, To: 62}, kvcache.Move{Kind: kvcache.MoveLoad, To: 63})
}

func (m moveManager) Moved(_ kvcache.Move, err error) { *m.done = append(*m.done, err) }

func TestMoves(t *testing.T) {
	var done []error
	o := small
	o.cache = moveStrategy{done: &done}
	e, runner := o.start(t)
	_, err := collect(e, Request{Tokens: []int32{1}, MaxTokens: 3})
	require.NoError(t, err)
	require.NoError(t, e.Close())
	require.Equal(t, [][2]kvcache.BlockID{{60, 61}, {61, 62}}, runner.copies)
	require.Equal(t, []error{nil, nil, errors.ErrUnsupported}, done)
}
