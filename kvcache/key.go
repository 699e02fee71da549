package kvcache

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// Key names the content of a block or chunk: a SHA-256 chain over format version, geometry identity, tenant salt, parent
// key and token ids. Token ids are compared as well on a hit.
type Key [32]byte

// keyVersion changes whenever the bytes of a block mean something else, so that keys kept outside the process expire.
const keyVersion = 1

// The first byte of everything hashed, so that a root can never equal a link.
const (
	keyRoot byte = iota + 1
	keyLink
	keyGap
)

// KeyChain computes keys without allocating. It is not safe for concurrent use.
//
//	root = SHA-256(1, version, identity, salt)
//	key  = SHA-256(2, parent, token ids)          parent is the root or the key of all that comes before
//	     = SHA-256(3, parent, positions)          parent of what stands so many positions after it
type KeyChain struct {
	identity [32]byte
	sha      hash.Hash
	buf      [512]byte
	sum      Key
}

// NewKeyChain makes a chain for the model and configuration that g identifies.
func NewKeyChain(g Geometry) *KeyChain {
	return &KeyChain{identity: g.Identity, sha: sha256.New()}
}

// Root is the parent of everything that starts at a tenant's position 0, or that stands alone.
func (c *KeyChain) Root(salt string) Key {
	c.sha.Reset()
	b := append(c.buf[:0], keyRoot)
	b = binary.LittleEndian.AppendUint32(b, keyVersion)
	b = append(b, c.identity[:]...)
	c.sha.Write(b)
	for len(salt) > 0 { // through the buffer: a conversion to bytes would allocate
		n := copy(c.buf[:], salt)
		c.sha.Write(c.buf[:n])
		salt = salt[n:]
	}
	return c.finish()
}

// Next is the key of tokens where everything before them has the key parent.
func (c *KeyChain) Next(parent Key, tokens []int32) Key {
	b := append(c.buf[:0], keyLink)
	b = append(b, parent[:]...)
	if len(b)+4*len(tokens) <= len(c.buf) { // as every block does: in one piece, which costs less
		for _, t := range tokens {
			b = binary.LittleEndian.AppendUint32(b, uint32(t))
		}
		return sha256.Sum256(b)
	}
	c.sha.Reset()
	for _, t := range tokens {
		if len(b)+4 > len(c.buf) {
			c.sha.Write(b)
			b = b[:0]
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(t))
	}
	c.sha.Write(b)
	return c.finish()
}

// Gap is the parent of tokens that do not follow on the key parent, but stand so many positions after it.
func (c *KeyChain) Gap(parent Key, positions int) Key {
	b := append(c.buf[:0], keyGap)
	b = append(b, parent[:]...)
	return sha256.Sum256(binary.LittleEndian.AppendUint32(b, uint32(positions)))
}

func (c *KeyChain) finish() Key {
	c.sha.Sum(c.sum[:0])
	return c.sum
}
