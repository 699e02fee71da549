package engine

import (
	"errors"
	"fmt"
	"time"
)

// doStep plans a step, submits it and commits the one before it; or the same step, where the runner does not overlap. Where
// that one has to be known before anything can be planned, it commits it and plans nothing. An error ends the engine.
func (s *scheduler) doStep(now time.Time) error {
	s.begin(now)
	if len(s.flying) > 0 && s.flying[0].history || !s.grow(now) {
		return s.finish()
	}
	if err := s.plan(now); err != nil {
		return err
	}
	running := 0 // steps that may go on
	switch {
	case s.step.rows > 0:
		if err := s.submit(); err != nil {
			return err
		}
		if s.runner.overlaps() {
			running = 1
		}
	case len(s.flying) == 0:
		return s.stuck()
	}
	if int64(s.pool.Used()) > s.peakBlocks.Load() { // what is published comes from looking at every block, while the device works
		s.peakBlocks.Store(int64(s.pool.CountUsed()))
	}
	for len(s.flying) > running {
		if err := s.finish(); err != nil {
			return err
		}
	}
	return nil
}

// stuck is the error of a plan that is empty and came about without any change that could make the next one different.
func (s *scheduler) stuck() error {
	if len(s.running) == 0 || s.step.changes > 0 || s.carrying() {
		return nil
	}
	return fmt.Errorf("engine: strategy %q gives nothing to compute for any of %d sequences", s.name, len(s.running))
}

// submit starts the step that was planned. From then on its keys and values are written before those of all later steps, so
// the cache learns of them, and its sequences wait for their tokens.
func (s *scheduler) submit() error {
	st := s.step
	s.count.steps++
	st.number = s.count.steps
	st.questions.makeRoom()
	start := time.Now()
	if err := s.runner.submit(&st.questions); err != nil {
		return s.deviceError(st, err)
	}
	s.count.submitTime += time.Since(start)
	s.flying = append(s.flying, st)
	for _, p := range st.spans {
		s.manager.Wrote(p.span)
		p.seq.computed += p.span.Len
		p.seq.todo = max(p.seq.todo-p.span.Len, 0) // a span that another has left behind may come on top
	}
	for i, a := range st.asked {
		if a.index >= a.seq.prompt {
			a.seq.expect(i)
		}
	}
	return nil
}

// deviceError ends everything.
func (s *scheduler) deviceError(st *step, err error) error {
	s.failed = fmt.Errorf("engine: running step %d of %d rows: %w", st.number, st.rows, err)
	return s.failed
}

// finish waits for the oldest step that runs and commits it.
func (s *scheduler) finish() error {
	st := s.flying[0]
	s.flying = s.flying[:copy(s.flying, s.flying[1:])]
	waits := time.Now()
	if err := s.runner.collect(); err != nil {
		return s.deviceError(st, err)
	}
	now := time.Now()
	s.count.waitTime += now.Sub(waits)
	s.commit(st, now)
	s.step.changes++ // what is planned next may be different
	start := st.planned
	if start.Before(s.done) {
		start = s.done
	}
	s.done = time.Now()
	if s.observe != nil {
		s.observe(s.info(st, start))
	}
	return nil
}

// info describes a step that has just been committed.
func (s *scheduler) info(st *step, start time.Time) StepInfo {
	return StepInfo{
		Rows:          st.rows,
		DecodeRows:    st.decodeRows,
		PrefillTokens: st.prefillRows,
		Running:       len(s.running),
		Waiting:       len(s.waiting),
		Start:         start,
		Duration:      s.done.Sub(start),
	}
}

// drain waits for all steps that run. They are committed up to the first that fails.
func (s *scheduler) drain() error {
	for len(s.flying) > 0 && s.failed == nil {
		s.finish()
	}
	for range s.flying { // the device is done with their memory
		s.runner.collect()
	}
	s.flying = s.flying[:0]
	return s.failed
}

// commit takes the answers of a step in: the sequences get their tokens.
func (s *scheduler) commit(st *step, now time.Time) {
	for i, a := range st.asked {
		switch {
		case a.seq.ended:
		case st.questions.out[i].Finite == 0:
			s.end(a.seq, event{token: -1, at: now}, ending{err: nonFinite(st, a)})
		case a.index < a.seq.prompt:
			learnPrompt(&st.questions, a, i)
		default:
			s.deliver(&st.questions, a, i, now)
		}
	}
}

// nonFinite names the step and the place of a logit that is no number.
func nonFinite(st *step, a asked) error {
	return fmt.Errorf("%w: step %d, after token %d of the sequence", ErrNonFinite, st.number, a.index-1)
}

// learnPrompt keeps the answer to a question about the prompt.
func learnPrompt(q *questions, a asked, i int) {
	a.seq.promptProbs[a.index] = PromptLogprob{
		Logprob: q.out[i].Logit - q.out[i].LogSumExp,
		Argmax:  q.out[i].Argmax,
		Top:     q.tops(i, a.seq.tops),
	}
	a.seq.promptUnknown--
}

// deliver gives a sequence the token that it waits for and hands it on.
func (s *scheduler) deliver(q *questions, a asked, i int, now time.Time) {
	seq, out := a.seq, &q.out[i]
	if a.index == seq.prompt {
		s.count.promptTokens += int64(seq.prompt)
		s.count.cachedTokens += int64(seq.cached)
	}
	s.count.completionTokens++
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
	s.tell(seq)
	s.events = append(s.events, ev)
}

// tell tells the manager of the generated tokens that are known and have room in the cache.
func (s *scheduler) tell(seq *sequence) {
	if end := min(seq.known, seq.room); s.learner != nil && seq.told < end {
		s.learner.Learn(seq.id, seq.tokens[seq.told:end])
		seq.told = end
	}
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
