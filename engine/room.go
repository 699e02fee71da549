package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quire-llm/quire/kvcache"
)

// grow makes room for the newest token of every decoding sequence, oldest first.
func (s *scheduler) grow(now time.Time) {
	for i := 0; i < len(s.running); {
		if seq := s.running[i]; !seq.decoding || seq.todo > 0 || s.extend(seq, now) {
			i++
		}
	}
}

// extend makes room for a sequence's newest token, at the expense of younger ones if need be. It says whether the sequence
// still runs: it may itself be the youngest, or alone and too long for the whole cache.
func (s *scheduler) extend(seq *sequence, now time.Time) bool {
	for {
		err := s.manager.Extend(seq.id, 1)
		switch {
		case err == nil:
			seq.todo = 1
			if s.learner != nil {
				s.learner.Learn(seq.id, seq.tokens[len(seq.tokens)-1:])
			}
			return true
		case errors.Is(err, kvcache.ErrNoSpace) && len(s.running) == 1 && s.carrying():
			return true // a store holds what could be evicted: again in the next step
		case !errors.Is(err, kvcache.ErrNoSpace) || len(s.running) == 1:
			s.step.changes++
			s.end(seq, event{token: -1, at: now}, ending{err: s.noRoom(seq, err)})
			return false
		}
		youngest := s.running[len(s.running)-1]
		s.preempt(youngest)
		if youngest == seq {
			return false
		}
	}
}

// noRoom is the error of a sequence that has the cache to itself and still does not fit.
func (s *scheduler) noRoom(seq *sequence, err error) error {
	if errors.Is(err, kvcache.ErrNoSpace) {
		err = kvcache.ErrTooLong
	}
	return fmt.Errorf("engine: making room for a request that has come to %d tokens, in a cache of %d blocks of %d: %w",
		len(seq.tokens), s.pool.Blocks(), s.blockTokens, err)
}

// preempt takes a running sequence's blocks and puts it at the front of the queue.
func (s *scheduler) preempt(seq *sequence) {
	s.manager.Remove(seq.id)
	s.running = remove(s.running, seq)
	seq.id, seq.decoding, seq.computed, seq.todo = 0, false, 0, 0
	seq.preemptions++
	s.blocked = false // the next to admit is another one
	s.count.preemptions++
	s.step.changes++
	s.waiting = insert(s.waiting, seq)
}

// admit lets waiting sequences in, oldest first, while the step has work to give and there is room for them and for the
// next block of everyone.
func (s *scheduler) admit(now time.Time) {
	work := 0
	for _, r := range s.running {
		work += r.todo
	}
	for len(s.waiting) > 0 && len(s.running) < s.sequences && work < s.stepTokens {
		if s.blocked && len(s.running) > 0 && s.manager.Available() <= s.blockedAt {
			return
		}
		s.blocked = false
		seq := s.waiting[0]
		err := s.admitOne(seq, now)
		switch {
		case err == nil:
			work += seq.todo
		case errors.Is(err, kvcache.ErrNoSpace) && (len(s.running) > 0 || s.carrying()):
			s.blocked, s.blockedAt = true, s.manager.Available()
			return
		default:
			s.step.changes++
			s.end(seq, event{token: -1, at: now}, ending{err: s.noRoom(seq, err)})
		}
	}
}

// admitOne moves the first waiting sequence to the running ones, or changes nothing.
func (s *scheduler) admitOne(seq *sequence, now time.Time) error {
	id := s.nextID + 1
	admission, err := s.manager.Admit(id, kvcache.Prompt{
		Tokens:     seq.tokens,
		Chunks:     seq.chunks,
		Salt:       seq.salt,
		ComputeAll: seq.promptUnknown > 0,
	})
	if err != nil {
		return err
	}
	s.nextID = id
	if !s.roomToGrow(seq) {
		s.manager.Remove(id)
		return kvcache.ErrNoSpace
	}
	seq.id = id
	seq.todo = len(seq.tokens) - admission.Cached
	if seq.admitted.IsZero() {
		seq.admitted = now
	}
	s.waiting = slices.Delete(s.waiting, 0, 1)
	s.running = insert(s.running, seq)
	return nil
}

// roomToGrow says whether every running sequence and seq, just admitted, could get one more block if they may need it.
// Without this a newcomer would take the blocks that the others are about to need, and be preempted at once. A sequence
// alone needs no such care.
func (s *scheduler) roomToGrow(seq *sequence) bool {
	if len(s.running) == 0 {
		return true
	}
	growing := 0
	if seq.growsBlocks(s.blockTokens) {
		growing++
	}
	for _, r := range s.running {
		if r.growsBlocks(s.blockTokens) {
			growing++
		}
	}
	return s.manager.Available() >= growing
}
