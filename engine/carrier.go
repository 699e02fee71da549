package engine

import (
	"fmt"
	"slices"
	"sync"

	"github.com/quire-llm/quire/kvcache"
)

// carriers is how many blocks are on their way at once: enough for a disk's queue, and for the copies of a GPU to follow each
// other while the host hands the next one over.
const carriers = 8

// mostLoads of them are loads: where those are slow, blocks that make room for others still go out.
const mostLoads = carriers - 2

// carrier brings blocks to and from a store, on its own goroutines and beside the steps: their blocks are no step's until the
// manager is told that they are done. Everything but the fields marked as shared belongs to the step loop.
//
//	store   |save| <-- place in memory, or buffer <-- |readBlock| <-- cache
//	        |load| -->                            --> |writeBlock| -->
type carrier struct {
	store      kvcache.Store
	cache      blockCopier
	memory     kvcache.Memory // of buffers
	blockBytes int
	wake       func() // tells the step loop that something is done
	pending    int    // started and not yet finished

	ended sync.WaitGroup

	mu     sync.Mutex
	ready  sync.Cond
	queue  []kvcache.Move // guarded by mu: to do
	loads  int            // guarded by mu: under way
	done   []carried      // guarded by mu
	closed bool           // guarded by mu
}

// blockCopier is a runner, as goroutines beside the step loop see it.
type blockCopier interface {
	readBlock(b kvcache.BlockID, dst []byte) error
	writeBlock(b kvcache.BlockID, src []byte) error
}

// carried is a load or store that is done.
type carried struct {
	move   kvcache.Move
	err    error // the block is lost
	device error // and so is the device
}

// newCarrier starts a carrier's goroutines. close ends them.
func newCarrier(store kvcache.Store, cache blockCopier, memory kvcache.Memory, blockBytes int, wake func()) *carrier {
	c := &carrier{store: store, cache: cache, memory: memory, blockBytes: blockBytes, wake: wake}
	c.ready.L = &c.mu
	for range carriers {
		c.ended.Go(c.work)
	}
	return c
}

// start begins a load or a store.
func (c *carrier) start(m kvcache.Move) {
	c.pending++
	c.mu.Lock()
	c.queue = append(c.queue, m)
	c.mu.Unlock()
	c.ready.Signal()
}

// finish tells the manager of what is done, and returns how many there were. An error is the device's.
func (c *carrier) finish(moved func(kvcache.Move, error)) (int, error) {
	c.mu.Lock()
	done := c.done
	c.done = nil
	c.mu.Unlock()
	for _, job := range done {
		c.pending--
		if job.device != nil {
			return 0, job.device
		}
		moved(job.move, job.err)
	}
	return len(done), nil
}

// work does one transfer after the other.
func (c *carrier) work() {
	at, ok := c.store.(place)
	if !ok {
		buffer := &buffered{store: c.store, memory: c.memory, bytes: c.blockBytes}
		defer buffer.free()
		at = buffer
	}
	for {
		m, ok := c.next()
		if !ok {
			return
		}
		job := c.carry(m, at)
		c.mu.Lock()
		c.done = append(c.done, job)
		if m.Kind == kvcache.MoveLoad {
			c.loads--
			c.ready.Signal()
		}
		c.mu.Unlock()
		c.wake()
	}
}

// carry does one transfer.
func (c *carrier) carry(m kvcache.Move, at place) carried {
	job := carried{move: m}
	if m.Kind == kvcache.MoveStore {
		job.err = at.SaveBy(m.Key, m.Tokens, func(dst []byte) error {
			err := c.cache.readBlock(m.From, dst)
			if err != nil {
				job.device = fmt.Errorf("engine: reading cache block %d: %w", m.From, err)
			}
			return err
		})
	} else {
		job.err = at.LoadBy(m.Key, m.Tokens, func(src []byte) error {
			err := c.cache.writeBlock(m.To, src)
			if err != nil {
				job.device = fmt.Errorf("engine: writing cache block %d: %w", m.To, err)
			}
			return err
		})
	}
	return job
}

// next waits for something to do, loads first: requests wait for them. It is false once the carrier is closed.
func (c *carrier) next() (kvcache.Move, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kind := func(k kvcache.MoveKind) int {
		return slices.IndexFunc(c.queue, func(m kvcache.Move) bool { return m.Kind == k })
	}
	for !c.closed {
		i := -1
		if c.loads < mostLoads {
			i = kind(kvcache.MoveLoad)
		}
		if i < 0 {
			i = kind(kvcache.MoveStore)
		}
		if i < 0 {
			c.ready.Wait()
			continue
		}
		m := c.queue[i]
		c.queue = slices.Delete(c.queue, i, i+1)
		if m.Kind == kvcache.MoveLoad {
			c.loads++
		}
		return m, true
	}
	return kvcache.Move{}, false
}

// close ends the goroutines and the store. What was not begun is left undone.
func (c *carrier) close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.ready.Broadcast()
	c.ended.Wait()
	return c.store.Close()
}

// place is where a store's blocks are copied to and from: see [kvcache.Resident].
type place interface {
	LoadBy(k kvcache.Key, tokens []int32, read func(src []byte) error) error
	SaveBy(k kvcache.Key, tokens []int32, fill func(dst []byte) error) error
}

// buffered is a place for a store that has none in memory. It belongs to one goroutine.
type buffered struct {
	store  kvcache.Store
	memory kvcache.Memory
	bytes  int
	buffer []byte
	locked bool // it is of memory
}

func (b *buffered) LoadBy(k kvcache.Key, tokens []int32, read func(src []byte) error) error {
	b.make()
	if err := b.store.Load(k, tokens, b.buffer); err != nil {
		return err
	}
	return read(b.buffer)
}

func (b *buffered) SaveBy(k kvcache.Key, tokens []int32, fill func(dst []byte) error) error {
	b.make()
	if err := fill(b.buffer); err != nil {
		return err
	}
	return b.store.Save(k, tokens, b.buffer)
}

// make makes the buffer when it is first used. Where the device has no memory for it, ordinary memory does.
func (b *buffered) make() {
	if b.buffer != nil {
		return
	}
	var err error
	b.buffer, err = b.memory.AllocHost(b.bytes)
	if b.locked = err == nil; !b.locked {
		b.buffer = make([]byte, b.bytes)
	}
}

func (b *buffered) free() {
	if b.locked {
		b.memory.FreeHost(b.buffer)
	}
}
