package kvcachetest

import (
	"errors"
	"fmt"

	"github.com/quire-llm/quire/kvcache"
)

// operate does one operation that the choices say.
func (w *world) operate() {
	switch c := w.in.below(32); {
	case c < 8:
		w.admit(w.prompt(w.length()))
	case c < 20:
		w.runStep(w.drawStep())
	case c < 24:
		w.extendFinished()
	case c < 26:
		w.withOne(w.remove)
	case c < 28:
		w.withOne(func(s *sequence) { w.preempt(s) })
	case c < 29:
		w.resize(w.in.below(w.blocks+w.blocks/2) + w.in.below(2))
	case c < 30:
		w.refusals()
	case c < 31:
		w.transfer(oneIn(w.in, 2))
	default:
		if len(w.sequences) > 6 {
			w.finish()
		}
	}
}

// withOne does something to one of the sequences, if there is any.
func (w *world) withOne(f func(*sequence)) {
	if len(w.sequences) > 0 {
		f(w.sequences[w.in.below(len(w.sequences))])
	}
}

// drawStep chooses how a step goes.
func (w *world) drawStep() stepOptions {
	b := w.blockTokens
	o := stepOptions{
		budget: among(w.in, 0, 0, 1, 3, b-1, b, b+1, 2*b+5),
		twice:  oneIn(w.in, 4),
		refuse: oneIn(w.in, 8),
	}
	o.order = append(o.order, w.sequences...)
	if oneIn(w.in, 3) {
		for i := range o.order {
			j := i + w.in.below(len(o.order)-i)
			o.order[i], o.order[j] = o.order[j], o.order[i]
		}
	}
	if oneIn(w.in, 8) {
		w.withOne(func(s *sequence) { o.remove = append(o.remove, s) })
	}
	return o
}

// extendFinished gives each sequence with everything computed a further token, or now and then many. Where there is no
// room, another one may have to go.
func (w *world) extendFinished() {
	for _, s := range append([]*sequence(nil), w.sequences...) {
		if !s.finished() || oneIn(w.in, 4) {
			continue
		}
		n := 1
		if oneIn(w.in, 5) {
			n += w.in.below(2 * w.blockTokens)
		}
		if !w.extend(s, n) && oneIn(w.in, 3) {
			w.withOne(func(s *sequence) { w.preempt(s) })
			return
		}
	}
}

// refusals makes calls that must fail, or do nothing, and change nothing.
func (w *world) refusals() {
	w.t.Helper()
	unknown := w.nextID + 1000
	type call struct {
		name string
		do   func() error
	}
	calls := []call{
		{"Admit of an empty prompt", func() error { _, err := w.manager.Admit(unknown, kvPrompt{}); return err }},
		{"Admit of a prompt that is too long", func() error {
			_, err := w.manager.Admit(unknown, kvPrompt{Tokens: make([]int32, w.maxTokens+1)})
			return want(kvcache.ErrTooLong, err)
		}},
		{"Extend of no sequence", func() error { return w.manager.Extend(unknown, 1) }},
		{"Resize to no blocks", func() error { _, err := w.manager.Resize(0); return err }},
		{"Resize to fewer than none", func() error { _, err := w.manager.Resize(-1); return err }},
	}
	w.withOne(func(s *sequence) {
		calls = append(calls,
			call{"Admit of a sequence that is admitted", func() error {
				_, err := w.manager.Admit(s.id, kvPrompt{Tokens: []int32{1}})
				return err
			}},
			call{"Extend by no tokens", func() error { return w.manager.Extend(s.id, 0) }},
			call{"Extend beyond the longest sequence", func() error {
				return want(kvcache.ErrTooLong, w.manager.Extend(s.id, w.maxTokens-len(s.tokens)+1))
			}})
		if got := w.manager.Next(nil, s.id, 0); len(got) > 0 {
			w.failf("Next with no budget: got %+v", got)
		}
	})
	w.note("calls to be refused")
	for _, c := range calls {
		w.remember(&w.before)
		err := c.do()
		if err == nil {
			w.failf("%s: got no error", c.name)
		}
		if wrong, ok := err.(notWanted); ok {
			w.failf("%s: %v", c.name, wrong)
		}
		w.unchanged(c.name, err)
	}
	w.remember(&w.before)
	w.manager.Remove(unknown)
	if got := w.manager.Next(nil, unknown, 100); len(got) > 0 {
		w.failf("Next of no sequence: got %+v", got)
	}
	w.unchanged("Remove and Next of no sequence", nil)
}

// notWanted is an error of another kind than the one wanted.
type notWanted struct{ want, got error }

func (e notWanted) Error() string {
	return fmt.Sprintf("got error %q, want one that matches %q", e.got, e.want)
}

func want(target, err error) error {
	if err != nil && !errors.Is(err, target) {
		return notWanted{target, err}
	}
	return err
}

// drain computes everything that is missing, and fails if that stops before the end.
func (w *world) drain() {
	for idle := 0; ; {
		waiting := w.transferring()
		w.transfer(true)
		if w.runStep(stepOptions{}) > 0 {
			idle = 0
			continue
		}
		if idle++; waiting && idle < patience {
			continue
		}
		for _, s := range w.sequences {
			if !s.finished() {
				w.failf("nobody computes what sequence %d lacks: it has %d tokens, of which it computed %d", s.id, len(s.tokens), s.computed(len(s.tokens)))
			}
		}
		if n := w.manager.Stats().WaitingSpans; n != 0 {
			w.failf("Stats.WaitingSpans: got %d with everything computed", n)
		}
		return
	}
}

// finish computes everything, removes all sequences and fails if anything stays behind. Its last act is to see that all of
// the pool can be had.
func (w *world) finish() {
	w.drain()
	for len(w.sequences) > 0 {
		w.remove(w.sequences[w.in.below(len(w.sequences))])
	}
	w.settleTransfers()
	w.verify() // nothing in use, everything available
	n := min(w.pool.Blocks()*w.blockTokens, w.maxTokens)
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = w.fresh()
	}
	s := w.admit(kvPrompt{Tokens: tokens})
	if s == nil {
		w.failf("a prompt of %d tokens does not fit in %d empty blocks", n, w.pool.Blocks())
	}
	w.drain()
	w.remove(s)
	w.settleTransfers()
}

// patience is how many steps a strategy may spend on transfers alone.
const patience = 100

// transferring says whether transfers are asked for or under way.
func (w *world) transferring() bool { return len(w.flying) > 0 || w.manager.Stats().PendingMoves > 0 }

// settleTransfers does transfers until none is left.
func (w *world) settleTransfers() {
	for tries := 0; w.transferring(); tries++ {
		if tries == patience {
			w.failf("Stats.PendingMoves stays %d", w.manager.Stats().PendingMoves)
		}
		w.transfer(true)
	}
}
