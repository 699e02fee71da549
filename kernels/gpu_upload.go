//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"errors"
	"runtime"
	"sync"

	"github.com/quire-llm/quire/kernels/cuda"
)

// uploads copies weights to the device beside everything else. Workers each copy pieces into pinned memory of their own,
// which reads the mapped file, and from there to the device on a stream of their own. They start with the first upload
// and end when somebody waits.
type uploads struct {
	context *cuda.Context

	mu      sync.Mutex
	pieces  chan piece // nil while there are no workers
	workers sync.WaitGroup

	failing sync.Mutex
	err     error // of the first worker that failed
}

// piece is a part of an upload.
type piece struct {
	to   cuda.Ptr
	from []byte
}

const (
	pieceBytes     = 2 << 20
	uploadWorkers  = 8 // most
	uploadStagings = 2 // pieces of a worker in pinned memory: one is filled while the other is copied
)

// upload makes room for host and lets the workers copy it.
func (g *gpu) upload(host []byte) (b Buffer, err error) {
	err = g.memory.use(func() error {
		p, err := g.memory.place(len(host))
		b = deviceBuffer(p, len(host))
		return err
	})
	if err != nil {
		return Buffer{}, memoryError(err, "uploading", len(host))
	}
	g.uploads.add(cuda.Ptr(address(b)), host)
	return b, nil
}

// add queues an upload. It waits while the workers are far behind.
func (u *uploads) add(to cuda.Ptr, from []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pieces == nil {
		workers := min(uploadWorkers, runtime.GOMAXPROCS(0))
		u.pieces = make(chan piece, 4*workers)
		for range workers {
			u.workers.Add(1)
			go u.work(u.pieces)
		}
	}
	for len(from) > 0 {
		n := min(len(from), pieceBytes)
		u.pieces <- piece{to: to, from: from[:n]}
		to, from = to+cuda.Ptr(n), from[n:]
	}
}

// wait ends the workers when all is copied and returns their first error.
func (u *uploads) wait() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pieces == nil {
		return nil
	}
	close(u.pieces)
	u.workers.Wait()
	u.pieces = nil
	err := u.err
	u.err = nil
	return err
}

// work copies pieces until there are no more.
func (u *uploads) work(pieces <-chan piece) {
	defer u.workers.Done()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := u.copyAll(pieces); err != nil {
		u.failing.Lock()
		if u.err == nil {
			u.err = err
		}
		u.failing.Unlock()
		for range pieces { // who adds must not wait for ever
		}
	}
}

func (u *uploads) copyAll(pieces <-chan piece) (err error) {
	if err := u.context.Use(); err != nil {
		return err
	}
	stream, err := u.context.OpenStream(cuda.StreamOptions{Name: "upload", Launches: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stream.Sync(), stream.Close()) }()
	staging, err := u.context.AllocHost(uploadStagings * pieceBytes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stream.Sync(), u.context.FreeHost(staging)) }()
	var copied [uploadStagings]*cuda.Event
	for i := range copied {
		if copied[i], err = u.context.OpenEvent(cuda.EventOptions{Blocking: true}); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, copied[i].Close()) }()
	}
	turn := 0
	for p := range pieces {
		if err := copied[turn].Sync(); err != nil {
			return err
		}
		here := staging[turn*pieceBytes:][:len(p.from)]
		copy(here, p.from)
		if err := errors.Join(stream.CopyIn(p.to, here), stream.Record(copied[turn])); err != nil {
			return err
		}
		turn = (turn + 1) % uploadStagings
	}
	return nil
}
