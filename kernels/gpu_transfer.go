//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/quire-llm/quire/kernels/cuda"
)

// transfers are copies between the host and the device that run beside the steps. Each way has a stream of its own, as the device
// has an engine for each:
//
//	steps   |.. step 1 ..|event|.... step 2 ....|
//	out                   waits|copy|done
//
// Only the goroutine that owns the device queues them; anybody waits. The streams are opened by the first transfer.
type transfers struct {
	out, in *cuda.Stream
	queued  *cuda.Event // the operations so far; used again, as a wait is for what was recorded last when it was queued

	mu    sync.Mutex
	all   []*transfer // guarded by mu
	spare []*transfer // guarded by mu
}

// transfer is a copy on its way. Between TransferOut or TransferIn and Wait it is its caller's.
type transfer struct {
	gpu  *gpu
	done *cuda.Event
}

func (g *gpu) TransferOut(dst []byte, src Buffer) (Pending, error) {
	if err := g.canTransfer("TransferOut", len(dst), src.size); err != nil {
		return nil, err
	}
	s := g.transfers.out
	return g.transfer(s, func() error { return s.CopyOut(dst, cuda.Ptr(address(src))) })
}

func (g *gpu) TransferIn(dst Buffer, src []byte) (Pending, error) {
	if err := g.canTransfer("TransferIn", dst.size, len(src)); err != nil {
		return nil, err
	}
	g.attention.overwritten(dst)
	s := g.transfers.in
	return g.transfer(s, func() error { return s.CopyIn(cuda.Ptr(address(dst)), src) })
}

// canTransfer checks a transfer and opens what the first one needs.
func (g *gpu) canTransfer(op string, dst, src int) error {
	ck := g.check(op)
	if ck.sameSize(dst, src); ck.err != nil {
		return ck.err
	}
	if g.graphs.capturing {
		return errCapturing
	}
	return g.fail(g.transfers.open(g.context))
}

// transfer queues a copy on its stream, between the end of the operations so far and an event of its own.
func (g *gpu) transfer(s *cuda.Stream, copy func() error) (Pending, error) {
	t, err := g.transfers.take(g)
	if err != nil {
		return nil, g.fail(err)
	}
	if err = g.stream.Record(g.transfers.queued); err == nil {
		err = s.Wait(g.transfers.queued)
	}
	if err == nil {
		if err = copy(); err == nil {
			err = s.Record(t.done)
		}
		if err != nil {
			err = errors.Join(err, s.Sync()) // nothing may use the memory any more
		}
	}
	if err != nil {
		g.transfers.give(t)
		return nil, g.fail(err)
	}
	return t, nil
}

// Wait sleeps, since a copy may be behind a long step.
func (t *transfer) Wait() error {
	if err := t.gpu.await(t.done); err != nil {
		return err
	}
	t.gpu.transfers.give(t)
	return nil
}

// await waits for an event on any goroutine.
func (g *gpu) await(e *cuda.Event) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := g.context.Use()
	if err == nil {
		err = e.Sync()
	}
	switch {
	case errors.Is(err, cuda.ErrLost): // later calls on the device find out by themselves
		return fmt.Errorf("%w: %w", ErrDevice, err)
	case err != nil:
		return fmt.Errorf("kernels: waiting for a copy: %w", err)
	}
	return nil
}

// open makes the streams, once.
func (s *transfers) open(c *cuda.Context) (err error) {
	for _, one := range []struct {
		stream **cuda.Stream
		name   string
	}{{&s.out, "copies to the host"}, {&s.in, "copies to the device"}} {
		if *one.stream == nil {
			if *one.stream, err = c.OpenStream(cuda.StreamOptions{Name: one.name, Launches: 1}); err != nil {
				return err
			}
		}
	}
	if s.queued == nil {
		s.queued, err = c.OpenEvent(cuda.EventOptions{})
	}
	return err
}

// take is a transfer that nobody uses.
func (s *transfers) take(g *gpu) (*transfer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.spare) - 1; last >= 0 {
		t := s.spare[last]
		s.spare = s.spare[:last]
		return t, nil
	}
	done, err := g.context.OpenEvent(cuda.EventOptions{Blocking: true})
	if err != nil {
		return nil, err
	}
	t := &transfer{gpu: g, done: done}
	s.all = append(s.all, t)
	return t, nil
}

// give makes a transfer ready for its next use.
func (s *transfers) give(t *transfer) {
	s.mu.Lock()
	s.spare = append(s.spare, t)
	s.mu.Unlock()
}

// close waits for what is still on its way. Errors are of no use, as in [gpu.close].
func (s *transfers) close() {
	for _, stream := range []*cuda.Stream{s.out, s.in} {
		if stream != nil {
			_ = stream.Sync()
			_ = stream.Close()
		}
	}
	if s.queued != nil {
		_ = s.queued.Close()
	}
	for _, t := range s.all {
		_ = t.done.Close()
	}
}

// allocHost returns page-locked memory.
func (g *gpu) allocHost(bytes int) (host []byte, err error) {
	m := &g.memory
	err = m.use(func() error {
		if bytes < 1 || bytes > maxBytes {
			return ErrNoMemory
		}
		var err error
		if host, err = m.context.AllocHost(bytes); err == nil {
			m.hosts[&host[0]] = host
		}
		return err
	})
	return host, memoryError(err, "page-locking", bytes)
}

// freeHost gives back what allocHost returned, whole; other memory is ignored.
func (g *gpu) freeHost(host []byte) {
	m := &g.memory
	_ = m.use(func() error {
		whole, ok := m.hosts[&host[0]]
		if !ok {
			return nil
		}
		delete(m.hosts, &host[0])
		return m.context.FreeHost(whole)
	})
}
