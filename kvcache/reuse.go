package kvcache

import "fmt"

// Eviction says which of the blocks that nobody uses is given up first.
type Eviction uint8

// The kinds of eviction. In both a block goes before the one that it follows.
const (
	EvictCostAge Eviction = iota // the one that was cheap to compute and not used for long
	EvictLRU                     // the least recently used
)

// Reuse keeps what another strategy shares when the sequences are gone: a prompt is found again minutes later, and what was
// generated is found like what was asked. Blocks are kept until their memory is needed or the budget is used up.
type Reuse struct {
	// Over is the strategy that says what is shared: Cascade{} (the default) or Chunked{}.
	Over Strategy
	// Bytes is the most memory of blocks that nobody uses. 0: as much as the cache has.
	Bytes int64
	// Evict is what goes first.
	Evict Eviction
	// Tier holds blocks outside of the cache's memory. Nil: what is evicted is lost.
	Tier Tier
}

// Tier is a place outside of the pool where blocks are kept, as a plain value.
type Tier interface {
	// Open opens it for the blocks of one model.
	Open(Geometry) (Store, error)
}

// Store is an open tier. The manager asks what it holds; the engine carries the bytes, on other goroutines.
type Store interface {
	// Has says whether Load would find a block. It must be quick: it is asked for each block of a prompt.
	Has(Key) bool
	// Load reads a block's bytes into dst. It fails where the block is not there any more, is damaged, or was saved with other
	// token ids: a key alone proves nothing.
	Load(k Key, tokens []int32, dst []byte) error
	// Save keeps a block's bytes and the ids of its tokens. Where it fails, the block is lost and nothing else.
	Save(k Key, tokens []int32, src []byte) error
	// Close ends it; what was saved stays. Twice is fine.
	Close() error
}

// Resident is an optional ability of a Store that keeps blocks in memory: the device copies them from and to the very place where
// they lie, and not by way of a buffer.
type Resident interface {
	// UseMemory says where the memory comes from. It is called once, before everything else; Close gives all of it back.
	UseMemory(Memory)
	// LoadBy is Load with the block's bytes handed to read, which must not change them and is done with them when it returns.
	// It returns read's error.
	LoadBy(k Key, tokens []int32, read func(src []byte) error) error
	// SaveBy is Save with memory for the block's bytes handed to fill, which fills it. Where fill fails, whose error it then
	// returns, nothing is kept. Of a block that is there already nothing need be filled.
	SaveBy(k Key, tokens []int32, fill func(dst []byte) error) error
}

// Memory is host memory that a device reaches directly. Any goroutine may call it.
type Memory interface {
	AllocHost(bytes int) ([]byte, error)
	FreeHost(host []byte) // what AllocHost returned, whole
}

// Tiered is an optional ability of a Manager: its loads and stores go to a store. The engine closes it.
type Tiered interface {
	Store() Store // nil: there is none
}

// Name is "reuse" over Cascade, and "chunked-reuse" over Chunked.
func (r Reuse) Name() string {
	if r.Over == nil || r.Over.Name() == (Cascade{}).Name() {
		return "reuse"
	}
	return r.Over.Name() + "-reuse"
}

// NewManager makes a manager over a pool that nothing else uses. It fails if Over shares nothing that could be kept.
func (r Reuse) NewManager(p *Pool, g Geometry) (Manager, error) {
	over := r.Over
	if over == nil {
		over = Cascade{}
	}
	sh, ok := over.(sharer)
	switch {
	case !ok:
		return nil, fmt.Errorf("kvcache: reuse over strategy %q: it shares no blocks that could be kept", over.Name())
	case r.Bytes < 0:
		return nil, fmt.Errorf("kvcache: reuse: the budget is %d bytes, want 0 or more", r.Bytes)
	case r.Evict > EvictLRU:
		return nil, fmt.Errorf("kvcache: reuse: no eviction %d", r.Evict)
	}
	pol, err := sh.policy(g)
	if err != nil {
		return nil, err
	}
	pol.name = r.Name()
	pol.keep = &keeping{lru: r.Evict == EvictLRU}
	if r.Bytes > 0 {
		block := int64(max(g.BytesPerToken, 1)) * int64(g.BlockTokens)
		if pol.keep.most = int(r.Bytes / block); pol.keep.most == 0 {
			return nil, fmt.Errorf("kvcache: reuse: a budget of %d bytes holds no block of %d", r.Bytes, block)
		}
	}
	m, err := newSharing(p, g, pol)
	if err != nil || r.Tier == nil {
		return m, err
	}
	if pol.keep.tier, err = r.Tier.Open(g); err != nil {
		return nil, fmt.Errorf("kvcache: reuse: opening the tier: %w", err)
	}
	return m, nil
}

// Store is the tier's.
func (m *sharing) Store() Store {
	if m.keep == nil {
		return nil
	}
	return m.keep.tier
}
