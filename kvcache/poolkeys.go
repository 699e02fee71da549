package kvcache

import (
	"encoding/binary"
	"fmt"
)

// Publish gives a block in use a key, under which Lookup finds it until it is forgotten or evicted. It does nothing and
// returns false where another block has that key already. A block has one key at a time.
func (p *Pool) Publish(b BlockID, k Key) bool {
	p.mustUse(b, "is published")
	if held := p.keys.find(p.blocks, k); held != 0 {
		return held == b
	}
	if p.blocks[b].keyed {
		panic(fmt.Sprintf("kvcache: block %d is published under a second key", b))
	}
	p.keys.insert(p.blocks, b, k)
	p.verify()
	return true
}

// Lookup finds the block that was published under a key, in use or cached. The caller compares what the key cannot prove
// (token ids) and takes a reference.
func (p *Pool) Lookup(k Key) (BlockID, bool) {
	b := p.keys.find(p.blocks, k)
	return b, b != 0
}

// Key is the key of a block, if it has one.
func (p *Pool) Key(b BlockID) (Key, bool) {
	if b <= 0 || int(b) >= len(p.blocks) || !p.blocks[b].keyed {
		return Key{}, false
	}
	return p.blocks[b].key, true
}

// Forget takes a block's key away; a cached block becomes free. A block without a key is left alone.
func (p *Pool) Forget(b BlockID) {
	if _, ok := p.Key(b); !ok {
		return
	}
	p.keys.remove(p.blocks, b)
	if p.blocks[b].refs == 0 {
		p.unlink(b)
		p.release(b)
	}
	p.verify()
}

// keyIndex finds blocks by key. The chains run through the blocks themselves, so that it never allocates after growing;
// Go's map would, now and then.
type keyIndex struct {
	heads []BlockID // [a power of two]; the first block of each bucket
}

func (x *keyIndex) bucket(k *Key) *BlockID {
	return &x.heads[binary.LittleEndian.Uint32(k[:])&uint32(len(x.heads)-1)]
}

func (x *keyIndex) find(blocks []block, k Key) BlockID {
	b := *x.bucket(&k)
	for b != 0 && blocks[b].key != k {
		b = blocks[b].chain
	}
	return b
}

func (x *keyIndex) insert(blocks []block, b BlockID, k Key) {
	head := x.bucket(&k)
	blocks[b].key, blocks[b].keyed, blocks[b].chain = k, true, *head
	*head = b
}

func (x *keyIndex) remove(blocks []block, b BlockID) {
	at := x.bucket(&blocks[b].key)
	for *at != b {
		at = &blocks[*at].chain
	}
	*at = blocks[b].chain
	blocks[b].key, blocks[b].keyed, blocks[b].chain = Key{}, false, 0
}

// grow makes at least as many buckets as there are blocks and fills them again.
func (x *keyIndex) grow(blocks []block) {
	if len(x.heads) >= len(blocks) {
		return
	}
	n := 1
	for n < len(blocks) {
		n *= 2
	}
	x.heads = make([]BlockID, n)
	for b := range blocks {
		if blocks[b].keyed {
			x.insert(blocks, BlockID(b), blocks[b].key)
		}
	}
}
