package kernels

import (
	"runtime"
	"sync"
	"unsafe"
)

// kernel computes units of an operation until the queue at the head of its arguments has none left. Several threads run
// it on the same arguments.
type kernel func(args unsafe.Pointer)

// queue is the work that is left of a running operation. It is the first field of every kernel's arguments. A thread
// takes the units [next, next+grain) by adding grain to next.
type queue struct {
	next, units, grain int64
}

// pool is a set of threads that run one kernel at a time together with the goroutine that owns the device.
type pool struct {
	mu      sync.Mutex
	wake    sync.Cond // work has come, or the end
	idle    sync.Cond // no worker is busy
	done    sync.WaitGroup
	run1    kernel // while open
	args    unsafe.Pointer
	round   uint64 // of the work that workers may join
	open    bool
	ended   bool
	busy    int // workers that have joined
	panics  any // of a worker, for the owner
	workers int // besides the owner
}

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
// it. What fits in one grain is done by the owner alone.
func (p *pool) run(k kernel, q *queue, units, grain int) {
	q.next, q.units, q.grain = 0, int64(units), int64(grain)
	if p.workers == 0 || units <= grain {
		k(unsafe.Pointer(q))
		return
	}
	p.mu.Lock()
	p.run1, p.args, p.open = k, unsafe.Pointer(q), true
	p.round++
	p.mu.Unlock()
	p.wake.Broadcast()
	defer p.settle()
	k(unsafe.Pointer(q))
}

// settle lets no more workers join and waits for those that have. A worker's panic becomes the owner's.
func (p *pool) settle() {
	p.mu.Lock()
	p.open = false
	for p.busy > 0 {
		p.idle.Wait()
	}
	panics := p.panics
	p.panics = nil
	p.mu.Unlock()
	if panics != nil {
		panic(panics)
	}
}

// work is a worker's life.
func (p *pool) work() {
	runtime.LockOSThread()
	p.mu.Lock()
	defer p.mu.Unlock()
	for seen := uint64(0); ; {
		for !p.ended && (!p.open || p.round == seen) {
			p.wake.Wait()
		}
		if p.ended {
			return
		}
		seen = p.round
		p.busy++
		k, args := p.run1, p.args
		p.mu.Unlock()
		panics := try(k, args)
		p.mu.Lock()
		if panics != nil {
			p.panics = panics
		}
		if p.busy--; p.busy == 0 {
			p.idle.Signal()
		}
	}
}

// try runs a kernel and returns its panic.
func try(k kernel, args unsafe.Pointer) (panics any) {
	defer func() { panics = recover() }()
	k(args)
	return nil
}

// close ends the workers and waits for them.
func (p *pool) close() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.wake.Broadcast()
	p.done.Wait()
}
