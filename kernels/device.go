package kernels

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
)

// Options say which device to open. The zero value is the best one found.
type Options struct {
	// Device is "cpu", "cuda" or "" for the best one found.
	Device string
	// Threads is the number of CPU worker threads. 0: one for each core.
	Threads int
	// KernelSet forces a CPU kernel set: "avx512bf16", "avx512", "avx2", "portable" or "go". "": the best that this CPU runs.
	KernelSet string
	// Float32 leaves out the CPU kernel sets that round the inputs of products to bfloat16, which is "avx512bf16".
	Float32 bool
}

// Info describes an open device.
type Info struct {
	Kind           string // "cpu"
	Name           string // of the processor
	KernelSet      string // "avx512bf16", "avx512", "avx2", "portable" or "go"
	Products       string // how the inputs of matrix products are rounded: "bf16", or "f32" for not at all
	KernelReason   string // one line: why KernelSet is "go"; empty for the others
	Threads        int    // CPU worker threads
	MemoryBytes    int64  // in the machine; 0 if unknown
	AvailableBytes int64  // that can still be allocated, within the control group's limit; 0 if unknown
}

// Errors that callers tell apart.
var (
	// ErrNoMemory says that the device has too little memory for an allocation.
	ErrNoMemory = errors.New("kernels: out of memory")
	// ErrClosed says that the device was closed.
	ErrClosed = errors.New("kernels: device is closed")
	// ErrDevice says that the device failed for good, as after a faulting kernel. The first such error ends the device:
	// every later Do returns it.
	ErrDevice = errors.New("kernels: device failed")
)

// Device is an accelerator or the CPU, opened once in a process and shared by its engines. It owns the memory pool, the
// worker threads and the goroutine, locked to an OS thread, that submits work. Its methods may be called from any
// goroutine.
type Device struct {
	info   Info
	memory memory
	cpu    *cpu

	requests chan *request // unbuffered: a request that is sent has been taken
	closing  chan struct{}
	closed   chan struct{} // when the owner and the workers have ended
	once     sync.Once

	mu    sync.Mutex
	spare []*request
	first error // the ErrDevice that ended the device
}

// request is one call of Do. They are used again.
type request struct {
	fn     func(Ops) error
	err    error
	panics any
	exits  bool // fn left by runtime.Goexit
	done   chan struct{}
}

// Open starts a device. A device that does not exist here, or a kernel set that this CPU cannot run, gives an error that
// matches errors.ErrUnsupported.
func Open(o Options) (*Device, error) {
	switch o.Device {
	case "", "cpu":
	case "cuda":
		return nil, fmt.Errorf("kernels: opening device %q: this version has no CUDA kernels; use \"cpu\": %w", o.Device, errors.ErrUnsupported)
	default:
		return nil, fmt.Errorf("kernels: opening device %q: there are \"cpu\" and \"cuda\": %w", o.Device, errors.ErrUnsupported)
	}
	if o.Threads < 0 {
		return nil, fmt.Errorf("kernels: opening device \"cpu\": %d threads", o.Threads)
	}
	set, reason, err := chooseKernelSet(o.KernelSet, o.Float32)
	if err != nil {
		return nil, err
	}
	threads := o.Threads
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	d := &Device{
		info: Info{
			Kind:         "cpu",
			Name:         processorName(),
			KernelSet:    set.name,
			Products:     set.products(),
			KernelReason: reason,
			Threads:      threads,
		},
		requests: make(chan *request),
		closing:  make(chan struct{}),
		closed:   make(chan struct{}),
	}
	if d.cpu, err = newCPU(set, threads, &d.memory); err != nil {
		return nil, err
	}
	go d.own()
	return d, nil
}

// Info describes the device; AvailableBytes is as of now.
func (d *Device) Info() Info {
	i := d.info
	i.MemoryBytes, i.AvailableBytes = machineMemory()
	return i
}

// ActivationBytes is the size of an activation: 4 for float32.
func (d *Device) ActivationBytes() int { return 4 }

// Alloc returns bytes of zeroed memory, aligned to 64 bytes and outside the Go heap. Pages that nobody touches may cost
// nothing. The error matches [ErrNoMemory].
func (d *Device) Alloc(bytes int) (Buffer, error) { return d.memory.alloc(bytes) }

// Free gives a buffer of Alloc back, whole. What Upload returned and the zero Buffer are ignored. The caller knows that
// no operation uses it.
func (d *Device) Free(b Buffer) { d.memory.free(b) }

// Upload brings read-only data, such as weights, to the device. On the CPU the buffer is host itself: nothing is copied,
// any alignment does, and the caller keeps host alive and unchanged until the device is closed.
func (d *Device) Upload(host []byte) (Buffer, error) { return bufferOf(host), nil }

// Do runs fn on the goroutine that owns the device and returns its error. Calls run one at a time, in some order. ctx
// counts only while the call is queued. A panic in fn is raised again in the caller. After a failure of the device (see
// [ErrDevice]) every call returns that first error. fn must not call Do or Close, nor keep the Ops.
func (d *Device) Do(ctx context.Context, fn func(Ops) error) error {
	r := d.take()
	r.fn = fn
	select {
	case <-d.closing:
		return ErrClosed
	case <-ctx.Done():
		d.give(r)
		return context.Cause(ctx)
	default:
	}
	select {
	case d.requests <- r:
	case <-d.closing:
		return ErrClosed
	case <-ctx.Done():
		d.give(r)
		return context.Cause(ctx)
	}
	<-r.done
	err, panics, exits := r.err, r.panics, r.exits
	d.give(r)
	if panics != nil {
		panic(panics)
	}
	if exits {
		runtime.Goexit()
	}
	return err
}

// Close ends the device after the call of Do that is running, waits for its goroutine and its workers, and frees what
// Alloc gave out. Queued calls return [ErrClosed]. Closing twice is fine.
func (d *Device) Close() error {
	d.once.Do(func() { close(d.closing) })
	<-d.closed
	return nil
}

// take is an unused request.
func (d *Device) take() *request {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.spare); n > 0 {
		r := d.spare[n-1]
		d.spare = d.spare[:n-1]
		return r
	}
	return &request{done: make(chan struct{}, 1)}
}

// give makes a request ready for its next use.
func (d *Device) give(r *request) {
	r.fn, r.err, r.panics, r.exits = nil, nil, nil, false
	d.mu.Lock()
	d.spare = append(d.spare, r)
	d.mu.Unlock()
}

// own is the goroutine that owns the device.
func (d *Device) own() {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	for {
		select {
		case r := <-d.requests:
			d.serve(r)
		case <-d.closing:
			d.cpu.close()
			d.memory.freeAll()
			close(d.closed)
			return
		}
	}
}

// serve runs one request and says so to its caller, however fn ends.
func (d *Device) serve(r *request) {
	if d.first != nil {
		r.err = d.first
		r.done <- struct{}{}
		return
	}
	returned := false
	defer func() {
		if !returned {
			if r.panics = recover(); r.panics == nil { // Goexit: this goroutine is lost
				r.exits = true
				go d.own()
			}
		}
		r.done <- struct{}{}
	}()
	r.err = r.fn(d.cpu)
	returned = true
	if errors.Is(r.err, ErrDevice) {
		d.first = r.err
	}
}
