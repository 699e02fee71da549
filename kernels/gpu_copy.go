//go:build linux && cgo && (amd64 || arm64)

package kernels

import "github.com/quire-llm/quire/kernels/cuda"

// ring is pinned memory that Write copies through. It is used chunk after chunk; a chunk is used again when the copies out
// of it are done, for which an event stands.
type ring struct {
	host   []byte // [ringChunks, ringChunkBytes]
	copied [ringChunks]*cuda.Event
	busy   [ringChunks]bool
	chunk  int // in use
	used   int // bytes of it
}

const (
	ringChunks     = 8
	ringChunkBytes = 512 << 10
	ringAlign      = 64
	readBytes      = 1 << 20 // pinned, that Read copies through
)

func (r *ring) open(c *cuda.Context) error {
	var err error
	if r.host, err = c.AllocHost(ringChunks * ringChunkBytes); err != nil {
		return err
	}
	for i := range r.copied {
		if r.copied[i], err = c.OpenEvent(cuda.EventOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func (r *ring) close(c *cuda.Context) {
	for _, e := range r.copied {
		if e != nil {
			_ = e.Close()
		}
	}
	_ = c.FreeHost(r.host)
}

// next is room for up to want bytes, at least one.
func (r *ring) next(s *cuda.Stream, want int) ([]byte, error) {
	if r.used == ringChunkBytes {
		if err := s.Record(r.copied[r.chunk]); err != nil {
			return nil, err
		}
		r.busy[r.chunk] = true
		r.chunk, r.used = (r.chunk+1)%ringChunks, 0
		if r.busy[r.chunk] {
			if err := r.copied[r.chunk].Sync(); err != nil {
				return nil, err
			}
		}
	}
	n := min(want, ringChunkBytes-r.used)
	room := r.host[r.chunk*ringChunkBytes+r.used:][:n]
	r.used = min(r.used+(n+ringAlign-1)/ringAlign*ringAlign, ringChunkBytes)
	return room, nil
}

// check begins the checks of an operation.
func (g *gpu) check(op string) checker { return checker{op: op, act: 2, cuda: true} }

func (g *gpu) Write(dst Buffer, src []byte) error {
	ck := g.check("Write")
	if ck.sameSize(dst.size, len(src)); ck.err != nil {
		return ck.err
	}
	if g.graphs.capturing {
		return errCapturing
	}
	g.attention.overwritten(dst)
	to := cuda.Ptr(address(dst))
	for len(src) > 0 {
		room, err := g.writes.next(g.stream, len(src))
		if err != nil {
			return g.fail(err)
		}
		copy(room, src)
		if err := g.stream.CopyIn(to, room); err != nil {
			return g.fail(err)
		}
		src, to = src[len(room):], to+cuda.Ptr(len(room))
	}
	return nil
}

func (g *gpu) Read(dst []byte, src Buffer) error {
	ck := g.check("Read")
	if ck.sameSize(len(dst), src.size); ck.err != nil {
		return ck.err
	}
	if g.graphs.capturing {
		return errCapturing
	}
	from := cuda.Ptr(address(src))
	for len(dst) > 0 {
		n := min(len(dst), len(g.reads))
		if err := g.stream.CopyOut(g.reads[:n], from); err != nil {
			return g.fail(err)
		}
		if err := g.stream.Sync(); err != nil {
			return g.fail(err)
		}
		copy(dst, g.reads[:n])
		dst, from = dst[n:], from+cuda.Ptr(n)
	}
	return nil
}

func (g *gpu) Copy(dst, src Buffer) error {
	ck := g.check("Copy")
	if ck.sameSize(dst.size, src.size); ck.err != nil {
		return ck.err
	}
	g.attention.overwritten(dst)
	return g.fail(g.stream.Copy(cuda.Ptr(address(dst)), cuda.Ptr(address(src)), dst.size))
}
