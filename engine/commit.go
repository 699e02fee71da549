package engine

import (
	"errors"
	"fmt"
	"time"
)

// doStep plans a step, runs it and commits it. An error ends the engine.
func (s *scheduler) doStep(now time.Time) error {
	if err := s.plan(now); err != nil {
		return err
	}
	if int64(s.pool.Used()) > s.peakBlocks.Load() {
		s.peakBlocks.Store(int64(s.pool.CountUsed())) // what is published comes from looking at every block
	}
	if s.step.rows == 0 {
		return s.stuck()
	}
	s.count.steps++
	s.step.questions.makeRoom()
	if err := s.runner.run(&s.step.questions); err != nil {
		return fmt.Errorf("engine: running step %d of %d rows: %w", s.count.steps, s.step.rows, err)
	}
	s.commit(time.Now())
	return nil
}

// stuck is the error of a plan that is empty and came about without any change that could make the next one different.
func (s *scheduler) stuck() error {
	if len(s.running) == 0 || s.step.changes > 0 || s.carrying() {
		return nil
	}
	return fmt.Errorf("engine: strategy %q gives nothing to compute for any of %d sequences", s.name, len(s.running))
}

// commit takes a finished step in: the cache learns what was written, and the sequences get their tokens.
func (s *scheduler) commit(now time.Time) {
	for _, p := range s.step.spans {
		s.manager.Wrote(p.span)
		p.seq.computed += p.span.Len
		p.seq.todo = max(p.seq.todo-p.span.Len, 0) // a span that another has left behind may come on top
	}
	for i, a := range s.step.asked {
		switch {
		case a.seq.ended:
		case s.step.questions.out[i].Finite == 0:
			s.end(a.seq, event{token: -1, at: now}, ending{err: s.nonFinite(a)})
		case a.index < a.seq.prompt:
			s.learnPrompt(a, i)
		default:
			s.deliver(a.seq, i, now)
		}
	}
}

// nonFinite names the step and the place of a logit that is no number.
func (s *scheduler) nonFinite(a asked) error {
	return fmt.Errorf("%w: step %d, after token %d of the sequence", ErrNonFinite, s.count.steps, a.index-1)
}

// learnPrompt keeps the answer to a question about the prompt.
func (s *scheduler) learnPrompt(a asked, i int) {
	q := &s.step.questions
	a.seq.promptProbs[a.index] = PromptLogprob{
		Logprob: q.out[i].Logit - q.out[i].LogSumExp,
		Argmax:  q.out[i].Argmax,
		Top:     q.tops(i, a.seq.tops),
	}
	a.seq.promptUnknown--
}

// deliver adds a sampled token to its sequence and hands it on.
func (s *scheduler) deliver(seq *sequence, i int, now time.Time) {
	q := &s.step.questions
	out := &q.out[i]
	if seq.cached < 0 {
		seq.cached = max(seq.prompt-seq.computed, 0)
		s.count.promptTokens += int64(seq.prompt)
		s.count.cachedTokens += int64(seq.cached)
	}
	s.count.completionTokens++
	seq.decoding, seq.todo = true, 0
	finish := seq.take(out.Token)
	ev := event{
		to:      seq.answer,
		token:   out.Token,
		argmax:  out.Argmax,
		logprob: out.Logit - out.LogSumExp,
		top:     q.tops(i, seq.tops),
		at:      now,
	}
	if finish != "" {
		s.end(seq, ev, ending{finish: finish})
		return
	}
	s.events = append(s.events, ev)
}

// check verifies the cache's books: the manager's own invariants, the pool's, and its counts against a scan.
func (s *scheduler) check() error {
	var wrong error
	if used, scanned := s.pool.Used(), s.pool.CountUsed(); used != scanned {
		wrong = fmt.Errorf("the pool counts %d blocks in use, a scan finds %d", used, scanned)
	}
	if got, want := s.manager.Stats().Sequences, len(s.running); got != want {
		wrong = errors.Join(wrong, fmt.Errorf("the manager holds %d sequences, want %d", got, want))
	}
	if st := s.manager.Stats(); s.idle() && s.pool.Used() > st.BlocksPinned && st.PendingMoves == 0 {
		wrong = errors.Join(wrong, fmt.Errorf("%d blocks are in use with no sequence", s.pool.Used()))
	}
	if err := errors.Join(s.manager.Check(), s.pool.Check(), wrong); err != nil {
		return fmt.Errorf("engine: checking the cache after step %d: %w", s.count.steps, err)
	}
	return nil
}
