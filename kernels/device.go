package kernels

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
)

// Options say which device to open. The zero value is the best one found.
type Options struct {
	// Device is "cpu", "cuda", or "" for the best one found: the first GPU that can be used, else the CPU.
	Device string
	// Threads is the number of CPU worker threads. 0: one for each core.
	Threads int
	// KernelSet forces the kernels: "avx512bf16", "avx512", "avx2", "portable" or "go" of the CPU, "cuda sm_90a" or "cuda ptx"
	// of a GPU, and with them the device where Device leaves it open. "": the best that the device runs; on a GPU that is
	// "cuda ptx" if the environment variable QUIRE_CUDA_IMAGE is "ptx".
	KernelSet string
	// Float32 leaves out the kernel sets that round the inputs of products to bfloat16: "avx512bf16" and those of GPUs.
	Float32 bool
	// CUDAContext is a CUcontext that somebody else in the process has made: the device is that context's GPU, and runs in it
	// instead of in the primary context. It stays theirs, and they keep it alive until Close has returned. 0: none.
	CUDAContext uintptr
}

// Info describes an open device.
type Info struct {
	Kind            string // "cpu" or "cuda"
	Name            string // of the processor or the GPU
	KernelSet       string // see Options; machine code for compute capability 9.0, or PTX that the driver has compiled
	Products        string // how the inputs of matrix products are rounded: "bf16", or "f32" for not at all
	KernelReason    string // one line: why KernelSet is "go"; empty for the others
	DeviceReason    string // one line: why a CPU was taken and no GPU; empty where the options ask for it
	Images          string // hash of the embedded images, for a GPU: see cuda.ImagesHash
	CuBLASLt        string // the version of the library that some products are left to; empty for none, as on every device without wgmma
	Driver          string // NVIDIA's and its version, for a GPU
	DriverFound     bool   // there is an NVIDIA driver, if perhaps one that cannot be used
	Capability      string // compute capability of a GPU: "9.0"
	SharedAttention bool   // Attend takes shared items: see [Work] and [Device.SharesAttention]
	Threads         int    // CPU worker threads
	MemoryBytes     int64  // of the device; 0 if unknown
	TakenBytes      int64  // of memory that the device has given out
	AvailableBytes  int64  // that can still be allocated, on a CPU within the control group's limit; 0 if unknown
}

// TakesKV says whether the device's kernels take a cache of the type.
func (i Info) TakesKV(t KVType) bool { return t.takenBy(i.Kind == "cuda") }

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
	info    Info
	backend backend

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

// Open starts a device. A device that does not exist here or cannot be used, or a kernel set that it cannot run, gives an
// error that says what was found and matches errors.ErrUnsupported.
func Open(o Options) (*Device, error) { return open(o, gpuOptions{}) }

func open(o Options, g gpuOptions) (*Device, error) {
	d := &Device{
		requests: make(chan *request),
		closing:  make(chan struct{}),
		closed:   make(chan struct{}),
	}
	var err error
	if d.backend, d.info, err = openBackend(o, g); err != nil {
		return nil, err
	}
	go d.own()
	return d, nil
}

// errWish is in the error of a GPU that lacks something that the environment demands: no CPU is taken instead.
var errWish = errors.New("which cannot be had")

// openBackend finds the device that the options want.
func openBackend(o Options, g gpuOptions) (backend, Info, error) {
	ofGPU := strings.HasPrefix(o.KernelSet, gpuSetPrefix)
	switch {
	case o.CUDAContext != 0 && o.Device != "cuda" && o.Device != "":
		return nil, Info{}, fmt.Errorf("kernels: opening device %q: a CUDA context is for \"cuda\": %w", o.Device, errors.ErrUnsupported)
	case o.Device == "cuda" || o.Device == "" && (ofGPU || o.CUDAContext != 0):
		switch {
		case o.Float32:
			return nil, Info{}, fmt.Errorf("kernels: opening device \"cuda\": its products round their inputs to bfloat16, Float32 is for the CPU: %w", errors.ErrUnsupported)
		case o.KernelSet != "" && !ofGPU:
			return nil, Info{}, fmt.Errorf("kernels: opening device \"cuda\": kernel set %q is the CPU's: %w", o.KernelSet, errors.ErrUnsupported)
		}
		b, info, err := openGPU(o, g)
		if err != nil {
			return nil, info, fmt.Errorf("kernels: opening device \"cuda\": %w", err)
		}
		return b, info, nil
	case o.Device == "cpu" || o.Device == "" && (o.KernelSet != "" || o.Float32):
		return openCPU(o)
	case o.Device == "":
		b, info, err := openGPU(o, g)
		if err == nil {
			return b, info, nil
		}
		if errors.Is(err, errWish) {
			return nil, info, fmt.Errorf("kernels: opening a device: %w", err)
		}
		reason, found := err.Error(), info.DriverFound
		if b, info, err = openCPU(o); err != nil {
			return nil, info, err
		}
		info.DeviceReason, info.DriverFound = reason, found
		return b, info, nil
	}
	return nil, Info{}, fmt.Errorf("kernels: opening device %q: there are \"cpu\" and \"cuda\": %w", o.Device, errors.ErrUnsupported)
}

// gpuSetPrefix begins the names of the kernel sets for GPUs: the rest names the image.
const gpuSetPrefix = "cuda "

// sharer is a backend that does not take shared items for every cache.
type sharer interface {
	shares(kv KVType, headDim int) bool
}

// SharesAttention says whether Attend takes shared items over a cache of that type with heads of that size. A GPU does not over
// float32, nor where its shared memory is too small.
func (d *Device) SharesAttention(kv KVType, headDim int) bool {
	if s, ok := d.backend.(sharer); ok {
		return s.shares(kv, headDim)
	}
	return d.info.SharedAttention
}

// Info describes the device; AvailableBytes is as of now.
func (d *Device) Info() Info {
	i := d.info
	i.MemoryBytes, i.AvailableBytes = d.backend.memoryBytes()
	i.TakenBytes = d.backend.takenBytes()
	return i
}

// ActivationBytes is the size of an activation: 4 for float32 on the CPU, 2 for bfloat16 on CUDA.
func (d *Device) ActivationBytes() int { return d.backend.activationBytes() }

// Alloc returns bytes of zeroed memory, outside the Go heap and aligned to 64 bytes on the CPU, to 256 on CUDA. On the CPU
// pages that nobody touches may cost nothing. The error matches [ErrNoMemory].
func (d *Device) Alloc(bytes int) (Buffer, error) { return d.backend.alloc(bytes) }

// Free gives a buffer of Alloc or Upload back, whole. The zero Buffer is ignored, and so is on the CPU what Upload
// returned. The caller knows that no operation uses it.
func (d *Device) Free(b Buffer) { d.backend.free(b) }

// Upload brings read-only data, such as weights, to the device. On the CPU the buffer is host itself: nothing is copied,
// any alignment does, and the caller keeps host alive and unchanged until the device is closed. On CUDA it is a copy,
// aligned to 256 bytes. Several goroutines of the device make it: it may be done only when the next Do runs, which returns
// the error of a copy that failed, and until then the caller keeps host as it is.
func (d *Device) Upload(host []byte) (Buffer, error) { return d.backend.upload(host) }

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
	if err := d.backend.begin(); err != nil && d.first == nil {
		d.first = err
	}
	for {
		select {
		case r := <-d.requests:
			d.serve(r)
		case <-d.closing:
			d.backend.close()
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
	ops, err := d.backend.prepare()
	if err == nil {
		err = r.fn(ops)
	}
	r.err, returned = err, true
	if err := d.backend.settle(); r.err == nil || errors.Is(err, ErrDevice) && !errors.Is(r.err, ErrDevice) {
		r.err = err
	}
	if errors.Is(r.err, ErrDevice) {
		d.first = r.err
	}
}
