// Package host keeps cache blocks in the machine's own memory when their device needs its memory for others: a [kvcache.Tier]
// for [kvcache.Reuse]. Under it there may be another one, such as a disk: what is saved goes to both, and what only that one
// holds is brought up when it is asked for.
package host

import (
	"container/list"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/quire-llm/quire/kvcache"
)

// Tier is memory for blocks, as a plain value.
type Tier struct {
	// Bytes is the most memory of blocks. The least recently used go first.
	Bytes int64
	// Under is what holds them too, and for longer. Nil: nothing.
	Under kvcache.Tier
}

// Open reserves nothing: memory is taken as blocks come.
func (t Tier) Open(g kvcache.Geometry) (kvcache.Store, error) {
	block := int64(g.BlockTokens) * int64(g.BytesPerToken)
	if block < 1 || t.Bytes < block {
		return nil, fmt.Errorf("host: a bound of %d bytes holds no block of %d", t.Bytes, block)
	}
	s := &Store{blockBytes: int(block), most: int(t.Bytes / block), blocks: make(map[kvcache.Key]*list.Element)}
	if t.Under != nil {
		under, err := t.Under.Open(g)
		if err != nil {
			return nil, fmt.Errorf("host: opening what is under it: %w", err)
		}
		s.under = under
	}
	return s, nil
}

// Store is open memory. Its methods may be called from any goroutine.
type Store struct {
	under      kvcache.Store // nil: none
	blockBytes int
	most       int // blocks

	mu     sync.Mutex
	blocks map[kvcache.Key]*list.Element // guarded by mu: of order
	order  list.List                     // guarded by mu: of *block, least recently used first
	spare  [][]byte                      // guarded by mu: memory of blocks that are gone
	closed bool                          // guarded by mu
}

// block is a block's bytes. They are written once, before others can find it.
type block struct {
	key     kvcache.Key
	tokens  []int32
	data    []byte
	readers int  // guarded by Store.mu
	gone    bool // guarded by Store.mu: the last reader gives its memory back
}

// errGone is a block that is not there any more.
var errGone = errors.New("host: no such block")

// Warn gives out the warnings of what is under it.
func (s *Store) Warn(log func(line string)) {
	if w, ok := s.under.(interface{ Warn(func(string)) }); ok {
		w.Warn(log)
	}
}

// Blocks is the number of blocks in memory.
func (s *Store) Blocks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.order.Len()
}

// Has says whether a block is in memory, or under it.
func (s *Store) Has(k kvcache.Key) bool {
	s.mu.Lock()
	held := s.blocks[k] != nil
	s.mu.Unlock()
	return held || s.under != nil && s.under.Has(k)
}

// Load copies a block's bytes, and brings up what was only under it.
func (s *Store) Load(k kvcache.Key, tokens []int32, dst []byte) error {
	if len(dst) != s.blockBytes {
		return fmt.Errorf("host: reading a block of %d bytes into %d", s.blockBytes, len(dst))
	}
	if b := s.read(k); b != nil {
		same := slices.Equal(b.tokens, tokens)
		if same {
			copy(dst, b.data)
		}
		s.done(b)
		if !same {
			return errors.New("host: the block holds other tokens under the same key")
		}
		return nil
	}
	if s.under == nil {
		return errGone
	}
	if err := s.under.Load(k, tokens, dst); err != nil {
		return err
	}
	s.keep(k, tokens, dst)
	return nil
}

// Save keeps a copy in memory. What is under it gets one too; where that fails, the block is in memory all the same.
func (s *Store) Save(k kvcache.Key, tokens []int32, src []byte) error {
	if len(src) != s.blockBytes {
		return fmt.Errorf("host: keeping a block of %d bytes, want %d", len(src), s.blockBytes)
	}
	s.keep(k, tokens, src)
	if s.under != nil && !s.under.Has(k) {
		_ = s.under.Save(k, tokens, src) // it warns by itself
	}
	return nil
}

// Close lets go of the memory, and closes what is under it.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	clear(s.blocks)
	s.order.Init()
	s.spare = nil
	s.mu.Unlock()
	if s.under == nil {
		return nil
	}
	return s.under.Close()
}

// read finds a block, which stays as it is until done.
func (s *Store) read(k kvcache.Key) *block {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.blocks[k]
	if at == nil {
		return nil
	}
	s.order.MoveToBack(at)
	b := at.Value.(*block)
	b.readers++
	return b
}

func (s *Store) done(b *block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.readers--; b.readers == 0 && b.gone {
		s.giveBack(b.data)
	}
}

// keep copies a block into memory, where there is none with its key.
func (s *Store) keep(k kvcache.Key, tokens []int32, src []byte) {
	data, wanted := s.memory(k)
	if !wanted {
		return
	}
	if data == nil {
		data = make([]byte, s.blockBytes)
	}
	copy(data, src) // without the lock: others go on
	b := &block{key: k, tokens: slices.Clone(tokens), data: data}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.blocks[k] != nil { // somebody was faster
		s.giveBack(data)
		return
	}
	for s.order.Len() >= s.most {
		s.evict()
	}
	s.blocks[k] = s.order.PushBack(b)
}

// memory takes room for a block, nil where it must be made. It says whether the block is wanted at all.
func (s *Store) memory(k kvcache.Key) (data []byte, wanted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.blocks[k]; at != nil || s.closed {
		if at != nil {
			s.order.MoveToBack(at)
		}
		return nil, false
	}
	if len(s.spare) == 0 && s.order.Len() >= s.most {
		s.evict()
	}
	if last := len(s.spare) - 1; last >= 0 {
		data, s.spare = s.spare[last], s.spare[:last]
	}
	return data, true
}

// evict forgets the block that was not used for longest. It is called with mu held.
func (s *Store) evict() {
	oldest := s.order.Front()
	b := s.order.Remove(oldest).(*block)
	delete(s.blocks, b.key)
	if b.gone = true; b.readers == 0 {
		s.giveBack(b.data)
	}
}

// giveBack is called with mu held. What exceeds the bound is the collector's.
func (s *Store) giveBack(data []byte) {
	if !s.closed && s.order.Len()+len(s.spare) < s.most {
		s.spare = append(s.spare, data)
	}
}
