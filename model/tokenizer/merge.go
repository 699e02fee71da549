package tokenizer

import (
	"math"
	"math/bits"
	"math/rand/v2"
)

// noRank is the rank of a pair that does not merge.
const noRank = math.MaxUint32

const maxMerges = 1<<24 - 1

// mergeTable says which pairs of tokens merge, how early and into what.
type mergeTable struct {
	// An open-addressed hash table: left id in the upper 20 bits, right id in the next 20, rank in the lower 24.
	// All ones is an empty slot. Between three and six of eight slots are used.
	slots      []uint64
	multiplier uint64 // odd, drawn at random, so that no file can be made to collide
	shift      uint

	into   []int32            // by rank: the token that the pair becomes
	tokens *[256]int32        // of single bytes, as which every word begins
	ranks  *[256 * 256]uint32 // of pairs of those, by first byte << 8 | second byte
}

const (
	rankBits = 24
	rankMask = 1<<rankBits - 1
	noPair   = math.MaxUint64
)

// merge is two tokens and what they become.
type merge struct{ left, right, into int32 }

// noMerge takes a rank and merges nothing.
var noMerge = merge{-1, -1, -1}

// newMergeTable makes a table of merges in order of rank; bytes are the tokens of single bytes. If a pair comes twice,
// the later rank counts, as in the reference.
func newMergeTable(merges []merge, bytes *[256]int32) mergeTable {
	size := bits.Len(uint(len(merges) + len(merges)/3))
	t := mergeTable{
		slots:      make([]uint64, 1<<size),
		multiplier: rand.Uint64() | 1,
		shift:      uint(64 - size),
		into:       make([]int32, len(merges)),
		tokens:     bytes,
		ranks:      new([256 * 256]uint32),
	}
	for i := range t.slots {
		t.slots[i] = noPair
	}
	for rank, m := range merges {
		t.into[rank] = m.into
		if m == noMerge {
			continue
		}
		key := pairKey(m.left, m.right)
		i := t.slot(key)
		for t.slots[i] != noPair && t.slots[i]>>rankBits != key {
			i = (i + 1) & (len(t.slots) - 1)
		}
		t.slots[i] = key<<rankBits | uint64(rank)
	}
	for i := range t.ranks {
		t.ranks[i] = t.rank(bytes[i>>8], bytes[i&0xff])
	}
	return t
}

func (t *mergeTable) rank(left, right int32) uint32 {
	key := pairKey(left, right)
	for i := t.slot(key); ; i = (i + 1) & (len(t.slots) - 1) {
		switch s := t.slots[i]; {
		case s>>rankBits == key:
			return uint32(s & rankMask)
		case s == noPair:
			return noRank
		}
	}
}

// byteRank is the rank of two bytes' tokens.
func (t *mergeTable) byteRank(left, right byte) uint32 { return t.ranks[int(left)<<8|int(right)] }

func pairKey(left, right int32) uint64 { return uint64(left)<<20 | uint64(right) }

func (t *mergeTable) slot(key uint64) int { return int(key * t.multiplier >> t.shift) }
