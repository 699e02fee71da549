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
	// Bytes is the most memory of blocks. The least recently used go first. What is on its way in or out may come on top.
	Bytes int64
	// Under is what holds them too, and for longer. Nil: nothing.
	Under kvcache.Tier
}

// Open reserves nothing: memory is taken as blocks come, in pieces of some MiB.
func (t Tier) Open(g kvcache.Geometry) (kvcache.Store, error) {
	block := int64(g.BlockTokens) * int64(g.BytesPerToken)
	if block < 1 || t.Bytes < block {
		return nil, fmt.Errorf("host: a bound of %d bytes holds no block of %d", t.Bytes, block)
	}
	s := &Store{blockBytes: int(block), most: int(t.Bytes / block), blocks: make(map[kvcache.Key]*list.Element)}
	s.memory.blockBytes, s.memory.most = s.blockBytes, s.most
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
	memory     memory

	mu     sync.Mutex
	blocks map[kvcache.Key]*list.Element // guarded by mu: of order
	order  list.List                     // guarded by mu: of *block, least recently used first
	closed bool                          // guarded by mu
	users  sync.WaitGroup                // of memory; Add with mu held and not closed
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

// errClosed is a save that comes late.
var errClosed = errors.New("host: closed")

// UseMemory is for a device's own.
func (s *Store) UseMemory(m kvcache.Memory) { s.memory.from = m }

// Warn gives out the warnings of what is under it, and says if there is no memory that the device reaches directly.
func (s *Store) Warn(log func(line string)) {
	s.memory.warn = log
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
	return s.LoadBy(k, tokens, func(src []byte) error {
		copy(dst, src)
		return nil
	})
}

// LoadBy lets a block be read where it lies, after it was brought up if it was only under this store.
func (s *Store) LoadBy(k kvcache.Key, tokens []int32, read func(src []byte) error) error {
	b := s.read(k)
	if b == nil {
		if s.under == nil {
			return errGone
		}
		var err error
		b, err = s.add(k, tokens, func(dst []byte) error { return s.under.Load(k, tokens, dst) })
		if err != nil {
			return err
		}
	}
	defer s.done(b)
	if !slices.Equal(b.tokens, tokens) {
		return errors.New("host: the block holds other tokens under the same key")
	}
	return read(b.data)
}

// Save keeps a copy in memory. What is under it gets one too; where that fails, the block is in memory all the same.
func (s *Store) Save(k kvcache.Key, tokens []int32, src []byte) error {
	if len(src) != s.blockBytes {
		return fmt.Errorf("host: keeping a block of %d bytes, want %d", len(src), s.blockBytes)
	}
	return s.SaveBy(k, tokens, func(dst []byte) error {
		copy(dst, src)
		return nil
	})
}

// SaveBy lets a block be written where it is to lie.
func (s *Store) SaveBy(k kvcache.Key, tokens []int32, fill func(dst []byte) error) error {
	b := s.read(k)
	if b == nil {
		var err error
		if b, err = s.add(k, tokens, fill); err != nil {
			return err
		}
	}
	defer s.done(b)
	if s.under != nil && !s.under.Has(k) {
		_ = s.under.Save(k, b.tokens, b.data) // it warns by itself
	}
	return nil
}

// Close waits for who reads or writes, gives the memory back, and closes what is under it.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	clear(s.blocks)
	s.order.Init()
	s.mu.Unlock()
	s.users.Wait()
	s.memory.close()
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
	s.users.Add(1)
	return b
}

// done lets go of a block that read or add returned.
func (s *Store) done(b *block) {
	s.mu.Lock()
	if b.readers--; b.readers == 0 && b.gone {
		s.memory.give(b.data)
	}
	s.mu.Unlock()
	s.users.Done()
}

// add fills memory with a block and keeps it, and returns it as read does. Where somebody was faster, and after Close, the block
// is only the caller's.
func (s *Store) add(k kvcache.Key, tokens []int32, fill func(dst []byte) error) (*block, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, errClosed
	}
	s.users.Add(1)
	for s.order.Len() > 0 && s.memory.full() {
		s.evict()
	}
	s.mu.Unlock()
	b := &block{key: k, tokens: slices.Clone(tokens), data: s.memory.take(), readers: 1, gone: true}
	if err := fill(b.data); err != nil { // without the lock: others go on
		s.done(b)
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && s.blocks[k] == nil {
		for s.order.Len() >= s.most {
			s.evict()
		}
		b.gone = false
		s.blocks[k] = s.order.PushBack(b)
	}
	return b, nil
}

// evict forgets the block that was not used for longest. It is called with mu held.
func (s *Store) evict() {
	oldest := s.order.Front()
	b := s.order.Remove(oldest).(*block)
	delete(s.blocks, b.key)
	if b.gone = true; b.readers == 0 {
		s.memory.give(b.data)
	}
}
