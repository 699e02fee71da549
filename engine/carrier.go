package engine

import (
	"fmt"
	"sync"

	"github.com/quire-llm/quire/kvcache"
)

// carriers is how many blocks are read and written at once, and loadsAhead how many may be read before the step loop takes
// them: enough for a disk's queue, in 30 MB of memory for a model of 0.6B parameters.
const (
	carriers   = 4
	loadsAhead = 16
)

// carrier brings blocks to and from a store. Files are read and written on its own goroutines; between a buffer and the device
// a block's bytes go in the step loop, between steps, so that the device sees them in order. Everything but the fields marked
// as shared belongs to the step loop.
type carrier struct {
	store      kvcache.Store
	blockBytes int
	wake       func()   // tells the step loop that something is done
	pending    int      // started and not yet finished
	spare      [][]byte // buffers of stores

	loads chan []byte // shared: buffers of loads; who has one may read ahead
	ended sync.WaitGroup

	mu     sync.Mutex
	ready  sync.Cond
	queue  []carried // guarded by mu: to do
	done   []carried // guarded by mu
	closed bool      // guarded by mu
}

// carried is a load or store, with the block's bytes where they are known.
type carried struct {
	move kvcache.Move
	data []byte
	err  error
}

// newCarrier starts a carrier's goroutines. close ends them.
func newCarrier(store kvcache.Store, blockBytes int, wake func()) *carrier {
	c := &carrier{store: store, blockBytes: blockBytes, wake: wake, loads: make(chan []byte, loadsAhead)}
	c.ready.L = &c.mu
	for range loadsAhead {
		c.loads <- nil // made when it is first used
	}
	for range carriers {
		c.ended.Go(c.work)
	}
	return c
}

// start begins a load or a store. read copies the block that is to be stored into a buffer.
func (c *carrier) start(m kvcache.Move, read func(b kvcache.BlockID, dst []byte) error) error {
	job := carried{move: m}
	if m.Kind == kvcache.MoveStore {
		if last := len(c.spare) - 1; last >= 0 {
			job.data, c.spare = c.spare[last], c.spare[:last]
		} else {
			job.data = make([]byte, c.blockBytes)
		}
		if err := read(m.From, job.data); err != nil {
			return fmt.Errorf("engine: reading cache block %d: %w", m.From, err)
		}
	}
	c.pending++
	c.mu.Lock()
	c.queue = append(c.queue, job)
	c.mu.Unlock()
	c.ready.Signal()
	return nil
}

// finish takes what is done: write brings a loaded block to the device, moved tells the manager. It says how many there were.
func (c *carrier) finish(write func(b kvcache.BlockID, src []byte) error, moved func(kvcache.Move, error)) (int, error) {
	c.mu.Lock()
	done := c.done
	c.done = nil
	c.mu.Unlock()
	for _, job := range done {
		c.pending--
		if job.move.Kind == kvcache.MoveStore {
			c.spare = append(c.spare, job.data)
		} else {
			if job.err == nil {
				if err := write(job.move.To, job.data); err != nil {
					return 0, fmt.Errorf("engine: writing cache block %d: %w", job.move.To, err)
				}
			}
			c.loads <- job.data
		}
		moved(job.move, job.err)
	}
	return len(done), nil
}

// work does one transfer after the other.
func (c *carrier) work() {
	for {
		job, ok := c.next()
		if !ok {
			return
		}
		if job.move.Kind == kvcache.MoveStore {
			job.err = c.store.Save(job.move.Key, job.move.Tokens, job.data)
		} else {
			if job.data = <-c.loads; job.data == nil {
				job.data = make([]byte, c.blockBytes)
			}
			job.err = c.store.Load(job.move.Key, job.move.Tokens, job.data)
		}
		c.mu.Lock()
		c.done = append(c.done, job)
		c.mu.Unlock()
		c.wake()
	}
}

// next waits for something to do. It is false once the carrier is closed.
func (c *carrier) next() (carried, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) == 0 && !c.closed {
		c.ready.Wait()
	}
	if c.closed {
		return carried{}, false
	}
	job := c.queue[0]
	c.queue = c.queue[1:]
	return job, true
}

// close ends the goroutines and the store. What was not begun is left undone.
func (c *carrier) close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.ready.Broadcast()
	for waiting := true; waiting; { // who waits for a buffer gets one
		select {
		case c.loads <- nil:
		default:
			waiting = false
		}
	}
	c.ended.Wait()
	return c.store.Close()
}
