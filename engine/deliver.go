package engine

import "sync"

// delivery carries events from the step loop to the text goroutine, which turns tokens into text and looks for stop
// strings. The step loop never waits for it; it never waits for a reader.
type delivery struct {
	mu     sync.Mutex
	queued []event // guarded by mu
	closed bool    // guarded by mu: nothing follows
	wake   *sync.Cond
}

func newDelivery() *delivery {
	d := &delivery{}
	d.wake = sync.NewCond(&d.mu)
	return d
}

// post hands events over, copied. Only the step loop calls it.
func (d *delivery) post(events []event) {
	if len(events) == 0 {
		return
	}
	d.mu.Lock()
	d.queued = append(d.queued, events...)
	d.mu.Unlock()
	d.wake.Signal()
}

// close ends the text goroutine once it has handled all events.
func (d *delivery) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.wake.Signal()
}

// run is the text goroutine.
func (d *delivery) run() {
	var events []event
	for {
		d.mu.Lock()
		for len(d.queued) == 0 && !d.closed {
			d.wake.Wait()
		}
		events, d.queued = d.queued, events[:0]
		d.mu.Unlock()
		if len(events) == 0 {
			return
		}
		for _, ev := range events {
			ev.to.handle(ev)
		}
		clear(events) // let go of what has ended
	}
}
