//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/quire-llm/quire/kernels/cuda"
)

// gpuMemory hands out memory of a GPU, to any goroutine.
type gpuMemory struct {
	exact bool // no slabs: each buffer is an allocation

	mu      sync.Mutex
	context *cuda.Context // nil before open and after close
	zeroing *cuda.Stream
	sizes   map[cuda.Ptr]int   // of what was allocated alone
	slabs   []*slab            // of uploads
	placed  map[cuda.Ptr]*slab // where an upload lies
	hosts   map[*byte][]byte   // page-locked, by its first byte

	// frees is how often memory was given back: what was remembered of the contents of an address before is worthless.
	frees atomic.Uint64
}

// slab is an allocation that several uploads share. Tensors are many, and an allocation takes whole pages of 2 MiB.
type slab struct {
	base        cuda.Ptr
	bytes, used int
	live        int // uploads that were not freed
}

const (
	slabBytes = 64 << 20
	gpuAlign  = 256
)

// open makes the memory usable, on a thread that uses the context.
func (m *gpuMemory) open(c *cuda.Context) error {
	s, err := c.OpenStream(cuda.StreamOptions{Name: "memory", Launches: 1})
	if err != nil {
		return err
	}
	m.context, m.zeroing = c, s
	m.sizes, m.placed, m.hosts = map[cuda.Ptr]int{}, map[cuda.Ptr]*slab{}, map[*byte][]byte{}
	return nil
}

// use runs fn, one at a time, on a thread that uses the context.
func (m *gpuMemory) use(fn func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.context == nil {
		return ErrClosed
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := m.context.Use(); err != nil {
		return err
	}
	return fn()
}

// alloc returns zeroed memory.
func (m *gpuMemory) alloc(bytes int) (b Buffer, err error) {
	err = m.use(func() error {
		p, err := m.take(bytes)
		if err != nil {
			return err
		}
		if err := errors.Join(m.zeroing.Fill(p, max(bytes, 1), 0), m.zeroing.Sync()); err != nil {
			m.give(p)
			return err
		}
		b = deviceBuffer(p, bytes)
		return nil
	})
	return b, memoryError(err, "allocating", bytes)
}

// take returns memory with anything in it. The caller is in use.
func (m *gpuMemory) take(bytes int) (cuda.Ptr, error) {
	if bytes < 0 || bytes > maxBytes {
		return 0, ErrNoMemory
	}
	p, err := m.context.Alloc(max(bytes, 1))
	if err != nil {
		return 0, err
	}
	m.sizes[p] = bytes
	return p, nil
}

// give is the reverse of take. After an error the device is lost, and the memory with it.
func (m *gpuMemory) give(p cuda.Ptr) {
	delete(m.sizes, p)
	m.frees.Add(1)
	_ = m.context.Free(p)
}

// place returns memory for an upload. The caller is in use.
func (m *gpuMemory) place(bytes int) (cuda.Ptr, error) {
	size := (max(bytes, 1) + gpuAlign - 1) / gpuAlign * gpuAlign
	s := m.slabWith(size)
	if s == nil {
		s = &slab{bytes: max(size, slabBytes)}
		if m.exact {
			s.bytes = max(bytes, 1)
		} else if size > slabBytes/8 {
			s.bytes = size
		}
		var err error
		if s.base, err = m.context.Alloc(s.bytes); err != nil {
			return 0, err
		}
		m.slabs = append(m.slabs, s)
	}
	p := s.base + cuda.Ptr(s.used)
	s.used += size
	s.live++
	m.placed[p] = s
	return p, nil
}

// slabWith is a slab with room left, nil if there is none.
func (m *gpuMemory) slabWith(size int) *slab {
	for _, s := range m.slabs {
		if s.bytes-s.used >= size {
			return s
		}
	}
	return nil
}

// free gives back what alloc or place returned, whole; other buffers are ignored.
func (m *gpuMemory) free(b Buffer) {
	p := cuda.Ptr(address(b))
	_ = m.use(func() error {
		if _, ok := m.sizes[p]; ok {
			m.give(p)
			return nil
		}
		s := m.placed[p]
		if s == nil {
			return nil
		}
		delete(m.placed, p)
		m.frees.Add(1)
		if s.live--; s.live == 0 {
			m.slabs = slices.DeleteFunc(m.slabs, func(other *slab) bool { return other == s })
			return m.context.Free(s.base)
		}
		return nil
	})
}

// close frees everything, on a thread that uses the context.
func (m *gpuMemory) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.context == nil {
		return
	}
	for p := range m.sizes {
		_ = m.context.Free(p)
	}
	for _, s := range m.slabs {
		_ = m.context.Free(s.base)
	}
	for _, host := range m.hosts {
		_ = m.context.FreeHost(host)
	}
	_ = m.zeroing.Close()
	m.context, m.sizes, m.slabs, m.placed, m.hosts = nil, nil, nil, nil, nil
}

// memoryError is the error of an allocation, for any goroutine.
func memoryError(err error, doing string, bytes int) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cuda.ErrLost):
		err = fmt.Errorf("%w: %w", ErrDevice, err)
	case errors.Is(err, cuda.ErrOutOfMemory):
		err = fmt.Errorf("%w: %w", ErrNoMemory, err)
	}
	return fmt.Errorf("kernels: %s %d bytes: %w", doing, bytes, err)
}

// taken is what is allocated now.
func (m *gpuMemory) taken() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	bytes := 0
	for _, size := range m.sizes {
		bytes += size
	}
	for _, s := range m.slabs {
		bytes += s.bytes
	}
	return int64(bytes)
}

func (g *gpu) takenBytes() int64 { return g.memory.taken() }

func (g *gpu) alloc(bytes int) (Buffer, error) { return g.memory.alloc(bytes) }

func (g *gpu) free(b Buffer) {
	if !b.IsZero() {
		g.memory.free(b)
	}
}

// gpuScratch is memory that grows to the largest size that was asked for.
type gpuScratch struct {
	at    cuda.Ptr
	bytes int
}

// room is memory of a kind with at least so many bytes and anything in them, 0 for none. Growing waits for the device:
// once it has seen the largest shapes this costs a comparison.
func (g *gpu) room(kind roomKind, bytes int) (uint64, error) {
	s := &g.rooms[kind]
	if bytes <= s.bytes && (bytes == s.bytes || !g.memory.exact) {
		return uint64(s.at), nil
	}
	if g.graphs.capturing {
		return 0, errCapturing
	}
	if err := g.stream.Sync(); err != nil {
		return 0, g.fail(err)
	}
	size := bytes
	if !g.memory.exact {
		size = max(size, s.bytes+s.bytes/2)
	}
	err := g.memory.use(func() error {
		if s.bytes > 0 {
			g.memory.give(s.at)
		}
		*s = gpuScratch{}
		p, err := g.memory.take(size)
		if err == nil {
			*s = gpuScratch{at: p, bytes: size}
		}
		return err
	})
	if err != nil {
		return 0, g.fail(err)
	}
	return uint64(s.at), nil
}

// roomKind says what scratch memory is for.
type roomKind int

const (
	roomNormed roomKind = iota // inputs of a product, normalized
	roomGated                  // likewise, gated
	roomRouter                 // from here on of a mixture of experts
	roomChosen
	roomWeights
	roomSource
	roomPlace
	roomTiles
	roomTileCount
	roomGateUp
	roomDown
	roomCounts // from here on of attention
	roomDecodeTiles
	roomPrefillTiles
	roomMerges
	roomPartList
	roomPartValues
	roomPartWeights
	roomRowParts
	roomRowFirst
	roomSharedList
	roomDone
	roomChunks // from here on of sampling
	roomEdited
	roomBinWeights
	roomBinCounts

	roomKinds
)

// rooms gets several rooms until one fails.
type rooms struct {
	gpu *gpu
	err error
}

// get is [gpu.room].
func (r *rooms) get(kind roomKind, bytes int) uint64 {
	if r.err != nil {
		return 0
	}
	var at uint64
	at, r.err = r.gpu.room(kind, bytes)
	return at
}
