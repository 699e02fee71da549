package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

// limits are what the scheduler may use.
type limits struct {
	sequences   int // at once
	stepTokens  int // in one step, at least sequences
	blockTokens int
}

// scheduler decides what each step computes. It is made of a planner (plan) and a committer (commit) that share nothing
// but the step between them, so that a step is planned and submitted while the one before it runs.
//
//	step loop   |plan 2|submit 2|wait for 1|commit 1|plan 3|submit 3|wait for 2|commit 2|
//	device      |............ step 1 ......|............... step 2 ............|... step 3 ...
//
// What step 1 draws is not known while step 2 is planned, and need not be: its place is held in the sequence and in the step.
//
// Requests are served in the order of their acceptance. A running sequence has its next token computed in every step, in
// front of all prefill. Where the cache has no room for it, the youngest running sequence is preempted: it goes to the front
// of the queue and is computed again later. The oldest one is never preempted for another, so it ends, and then the next
// one is the oldest: nobody waits for ever.
//
// It belongs to the step loop and knows nothing of goroutines.
type scheduler struct {
	limits
	manager kvcache.Manager
	pool    *kvcache.Pool
	runner  runner
	name    string          // of the strategy
	learner kvcache.Learner // the manager, if it wants to know what is generated
	carrier *carrier        // nil: the manager has no other tier

	waiting []*sequence // by ticket
	running []*sequence // by ticket; all are admitted
	nextID  kvcache.SeqID

	// After an admission found no room, none is tried until blocks come back.
	blocked   bool
	blockedAt int // blocks available then

	steps      [2]step           // take turns
	step       *step             // planned last
	flying     []*step           // submitted and not yet committed, the oldest first
	failed     error             // of the device: nothing more is committed
	done       time.Time         // when the last step was committed
	observe    func(StepInfo)    // told of every step that is committed; nil: nobody is
	peakBlocks atomic.Int64      // most in use by a step since it was last set to 0, which anybody may do
	spans      []kvcache.Span    // scratch
	view       []kvcache.Segment // scratch
	moves      []kvcache.Move    // scratch
	events     []event           // for the text goroutine
	ended      int               // sequences that ended since the loop last asked
	count      counters
}

// counters are what the scheduler has done since it was made.
type counters struct {
	steps, preemptions         int64
	promptTokens, cachedTokens int64 // of requests that got their first token
	completionTokens           int64
	submitTime, waitTime       time.Duration // of the runner's submit and collect
}

// step is one packed batch, between planning and committing.
type step struct {
	spans       []plannedSpan
	asked       []asked // one for each question
	questions   questions
	rows        int // decodeRows and prefillRows
	decodeRows  int
	prefillRows int
	changes     int       // moves done, sequences preempted or ended, and steps committed, since planning began
	planned     time.Time // when planning began
	number      int64     // of the step, from 1; 0: not submitted
	history     bool      // some sequence's next question depends on what it draws here
}

type plannedSpan struct {
	seq  *sequence
	span kvcache.Span
}

// asked says whose question it was: for the prompt's token at index, or for the next token if index is the sequence's
// length.
type asked struct {
	seq   *sequence
	index int
}

func (st *step) reset(now time.Time) {
	*st = step{spans: st.spans[:0], asked: st.asked[:0], questions: st.questions, planned: now}
	st.questions.reset()
}

// newScheduler makes a scheduler. The manager is asked for its abilities.
func newScheduler(l limits, name string, manager kvcache.Manager, pool *kvcache.Pool, r runner) *scheduler {
	s := &scheduler{limits: l, name: name, manager: manager, pool: pool, runner: r}
	s.learner, _ = manager.(kvcache.Learner)
	s.step = &s.steps[0]
	return s
}

// begin begins to plan a step, in place of the one planned before if that came to nothing.
func (s *scheduler) begin(now time.Time) {
	if s.step.number > 0 {
		if s.step == &s.steps[0] {
			s.step = &s.steps[1]
		} else {
			s.step = &s.steps[0]
		}
	}
	s.step.reset(now)
}

// idle says whether there is nothing to do.
func (s *scheduler) idle() bool { return len(s.waiting) == 0 && len(s.running) == 0 }

// rests says whether a step would do nothing until something new comes: a request, or the end of a load or store.
func (s *scheduler) rests() bool {
	switch {
	case len(s.flying) > 0:
		return false
	case s.carrier == nil:
		return s.idle()
	case s.carrier.pending > 0: // there is more to come
		return s.step.rows == 0 && s.step.changes == 0
	}
	return s.idle() && s.manager.Stats().PendingMoves == 0
}

// carrying says whether blocks are on their way to or from another tier.
func (s *scheduler) carrying() bool { return s.carrier != nil && s.carrier.pending > 0 }

// flush stores what is still to be stored. It returns the first error of the device.
func (s *scheduler) flush(wake <-chan struct{}) error {
	for s.carrier != nil && s.manager.Stats().PendingMoves > 0 {
		s.begin(time.Time{})
		if err := s.transfer(); err != nil {
			return err
		}
		if s.step.changes == 0 {
			<-wake
		}
	}
	return nil
}

// enqueue accepts a sequence. Tickets must rise.
func (s *scheduler) enqueue(seq *sequence) { s.waiting = append(s.waiting, seq) }

// plan builds the next step: when grow has made room for the decoding sequences, it lets newcomers in, and then lists the rows,
// those of decoding sequences first. An error is a strategy that broke its contract, or the device's.
func (s *scheduler) plan(now time.Time) error {
	s.runner.begin()
	s.admit(now)
	if err := s.transfer(); err != nil {
		return err
	}
	for _, decoding := range []bool{true, false} {
		for _, seq := range s.running {
			if seq.decoding == decoding && (!decoding || seq.todo > 0) {
				if err := s.addRows(seq); err != nil {
					return err
				}
			}
		}
	}
	return s.transfer() // giving out spans may have asked for copies, too
}

// addRows adds what is to be computed of a sequence, within the step's budget.
func (s *scheduler) addRows(seq *sequence) error {
	budget := s.stepTokens - s.step.rows
	if budget == 0 {
		return nil
	}
	s.spans = s.manager.Next(s.spans[:0], seq.id, budget)
	for _, span := range s.spans {
		if span.Seq != seq.id || span.Len < 1 || span.Start < 0 || span.Start+span.Len > len(seq.tokens) || span.Len > budget {
			return fmt.Errorf("engine: strategy %q gave span %+v for sequence %d of %d tokens and a budget of %d",
				s.name, span, seq.id, len(seq.tokens), budget)
		}
		budget -= span.Len
		s.view = s.manager.View(s.view[:0], span)
		if err := s.runner.add(seq.tokens[span.Start:span.Start+span.Len], s.view); err != nil {
			return fmt.Errorf("engine: adding span %+v: %w", span, err)
		}
		seq.approximate = seq.approximate || approximates(span, s.view)
		s.ask(seq, span)
		s.step.spans = append(s.step.spans, plannedSpan{seq, span})
		s.step.rows += span.Len
		if seq.decoding {
			s.step.decodeRows += span.Len
		} else {
			s.step.prefillRows += span.Len
		}
	}
	return nil
}

// approximates says whether a span's rows see anything but their whole past as it was written.
func approximates(span kvcache.Span, view []kvcache.Segment) bool {
	seen := 0
	for _, segment := range view {
		if segment.Pos != segment.Stored {
			return true
		}
		seen += segment.Len
	}
	return seen != span.Start+span.Len
}

// ask adds the questions of a span whose rows come next: prompt log-probabilities that are not known yet, and the next
// token if the span ends the sequence.
func (s *scheduler) ask(seq *sequence, span kvcache.Span) {
	if seq.promptUnknown > 0 {
		for i := range span.Len {
			if next := span.Start + i + 1; next < seq.prompt && seq.promptProbs[next].Argmax < 0 {
				s.question(asked{seq, next}, s.step.rows+i)
			}
		}
	}
	if span.Start+span.Len == len(seq.tokens) {
		s.question(asked{seq, len(seq.tokens)}, s.step.rows+span.Len-1)
	}
}

func (s *scheduler) question(a asked, row int) {
	q := &s.step.questions
	if a.index < a.seq.prompt {
		q.add(row, promptRow(a.seq, a.index), kernels.SampleFilter{}, a.seq.tops)
	} else {
		q.add(row, sampleRow(a.seq), a.seq.filter(&q.filters), a.seq.tops)
		s.step.history = s.step.history || a.seq.filtering.remembers()
	}
	s.step.asked = append(s.step.asked, a)
}

// transfer does the moves that the manager wants done before the step runs, and begins and ends those that take longer.
func (s *scheduler) transfer() error {
	if s.carrier != nil {
		done, err := s.carrier.finish(s.manager.Moved)
		if err != nil {
			return err
		}
		s.step.changes += done
	}
	s.moves = s.manager.Moves(s.moves[:0])
	for _, m := range s.moves {
		switch m.Kind {
		case kvcache.MoveCopy, kvcache.MovePlace:
			if err := s.runner.copyBlock(m.From, m.To); err != nil {
				return fmt.Errorf("engine: copying cache block %d to %d: %w", m.From, m.To, err)
			}
			s.manager.Moved(m, nil)
		default:
			if s.carrier == nil { // there is no other tier to load from or to store in
				s.manager.Moved(m, errors.ErrUnsupported)
			} else {
				s.carrier.start(m)
			}
		}
		s.step.changes++
	}
	return nil
}

// halt ends a sequence before its time: err is why, nil for a stop string. One that has ended already is left alone.
func (s *scheduler) halt(seq *sequence, err error, now time.Time) {
	if seq.ended {
		return
	}
	e := ending{err: err}
	if err == nil {
		e.finish = FinishStop
	}
	s.end(seq, event{token: -1, at: now}, e)
}

// end forgets a sequence, wherever it is, and tells its reader with ev.
func (s *scheduler) end(seq *sequence, ev event, e ending) {
	if seq.id != 0 {
		s.manager.Remove(seq.id)
		s.running = remove(s.running, seq)
	} else {
		s.waiting = remove(s.waiting, seq)
	}
	s.blocked = false // there is more room, or the next to admit is another one
	seq.ended = true
	s.ended++
	e.usage = Usage{
		PromptTokens: seq.prompt,
		CachedTokens: max(seq.cached, 0),
		Preemptions:  seq.preemptions,
	}
	e.accepted, e.admitted = seq.accepted, seq.admitted
	e.prompt = seq.promptProbs
	e.exact = !seq.approximate
	ev.to, ev.end = seq.answer, &e
	s.events = append(s.events, ev)
}

// insert is list with seq in its place by ticket.
func insert(list []*sequence, seq *sequence) []*sequence {
	at, _ := slices.BinarySearchFunc(list, seq.ticket, func(s *sequence, ticket uint64) int {
		return cmp.Compare(s.ticket, ticket)
	})
	return slices.Insert(list, at, seq)
}

// remove is list without seq.
func remove(list []*sequence, seq *sequence) []*sequence {
	if i := slices.Index(list, seq); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}
