package host

import (
	"fmt"
	"sync"

	"github.com/quire-llm/quire/kvcache"
)

// memory is cut into blocks. It comes in pieces, which stay until it is closed: a device that page-locks them is slow at that.
// Its methods may be called from any goroutine.
type memory struct {
	from       kvcache.Memory // nil: the Go heap
	warn       func(line string)
	blockBytes int
	most       int // blocks; more are made only where all of them are in use

	making sync.Mutex // held while a piece is made, which takes long

	mu     sync.Mutex
	made   int      // guarded by mu: blocks
	spare  [][]byte // guarded by mu: blocks that nobody uses
	pieces [][]byte // guarded by mu: of from
}

// pieceBytes is about how much memory is taken at once.
const pieceBytes = 32 << 20

// full says whether a block that is taken now would be one too many.
func (m *memory) full() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.spare) == 0 && m.made >= m.most
}

// take is memory of a block, with anything in it.
func (m *memory) take() []byte {
	if b := m.pop(); b != nil {
		return b
	}
	m.making.Lock()
	defer m.making.Unlock()
	if b := m.pop(); b != nil { // of who was faster
		return b
	}
	m.mu.Lock()
	blocks := max(min(m.most-m.made, pieceBytes/m.blockBytes), 1)
	m.mu.Unlock()
	piece, locked := m.piece(blocks * m.blockBytes)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made += blocks
	if locked {
		m.pieces = append(m.pieces, piece)
	}
	for at := m.blockBytes; at < len(piece); at += m.blockBytes {
		m.spare = append(m.spare, piece[at:at+m.blockBytes:at+m.blockBytes])
	}
	return piece[:m.blockBytes:m.blockBytes]
}

func (m *memory) pop() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := len(m.spare) - 1
	if last < 0 {
		return nil
	}
	b := m.spare[last]
	m.spare = m.spare[:last]
	return b
}

// piece makes a piece and says whether it is the device's. Where that has no more to give, ordinary memory does: it is slower.
// It is called with making held.
func (m *memory) piece(bytes int) ([]byte, bool) {
	if m.from == nil {
		return make([]byte, bytes), false
	}
	piece, err := m.from.AllocHost(bytes)
	if err == nil {
		return piece, true
	}
	if m.warn != nil {
		m.warn(fmt.Sprintf("host: blocks are kept in memory that the device reaches slowly: %v", err))
		m.warn = nil
	}
	return make([]byte, bytes), false
}

// give takes back what take returned.
func (m *memory) give(b []byte) {
	m.mu.Lock()
	m.spare = append(m.spare, b)
	m.mu.Unlock()
}

// close gives everything back; nobody uses a block any more.
func (m *memory) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, piece := range m.pieces {
		m.from.FreeHost(piece)
	}
	m.spare, m.pieces = nil, nil
}
