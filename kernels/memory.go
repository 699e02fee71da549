package kernels

import (
	"fmt"
	"sync"
	"unsafe"
)

// memory hands out zeroed memory that the garbage collector does not see.
type memory struct {
	mu    sync.Mutex
	sizes map[unsafe.Pointer]int // bytes mapped at each address
}

// alloc returns a zeroed buffer, aligned to at least 64 bytes.
func (m *memory) alloc(bytes int) (Buffer, error) {
	if bytes < 0 || bytes > maxBytes {
		return Buffer{}, fmt.Errorf("kernels: allocating %d bytes: %w", bytes, ErrNoMemory)
	}
	size := max(bytes, 1)
	addr, err := mapMemory(size)
	if err != nil {
		return Buffer{}, fmt.Errorf("kernels: allocating %d bytes: %w (%v)", bytes, ErrNoMemory, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sizes == nil {
		m.sizes = make(map[unsafe.Pointer]int)
	}
	m.sizes[addr] = size
	return Buffer{addr: addr, size: bytes}, nil
}

// taken is the memory that is allocated now.
func (m *memory) taken() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	bytes := 0
	for _, size := range m.sizes {
		bytes += size
	}
	return int64(bytes)
}

// free gives back what alloc returned; other buffers are ignored.
func (m *memory) free(b Buffer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if size, ok := m.sizes[b.addr]; ok {
		delete(m.sizes, b.addr)
		unmapMemory(b.addr, size)
	}
}

// freeAll gives back everything.
func (m *memory) freeAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for addr, size := range m.sizes {
		unmapMemory(addr, size)
	}
	clear(m.sizes)
}

// maxBytes bounds one allocation and keeps sums of sizes far from overflow.
const maxBytes = int(^uint(0)>>1) / 4

// bufferOf is the buffer over a slice's memory.
func bufferOf(b []byte) Buffer {
	return Buffer{addr: unsafe.Pointer(unsafe.SliceData(b)), size: len(b)}
}

// bytes is the buffer's memory.
func (b Buffer) bytes() []byte { return unsafe.Slice((*byte)(b.addr), b.size) }

// float32s is the buffer as numbers; it is aligned.
func (b Buffer) float32s() []float32 { return unsafe.Slice((*float32)(b.addr), b.size/4) }

// int32s is the buffer as numbers; it is aligned.
func (b Buffer) int32s() []int32 { return unsafe.Slice((*int32)(b.addr), b.size/4) }
