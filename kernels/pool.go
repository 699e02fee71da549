package kernels

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// kernel computes units of an operation until the queue at the head of its arguments has none left. Several threads run
// it on the same arguments.
type kernel struct {
	compute  func(args unsafe.Pointer)
	compiled unsafe.Pointer // the same as a C function, whose arguments lie outside the Go heap; nil for none
}

// queue is the work that is left of a running operation. It is the first field of every kernel's arguments. A thread
// takes the units from next on: one share-th of what is left, so that it walks through memory for long at first and all
// end together at last, but no fewer than grain. With a share of 0 it always takes grain.
type queue struct {
	next, units, grain, share int64
}

// claim takes the next units, [lo, hi); lo == hi at the end.
func (q *queue) claim() (lo, hi int) {
	for {
		next := atomic.LoadInt64(&q.next)
		take := q.grain
		if q.share > 0 {
			take = max(take, (q.units-next)/q.share)
		}
		end := max(next, min(q.units, next+take))
		if atomic.CompareAndSwapInt64(&q.next, next, end) {
			return int(next), int(end)
		}
	}
}

// pool is a set of threads that run one kernel at a time together with the goroutine that owns the device.
//
// Operations follow each other within microseconds, and waking a sleeping thread costs tens of them. So a worker looks
// out for the next operation for a while before it sleeps, and the owner for the workers' end. Nobody waits for a worker
// that has not joined: one that wakes too late, or that the system does not run, finds the operation closed.
//
// A worker whose kernel is compiled stays in C from then on, for as long as such kernels follow each other. Threads that go
// in and out of C all the time keep all of the runtime's processors in system calls, and its monitor then wakes every 20 µs
// to take them away: a tenth of what two cores can do.
type pool struct {
	workers int // besides the owner
	poolRounds

	// Of the round, as what poolRounds says.
	kernel kernel
	args   unsafe.Pointer

	mu       sync.Mutex
	wake     sync.Cond    // a worker sleeps: there is a new round, or the end
	idle     sync.Cond    // the owner sleeps: nobody is busy
	sleepers atomic.Int32 // workers in, or about to enter, wake.Wait
	ended    bool
	panics   any // of a worker in this round
	done     sync.WaitGroup
}

// poolRounds is what a worker in C sees of a pool.
type poolRounds struct {
	state   atomic.Uint64 // round<<32 | open<<31 | workers that are busy with the round
	waiting atomic.Uint32 // 1: the owner is in, or about to enter, idle.Wait

	// Of the round. The owner writes them while no worker can join; a worker reads them after it has joined.
	compiled     unsafe.Pointer // the kernel, or nil: it is not compiled
	compiledArgs unsafe.Pointer // outside the Go heap
}

// The parts of poolRounds.state.
const (
	poolRound = 1 << 32
	poolOpen  = 1 << 31
	poolBusy  = poolOpen - 1
)

// spinTime is how long a thread looks out before it sleeps: several times what lies between two operations of a step.
const spinTime = 50 * time.Microsecond

// newPool starts threads−1 workers.
func newPool(threads int) *pool {
	p := &pool{workers: threads - 1}
	p.wake.L, p.idle.L = &p.mu, &p.mu
	for range p.workers {
		p.done.Go(p.work)
	}
	return p
}

// run computes all units of the queue, which begins the arguments, and returns when they are done. Only the owner calls
// it. What fits in one grain is done by the owner alone. A panic of any thread comes out of run.
func (p *pool) run(k kernel, q *queue, units, grain int) {
	q.next, q.units, q.grain, q.share = 0, int64(units), int64(grain), int64(2*(p.workers+1))
	if p.workers == 0 || units <= grain {
		k.compute(unsafe.Pointer(q))
		return
	}
	p.kernel, p.args = k, unsafe.Pointer(q)
	if p.compiled, p.compiledArgs = k.compiled, nil; k.compiled != nil {
		p.compiledArgs = p.args
	}
	p.state.Store((p.state.Load()/poolRound+1)*poolRound | poolOpen)
	if p.sleepers.Load() > 0 {
		p.mu.Lock()
		p.wake.Broadcast()
		p.mu.Unlock()
	}
	defer p.settle()
	k.compute(unsafe.Pointer(q))
}

// settle lets no more workers join and waits for those that have.
func (p *pool) settle() {
	p.state.And(^uint64(poolOpen))
	if !spin(func() bool { return p.state.Load()&poolBusy == 0 }) {
		p.mu.Lock()
		p.waiting.Store(1)
		for p.state.Load()&poolBusy != 0 {
			p.idle.Wait()
		}
		p.waiting.Store(0)
		p.mu.Unlock()
	}
	if panics := p.panics; panics != nil {
		p.panics = nil
		panic(panics)
	}
}

// work is a worker's life.
func (p *pool) work() {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	for round := uint64(0); p.await(round); {
		state := p.state.Load()
		if !joinable(state, round) || !p.state.CompareAndSwap(state, state+1) {
			continue
		}
		round = state / poolRound
		for joined := true; joined; {
			if p.compiled != nil {
				round, joined = p.stay(round)
			} else {
				p.compute()
				joined = false
			}
		}
	}
}

// compute runs the kernel and leaves the round.
func (p *pool) compute() {
	if panics := try(p.kernel, p.args); panics != nil {
		p.mu.Lock()
		p.panics = panics
		p.mu.Unlock()
	}
	if p.state.Add(^uint64(0))&poolBusy == 0 && p.waiting.Load() != 0 {
		p.rouse()
	}
}

// rouse wakes the owner.
func (p *pool) rouse() {
	p.mu.Lock()
	p.idle.Signal()
	p.mu.Unlock()
}

// joinable reports whether a worker that was last in round may join what state says.
func joinable(state, round uint64) bool {
	return state&poolOpen != 0 && state/poolRound != round
}

// await returns true when there may be a round after the given one to join, and false at the end.
func (p *pool) await(round uint64) bool {
	if spin(func() bool { return joinable(p.state.Load(), round) }) {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sleepers.Add(1)
	defer p.sleepers.Add(-1)
	for !p.ended && !joinable(p.state.Load(), round) {
		p.wake.Wait()
	}
	return !p.ended
}

// spin looks for ready to become true for spinTime.
func spin(ready func() bool) bool {
	for start := time.Now(); ; {
		for range 64 {
			if ready() {
				return true
			}
		}
		if time.Since(start) > spinTime {
			return false
		}
	}
}

// try runs a kernel and returns its panic.
func try(k kernel, args unsafe.Pointer) (panics any) {
	defer func() { panics = recover() }()
	k.compute(args)
	return nil
}

// close ends the workers and waits for them.
func (p *pool) close() {
	p.mu.Lock()
	p.ended = true
	p.wake.Broadcast()
	p.mu.Unlock()
	p.done.Wait()
}
