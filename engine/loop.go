package engine

import (
	"fmt"
	"sync"
	"time"
)

// core is an engine without the model's text: the step loop and what goes in and out of it. Two goroutines belong to it,
// and close waits for both.
//
//	requests --inbox--> step loop --delivery--> text goroutine --answer--> readers
type core struct {
	inbox     *inbox
	delivery  *delivery
	scheduler *scheduler // the step loop's
	observer  Observer
	check     bool // verify the books after every step
	ended     sync.WaitGroup

	mu   sync.Mutex
	last snapshot // guarded by mu: as of the last step
}

// snapshot is what the step loop lets others see.
type snapshot struct {
	count        counters
	running      int
	blocksUsed   int
	blocksCached int
	failed       error // why the loop has ended, if not by close
}

func newCore(s *scheduler, queue int) *core {
	return &core{inbox: newInbox(s.sequences + queue), delivery: newDelivery(), scheduler: s}
}

// start starts the goroutines.
func (c *core) start() {
	c.scheduler.observe = c.observer.StepDone
	c.ended.Go(c.loop)
	c.ended.Go(c.delivery.run)
}

// close ends all requests with ErrClosed and waits for the goroutines. It returns the error that had ended the loop
// before, if any. Closing twice is fine.
func (c *core) close() error {
	c.inbox.close(ErrClosed)
	c.ended.Wait()
	return c.state().failed
}

// state is the last snapshot.
func (c *core) state() snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// loop is the goroutine that owns the scheduler, the cache manager and the model.
func (c *core) loop() {
	defer c.delivery.close()
	var arrivals []*sequence
	var halts []halt
	for closing := error(nil); closing == nil; {
		if c.scheduler.rests() {
			<-c.inbox.wake
		}
		arrivals, halts, closing = c.inbox.take(arrivals, halts)
		err := c.calls()
		now := time.Now()
		c.receive(arrivals, halts, now)
		if closing != nil {
			c.settle()
			c.dismiss(closing, now) // nothing can follow
			c.flush()
		} else if err == nil {
			err = c.step(now)
		}
		if err != nil {
			c.fail(err)
		}
		c.report()
	}
}

// calls makes the calls that the inbox held, while no step runs. An error is the device's.
func (c *core) calls() error {
	calls := c.inbox.takeCalls()
	if len(calls) == 0 {
		return nil
	}
	err := c.scheduler.drain()
	for _, f := range calls {
		f()
	}
	return err
}

// receive takes in what the inbox held.
func (c *core) receive(arrivals []*sequence, halts []halt, now time.Time) {
	for _, seq := range arrivals {
		c.scheduler.enqueue(seq)
	}
	for _, h := range halts {
		c.scheduler.halt(h.seq, h.err, now)
	}
	clear(arrivals) // let go of what ends
	clear(halts)
}

// step does one step if there is anything to do.
func (c *core) step(now time.Time) error {
	s := c.scheduler
	if s.idle() && s.carrier == nil && len(s.flying) == 0 {
		return nil
	}
	if err := s.doStep(now); err != nil {
		return err
	}
	if c.check {
		return s.check()
	}
	return nil
}

// report lets others see where the loop stands and hands its events to the text goroutine: who reads the end of an answer
// finds the request's place and blocks free.
func (c *core) report() {
	s := c.scheduler
	c.mu.Lock()
	c.last.count = s.count
	c.last.running = len(s.running)
	c.last.blocksUsed, c.last.blocksCached = s.pool.Used(), s.pool.Cached()
	c.mu.Unlock()
	c.inbox.leave(s.ended)
	s.ended = 0
	c.delivery.post(s.events)
	clear(s.events)
	s.events = s.events[:0]
}

// settle takes in what runs, if the device still works.
func (c *core) settle() {
	if err := c.scheduler.drain(); err != nil {
		c.fail(err)
	}
}

// flush ends the transfers to other tiers, if the device still works.
func (c *core) flush() {
	if c.state().failed == nil {
		if err := c.scheduler.flush(c.inbox.wake); err != nil {
			c.fail(err)
		}
	}
}

// fail begins the end of the engine: err is its last word to everybody.
func (c *core) fail(err error) {
	c.mu.Lock()
	if c.last.failed == nil {
		c.last.failed = err
	}
	c.mu.Unlock()
	c.inbox.close(fmt.Errorf("%w: %w", ErrClosed, err))
}

// dismiss ends all sequences with err.
func (c *core) dismiss(err error, now time.Time) {
	for s := c.scheduler; !s.idle(); {
		last := s.waiting
		if len(last) == 0 {
			last = s.running
		}
		s.halt(last[len(last)-1], err, now)
	}
}
