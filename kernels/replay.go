package kernels

// Replayer is what Ops may be besides: it records operations once and then repeats them at the cost of one. Ops that have it
// are found by assertion; the others run record.
type Replayer interface {
	// Replay does what record queues, and calls record only where r holds nothing yet. So everything that record passes on
	// must follow from r alone: the same operations with the same shapes and buffers each time. Only what lies in buffers may
	// differ. record is kept until the end of the Do, may be called again in it, and neither writes nor reads. Where nothing
	// can be recorded, which r.Err tells, Replay goes on to call record. Its errors are those of record.
	Replay(r *Recording, record func(Ops) error) error
}

// Recording is what a device has recorded for its owner. The zero value holds nothing. It belongs to one device and is used
// within Do only. The device forgets what it holds where memory was given back that might be in it.
type Recording struct {
	Name string // for errors

	kept  any // the device's
	tries int // that came to nothing
	err   error
}

// Err is why the last try to record came to nothing; nil if there was none.
func (r *Recording) Err() error { return r.err }

// Fetcher is what Ops may be besides: it brings results to the host while the device goes on. Ops that have it are found
// by assertion.
type Fetcher interface {
	// Fetch queues a copy to the host, in order with all other operations, and returns at once. dst is filled when Wait
	// returns, and is not touched by others until then. Every Fetch is waited for once.
	Fetch(dst []byte, src Buffer) (Pending, error)
}

// Pending is a copy on its way.
type Pending interface {
	// Wait waits until the copy is done. Any goroutine may call it, also while the device's owner is at work.
	Wait() error
}
