package kvcache

import (
	"fmt"
	"math"
)

// Pool owns the ids, reference counts, order of eviction, placement and capacity of an engine's blocks. A block is in one
// of three states:
//
//	         Alloc                 Unref, the last; it has a key
//	free ------------> in use ------------------------------------> cached
//	  ^                 |   ^                                          |
//	  |   Unref, last   |   |                  Ref                     |
//	  +-----------------+   +------------------------------------------+
//	  +----------------------------------------------------------------+
//	                     Alloc evicts the least recently used
//
// Every call takes constant time for a block, and none allocates but NewPool, a growing Resize and a dst that is too
// small. Free blocks are handed out lowest id first, so that what is in use stays at the bottom and the top can be given
// back. Using a block that is not in use (a double free is one case) is a broken invariant and panics in every build;
// built with the tag invariants, the pool also verifies itself after each change.
//
// A pool belongs to one manager and is not safe for concurrent use.
type Pool struct {
	blockTokens int
	blocks      []block // [capacity+1]; 0 is the null block, and the ring of cached blocks starts and ends there
	free        idSet
	keys        keyIndex
	cached      int
	used        int
	shared      int
	peak        int
	evictions   int64
	evicting    func(BlockID, Key)
}

// block is the pool's record of one block.
type block struct {
	refs       int32
	prev, next BlockID // in the ring of cached blocks, least recently used first
	chain      BlockID // next block in the same bucket of the key index
	keyed      bool
	key        Key
}

// NewPool makes a pool of blocks free blocks, the null block not counted, of blockTokens tokens each.
func NewPool(blocks, blockTokens int) (*Pool, error) {
	if blockTokens < 1 {
		return nil, fmt.Errorf("kvcache: making a pool: got %d tokens in a block, want at least 1", blockTokens)
	}
	p := &Pool{blockTokens: blockTokens, blocks: make([]block, 1)}
	if _, err := p.Resize(blocks); err != nil {
		return nil, err
	}
	return p, nil
}

// Blocks is the capacity, without the null block.
func (p *Pool) Blocks() int { return len(p.blocks) - 1 }

// BlockTokens is the number of tokens in a block.
func (p *Pool) BlockTokens() int { return p.blockTokens }

// Free is the number of blocks that hold nothing.
func (p *Pool) Free() int { return p.free.len }

// Cached is the number of blocks that nothing refers to and that keep their content until they are evicted.
func (p *Pool) Cached() int { return p.cached }

// Used is the number of blocks that something refers to.
func (p *Pool) Used() int { return p.used }

// Available is the number of blocks that Alloc could hand out now: free and cached.
func (p *Pool) Available() int { return p.free.len + p.cached }

// Alloc appends n blocks to dst, each with one reference and no key: free ones, lowest id first, then cached ones, least
// recently used first. It hands out all n or, with ErrNoSpace, none.
func (p *Pool) Alloc(dst []BlockID, n int) ([]BlockID, error) {
	if n > p.Available() {
		return dst, ErrNoSpace
	}
	for range n {
		if p.free.len == 0 {
			p.evict(p.blocks[0].next)
		}
		dst = append(dst, p.take(BlockID(p.free.lowest())))
	}
	return dst, nil
}

// AllocWithin hands out one block with an id of at most limit, like Alloc; it is for moving blocks down before a shrink.
// Unlike the other calls it may walk the cached blocks.
func (p *Pool) AllocWithin(limit int) (BlockID, error) {
	if p.free.len == 0 || p.free.lowest() > limit {
		b := p.blocks[0].next
		for b != 0 && int(b) > limit {
			b = p.blocks[b].next
		}
		if b == 0 {
			return 0, ErrNoSpace
		}
		p.evict(b)
	}
	return p.take(BlockID(p.free.lowest())), nil
}

// take makes a free block one in use.
func (p *Pool) take(b BlockID) BlockID {
	p.free.remove(int(b))
	p.blocks[b].key = Key{}
	p.setRefs(b, 1)
	p.verify()
	return b
}

// evict makes a cached block a free one.
func (p *Pool) evict(b BlockID) {
	p.evictions++
	if p.evicting != nil {
		p.evicting(b, p.blocks[b].key)
	}
	p.Forget(b)
}

// Evicting sets the function that is told of every eviction, before the block is handed out again. It must not call the
// pool's methods that change anything.
func (p *Pool) Evicting(f func(BlockID, Key)) { p.evicting = f }

// Ref adds a reference to a block that is in use or cached.
func (p *Pool) Ref(b BlockID) {
	switch {
	case p.InUse(b):
	case p.isCached(b):
		p.unlink(b)
	default:
		panic(fmt.Sprintf("kvcache: block %d gets a reference but is free", b))
	}
	p.setRefs(b, p.blocks[b].refs+1)
	p.verify()
}

// Unref takes away a reference. With the last one gone, a block with a key becomes the most recently used of the cached
// ones, and one without becomes free. Sequences let go of their last block first, so that a prefix outlives what follows.
func (p *Pool) Unref(b BlockID) {
	p.mustUse(b, "loses a reference")
	p.setRefs(b, p.blocks[b].refs-1)
	switch r := &p.blocks[b]; {
	case r.refs > 0:
	case r.keyed:
		p.link(b)
	default:
		p.release(b)
	}
	p.verify()
}

// InUse says whether something refers to the block.
func (p *Pool) InUse(b BlockID) bool { return p.Refs(b) > 0 }

// Refs is the number of references to a block; 0 for an id that is not one.
func (p *Pool) Refs(b BlockID) int {
	if b <= 0 || int(b) >= len(p.blocks) {
		return 0
	}
	return int(p.blocks[b].refs)
}

func (p *Pool) mustUse(b BlockID, what string) {
	if !p.InUse(b) {
		panic(fmt.Sprintf("kvcache: block %d %s but is not in use", b, what))
	}
}

// setRefs sets a block's references and keeps the counts that follow from them.
func (p *Pool) setRefs(b BlockID, refs int32) {
	r := &p.blocks[b]
	p.used += count(refs > 0) - count(r.refs > 0)
	p.shared += count(refs > 1) - count(r.refs > 1)
	p.peak = max(p.peak, p.used)
	r.refs = refs
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// release puts a block that has neither references nor a key among the free ones.
func (p *Pool) release(b BlockID) {
	if invariants {
		p.blocks[b].key = poison
	}
	p.free.add(int(b))
}

func (p *Pool) isCached(b BlockID) bool {
	return b > 0 && int(b) < len(p.blocks) && p.blocks[b].refs == 0 && p.blocks[b].keyed
}

// link makes a block the most recently used of the cached ones.
func (p *Pool) link(b BlockID) {
	last := p.blocks[0].prev
	p.blocks[b].prev, p.blocks[b].next = last, 0
	p.blocks[last].next, p.blocks[0].prev = b, b
	p.cached++
}

// unlink takes a block out of the cached ones.
func (p *Pool) unlink(b BlockID) {
	r := &p.blocks[b]
	p.blocks[r.prev].next, p.blocks[r.next].prev = r.next, r.prev
	r.prev, r.next = 0, 0
	p.cached--
}

// Resize changes the capacity and returns the one reached. A larger one is always reached. A smaller one gives up free
// and cached blocks from the top, down to the highest block in use: UsedAbove says which blocks are in the way,
// AllocWithin and Replace move them, and Resize is called again.
func (p *Pool) Resize(blocks int) (int, error) {
	if blocks < 1 || blocks >= math.MaxInt32 {
		return p.Blocks(), fmt.Errorf("kvcache: resizing a pool: got %d blocks, want 1 to %d", blocks, math.MaxInt32-1)
	}
	switch {
	case blocks > p.Blocks():
		p.grow(blocks)
	case blocks < p.Blocks():
		p.shrink(blocks)
	}
	p.verify()
	return p.Blocks(), nil
}

func (p *Pool) grow(blocks int) {
	old := len(p.blocks)
	p.blocks = append(p.blocks, make([]block, blocks+1-old)...)
	p.keys.grow(p.blocks)
	free := newIDSet(len(p.blocks))
	for b := range p.blocks {
		if b >= old || p.free.len > 0 && p.free.has(b) {
			free.add(b)
		}
		if b >= old && invariants {
			p.blocks[b].key = poison
		}
	}
	p.free = free
}

func (p *Pool) shrink(blocks int) {
	for last := p.Blocks(); last > blocks && !p.InUse(BlockID(last)); last-- {
		if p.isCached(BlockID(last)) {
			p.evict(BlockID(last))
		}
		p.free.remove(last)
		p.blocks = p.blocks[:last]
	}
}

// UsedAbove appends the blocks in use with ids above limit. It walks them.
func (p *Pool) UsedAbove(dst []BlockID, limit int) []BlockID {
	for b := limit + 1; b < len(p.blocks); b++ {
		if p.blocks[b].refs > 0 {
			dst = append(dst, BlockID(b))
		}
	}
	return dst
}

// Replace lets block to, just allocated, take over from's references and key, and frees from.
func (p *Pool) Replace(from, to BlockID) {
	p.mustUse(from, "is replaced")
	p.mustUse(to, "replaces another")
	if p.blocks[to].refs != 1 || p.blocks[to].keyed {
		panic(fmt.Sprintf("kvcache: block %d replaces another but has content of its own", to))
	}
	refs, key, keyed := p.blocks[from].refs, p.blocks[from].key, p.blocks[from].keyed
	p.Forget(from)
	p.setRefs(from, 0)
	p.release(from)
	p.setRefs(to, refs)
	if keyed {
		p.Publish(to, key)
	}
	p.verify()
}

// CountUsed counts the blocks that something refers to by looking at every one.
func (p *Pool) CountUsed() int {
	used := 0
	for b := range p.blocks {
		used += count(p.blocks[b].refs > 0)
	}
	return used
}

// CountShared counts the blocks with more than one reference by looking at every one.
func (p *Pool) CountShared() int {
	shared := 0
	for b := range p.blocks {
		shared += count(p.blocks[b].refs > 1)
	}
	return shared
}

// Stats are the counts of blocks; a manager adds those of sequences.
func (p *Pool) Stats() Stats {
	return Stats{
		Blocks:       p.Blocks(),
		BlocksUsed:   p.used,
		BlocksCached: p.cached,
		BlocksPeak:   p.peak,
		SharedBlocks: p.shared,
		Evictions:    p.evictions,
	}
}
