package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quire-llm/quire/kvcache"
)

// grow makes room for the newest token of every decoding sequence, oldest first. Where there is none, and a step runs, it
// returns false: the end of that one may bring room, and nobody is to be preempted or ended for want of it before. What has
// room then keeps it.
func (s *scheduler) grow(now time.Time) bool {
	for i := 0; i < len(s.running); {
		seq := s.running[i]
		if !seq.decoding || seq.todo > 0 || seq.full() {
			i++
			continue
		}
		err := s.manager.Extend(seq.id, 1)
		if err != nil && len(s.flying) > 0 {
			return false
		}
		if s.extend(seq, err, now) {
			i++
		}
	}
	return true
}

// extend makes room for a sequence's newest token, at the expense of younger ones if need be; err is what the first try came
// to. It says whether the sequence still runs: it may itself be the youngest, or alone and too long for the whole cache.
func (s *scheduler) extend(seq *sequence, err error, now time.Time) bool {
	for ; ; err = s.manager.Extend(seq.id, 1) {
		switch {
		case err == nil:
			seq.todo = 1
			seq.room++
			s.tell(seq)
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
	if len(s.waiting) == 0 || len(s.running) >= s.sequences {
		return
	}
	work, growing := 0, 0
	for _, r := range s.running {
		work += r.todo
		growing += count(r.growsBlocks(s.blockTokens))
	}
	for len(s.waiting) > 0 && len(s.running) < s.sequences && work < s.stepTokens {
		if s.blocked && len(s.running) > 0 && s.manager.Available() <= s.blockedAt {
			return
		}
		s.blocked = false
		seq := s.waiting[0]
		after := growing + count(seq.growsBlocks(s.blockTokens))
		err := s.admitOne(seq, after, now)
		switch {
		case err == nil:
			work += seq.todo
			growing = after
		case errors.Is(err, kvcache.ErrNoSpace) && (len(s.running) > 0 || s.carrying()):
			s.blocked, s.blockedAt = true, s.manager.Available()
			return
		default:
			s.step.changes++
			s.end(seq, event{token: -1, at: now}, ending{err: s.noRoom(seq, err)})
		}
	}
}

// admitOne moves the first waiting sequence to the running ones, or changes nothing. With it, growing of them may need more
// blocks: there must be one for each. Without this a newcomer would take the blocks that the others are about to need, and be
// preempted at once. A sequence alone needs no such care.
func (s *scheduler) admitOne(seq *sequence, growing int, now time.Time) error {
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
	if len(s.running) > 0 && s.manager.Available() < growing {
		s.manager.Remove(id)
		return kvcache.ErrNoSpace
	}
	seq.id = id
	seq.todo = len(seq.tokens) - admission.Cached
	seq.approximate = seq.approximate || admission.Approximate
	seq.room, seq.told = len(seq.tokens), len(seq.tokens)
	if seq.admitted.IsZero() {
		seq.admitted = now
	}
	s.waiting = slices.Delete(s.waiting, 0, 1)
	s.running = insert(s.running, seq)
	return nil
}

// count is 1 for true.
func count(b bool) int {
	if b {
		return 1
	}
	return 0
}
