package kvcache

import "fmt"

// poison is the key of free blocks in builds with the tag invariants: content that nobody may read.
var poison = Key{0: 0xdb, 15: 0xdb, 31: 0xdb}

// verifyBlocks is the largest pool that verifies itself as a whole after each change in builds with the tag invariants.
const verifyBlocks = 256

// verify panics if the pool is not sound, in builds with the tag invariants.
func (p *Pool) verify() {
	if invariants && p.Blocks() <= verifyBlocks {
		if err := p.Check(); err != nil {
			panic(err)
		}
	}
}

// Check verifies every invariant by a walk over all blocks and names the first that is broken.
func (p *Pool) Check() error {
	for _, check := range []func(*Pool) error{(*Pool).checkStates, (*Pool).checkRing, (*Pool).checkKeys, (*Pool).checkFree} {
		if err := check(p); err != nil {
			return fmt.Errorf("kvcache: checking the pool: %w", err)
		}
	}
	return nil
}

// checkStates: each block is in one state, and the counts are those of a scan.
func (p *Pool) checkStates() error {
	if null := &p.blocks[0]; null.refs != 0 || null.keyed || p.free.has(0) {
		return fmt.Errorf("the null block is in use")
	}
	used, shared, cached, free := 0, 0, 0, 0
	for b := 1; b < len(p.blocks); b++ {
		r := &p.blocks[b]
		switch {
		case r.refs < 0:
			return fmt.Errorf("block %d has %d references", b, r.refs)
		case r.refs > 0 && p.free.has(b):
			return fmt.Errorf("block %d has %d references and is free", b, r.refs)
		case r.refs > 0:
			used++
			shared += count(r.refs > 1)
		case r.keyed && p.free.has(b):
			return fmt.Errorf("block %d has a key and is free", b)
		case r.keyed:
			cached++
		case !p.free.has(b):
			return fmt.Errorf("block %d is lost: no references, no key, not free", b)
		case invariants && r.key != poison:
			return fmt.Errorf("block %d is free and was written to", b)
		default:
			free++
		}
	}
	got := [...]int{p.used, p.shared, p.cached, p.free.len}
	if want := [...]int{used, shared, cached, free}; got != want {
		return fmt.Errorf("used, shared, cached, free: got %v, want %v by a scan", got, want)
	}
	if p.peak < p.used || p.peak < 0 {
		return fmt.Errorf("peak: got %d with %d in use", p.peak, p.used)
	}
	return nil
}

// checkRing: the ring of cached blocks holds as many as there are, and reads the same both ways.
func (p *Pool) checkRing() error {
	n := 0
	for b := BlockID(0); ; {
		next := p.blocks[b].next
		if p.blocks[next].prev != b {
			return fmt.Errorf("cached block %d comes after %d, which it does not know", next, b)
		}
		if b = next; b == 0 {
			break
		}
		if n++; n > p.cached || !p.isCached(b) {
			return fmt.Errorf("block %d is in the ring of cached blocks, which it should not be", b)
		}
	}
	if n != p.cached {
		return fmt.Errorf("the ring holds %d cached blocks, want %d", n, p.cached)
	}
	return nil
}

// checkKeys: each key finds its own block, and the index holds nothing else.
func (p *Pool) checkKeys() error {
	keyed := 0
	for b := range p.blocks {
		if !p.blocks[b].keyed {
			continue
		}
		keyed++
		if found := p.keys.find(p.blocks, p.blocks[b].key); found != BlockID(b) {
			return fmt.Errorf("the key of block %d finds block %d", b, found)
		}
	}
	indexed := 0
	for _, b := range p.keys.heads {
		for ; b != 0; b = p.blocks[b].chain {
			if indexed++; indexed > keyed {
				return fmt.Errorf("the key index holds more than %d keyed blocks", keyed)
			}
		}
	}
	if indexed != keyed {
		return fmt.Errorf("the key index holds %d blocks, want %d", indexed, keyed)
	}
	return nil
}

// checkFree: the upper levels of the set of free blocks say what the lower ones hold.
func (p *Pool) checkFree() error {
	for level := 1; level < len(p.free.levels); level++ {
		for i, word := range p.free.levels[level-1] {
			if has := p.free.levels[level][i/64]>>(i%64)&1 != 0; has != (word != 0) {
				return fmt.Errorf("free set: level %d is wrong about word %d below", level, i)
			}
		}
	}
	return nil
}
