package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// inbox is what other goroutines leave for the step loop: new sequences, halts, and the wish to close. It has places for as
// many sequences as the engine may hold; who waits for one gets it in the order of asking.
type inbox struct {
	places int

	mu       sync.Mutex
	arrivals []*sequence     // guarded by mu
	halts    []halt          // guarded by mu
	taken    int             // guarded by mu: places of sequences accepted and not yet ended, or handed to who waited
	waiting  []chan struct{} // guarded by mu: [1] filled when a place is handed over, in the order of asking
	calls    []func()        // guarded by mu: to be made by the step loop
	tickets  uint64          // guarded by mu: handed out
	closing  error           // guarded by mu: why nothing more is accepted

	wake chan struct{} // [1] filled when something is new
}

// halt asks for the end of a sequence: err is why, nil for a stop string.
type halt struct {
	seq *sequence
	err error
}

func newInbox(places int) *inbox {
	return &inbox{places: places, wake: make(chan struct{}, 1)}
}

// accept queues a sequence. Where all places are taken it fails with ErrOverloaded, or, if wait is set, waits for one.
func (in *inbox) accept(ctx context.Context, seq *sequence, wait bool) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.closing != nil:
		return in.closing
	case in.taken < in.places:
		in.taken++
		in.enter(seq)
		return nil
	case !wait:
		return fmt.Errorf("%w: %d requests are running or waiting", ErrOverloaded, in.places)
	}
	turn := make(chan struct{}, 1)
	in.waiting = append(in.waiting, turn)
	in.mu.Unlock()
	select {
	case <-turn:
	case <-ctx.Done():
	}
	in.mu.Lock()
	if i := slices.Index(in.waiting, turn); i >= 0 { // ctx is done
		in.waiting = slices.Delete(in.waiting, i, i+1)
		return cancelled(ctx)
	}
	switch { // a place was handed over
	case in.closing != nil:
		in.free(1)
		return in.closing
	case ctx.Err() != nil:
		in.free(1)
		return cancelled(ctx)
	}
	in.enter(seq)
	return nil
}

// enter queues a sequence that has its place.
func (in *inbox) enter(seq *sequence) {
	in.tickets++
	seq.ticket = in.tickets
	in.arrivals = append(in.arrivals, seq)
	in.poke()
}

// halt asks for the end of a sequence. Asking twice, or after its end, is fine.
func (in *inbox) halt(seq *sequence, err error) {
	in.mu.Lock()
	in.halts = append(in.halts, halt{seq, err})
	in.mu.Unlock()
	in.poke()
}

// close makes accept fail with err from now on; the first call counts.
func (in *inbox) close(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closing == nil {
		in.closing = err
		in.taken += len(in.waiting)
		in.free(len(in.waiting)) // who waits will see why
		in.poke()
	}
}

// leave says that n accepted sequences have ended.
func (in *inbox) leave(n int) {
	if n == 0 {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.free(n)
}

// free hands n places to those who wait, and has the rest back.
func (in *inbox) free(n int) {
	handed := min(n, len(in.waiting))
	for _, turn := range in.waiting[:handed] {
		turn <- struct{}{}
	}
	in.waiting = slices.Delete(in.waiting, 0, handed)
	in.taken -= n - handed
}

// take empties the inbox into the given slices. err is set once the engine is to close.
func (in *inbox) take(arrivals []*sequence, halts []halt) ([]*sequence, []halt, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	arrivals, in.arrivals = in.arrivals, arrivals[:0]
	halts, in.halts = in.halts, halts[:0]
	return arrivals, halts, in.closing
}

// call has f called by the step loop, between steps. Once it is accepted it will be.
func (in *inbox) call(f func()) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closing != nil {
		return in.closing
	}
	in.calls = append(in.calls, f)
	in.poke()
	return nil
}

// takeCalls empties the list of calls.
func (in *inbox) takeCalls() []func() {
	in.mu.Lock()
	defer in.mu.Unlock()
	calls := in.calls
	in.calls = nil
	return calls
}

// accepted counts the places that are taken.
func (in *inbox) accepted() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.taken
}

func (in *inbox) poke() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}
