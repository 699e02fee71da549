package engine

import (
	"context"
	"fmt"
	"sync"
)

// inbox is what other goroutines leave for the step loop: new sequences, halts, and the wish to close.
type inbox struct {
	capacity int // sequences accepted and not yet ended

	mu       sync.Mutex
	arrivals []*sequence   // guarded by mu
	halts    []halt        // guarded by mu
	held     int           // guarded by mu: sequences accepted and not yet ended
	tickets  uint64        // guarded by mu: handed out
	closing  error         // guarded by mu: why nothing more is accepted
	room     chan struct{} // guarded by mu: closed when held falls; nil if nobody waits

	wake chan struct{} // [1] filled when something is new
}

// halt asks for the end of a sequence: err is why, nil for a stop string.
type halt struct {
	seq *sequence
	err error
}

func newInbox(capacity int) *inbox {
	return &inbox{capacity: capacity, wake: make(chan struct{}, 1)}
}

// accept queues a sequence. Where the engine is full it fails with ErrOverloaded, or, if wait is set, waits for room.
func (in *inbox) accept(ctx context.Context, seq *sequence, wait bool) error {
	for {
		in.mu.Lock()
		switch {
		case in.closing != nil:
			defer in.mu.Unlock()
			return in.closing
		case in.held < in.capacity:
			in.held++
			in.tickets++
			seq.ticket = in.tickets
			in.arrivals = append(in.arrivals, seq)
			in.mu.Unlock()
			in.poke()
			return nil
		case !wait:
			in.mu.Unlock()
			return fmt.Errorf("%w: %d requests are running or waiting", ErrOverloaded, in.capacity)
		}
		if in.room == nil {
			in.room = make(chan struct{})
		}
		room := in.room
		in.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return cancelled(ctx)
		}
	}
}

// halt asks for the end of a sequence. Asking twice, or after its end, is fine.
func (in *inbox) halt(seq *sequence, err error) {
	in.mu.Lock()
	in.halts = append(in.halts, halt{seq, err})
	in.mu.Unlock()
	in.poke()
}

// close makes accept fail with err from now on; the first call counts. It returns what accept fails with.
func (in *inbox) close(err error) error {
	in.mu.Lock()
	if in.closing == nil {
		in.closing = err
	}
	err = in.closing
	in.signalRoom()
	in.mu.Unlock()
	in.poke()
	return err
}

// leave says that n accepted sequences have ended.
func (in *inbox) leave(n int) {
	if n == 0 {
		return
	}
	in.mu.Lock()
	in.held -= n
	in.signalRoom()
	in.mu.Unlock()
}

func (in *inbox) signalRoom() {
	if in.room != nil {
		close(in.room)
		in.room = nil
	}
}

// take empties the inbox into the given slices. err is set once the engine is to close.
func (in *inbox) take(arrivals []*sequence, halts []halt) ([]*sequence, []halt, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	arrivals, in.arrivals = in.arrivals, arrivals[:0]
	halts, in.halts = in.halts, halts[:0]
	return arrivals, halts, in.closing
}

// accepted counts the sequences that have not ended yet.
func (in *inbox) accepted() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.held
}

func (in *inbox) poke() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}
