//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"slices"
	"sync"

	"github.com/quire-llm/quire/kernels/cuda"
)

// fetches are copies to the host that are on their way or were, and are used again. They live until the device is closed.
type fetches struct {
	mu    sync.Mutex
	all   []*fetch // guarded by mu
	spare []*fetch // guarded by mu
}

// fetch is a copy to the host: through pinned memory, with an event at its end. Between Fetch and Wait it is its caller's.
type fetch struct {
	gpu  *gpu
	host []byte // pinned
	dst  []byte
	done *cuda.Event
}

const leastFetchBytes = 16 << 10

func (g *gpu) Fetch(dst []byte, src Buffer) (Pending, error) {
	ck := g.check("Fetch")
	if ck.sameSize(len(dst), src.size); ck.err != nil {
		return nil, ck.err
	}
	if g.graphs.capturing {
		return nil, errCapturing
	}
	f, err := g.fetches.take(g, len(dst))
	if err != nil {
		return nil, g.fail(err)
	}
	f.dst = dst
	err = g.stream.CopyOut(f.host[:len(dst)], cuda.Ptr(address(src)))
	if err == nil {
		err = g.stream.Record(f.done)
	}
	if err != nil {
		g.fetches.give(f)
		return nil, g.fail(err)
	}
	return f, nil
}

// Wait does not need the goroutine that owns the device, so that one engine's wait keeps no other's step from starting.
func (f *fetch) Wait() error {
	if err := f.gpu.await(f.done); err != nil {
		return err
	}
	copy(f.dst, f.host)
	f.gpu.fetches.give(f)
	return nil
}

// take is a fetch with room for so many bytes.
func (s *fetches) take(g *gpu, bytes int) (*fetch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.spare {
		if len(f.host) >= bytes {
			s.spare = slices.Delete(s.spare, i, i+1)
			return f, nil
		}
	}
	f := &fetch{gpu: g}
	var err error
	if f.host, err = g.context.AllocHost(max(bytes, leastFetchBytes)); err != nil {
		return nil, err
	}
	s.all = append(s.all, f)
	f.done, err = g.context.OpenEvent(cuda.EventOptions{})
	return f, err
}

// give makes a fetch ready for its next use.
func (s *fetches) give(f *fetch) {
	f.dst = nil
	s.mu.Lock()
	s.spare = append(s.spare, f)
	s.mu.Unlock()
}

func (s *fetches) close(c *cuda.Context) {
	for _, f := range s.all {
		if f.done != nil {
			_ = f.done.Close()
		}
		_ = c.FreeHost(f.host)
	}
}
