package kvcache

import "math/bits"

// idSet is a set of small integers that finds its lowest member at once: a bitmap, and over it bitmaps that say which
// words of the one below are not empty, up to a single word. Three levels hold 262,144 ids.
type idSet struct {
	levels [][]uint64 // [level][word]; levels[0] is the set itself
	len    int
}

// newIDSet makes an empty set for ids 0 to ids-1.
func newIDSet(ids int) idSet {
	var s idSet
	for words := ids; ; {
		words = (words + 63) / 64
		s.levels = append(s.levels, make([]uint64, words))
		if words <= 1 {
			return s
		}
	}
}

func (s *idSet) has(id int) bool { return s.levels[0][id/64]>>(id%64)&1 != 0 }

// add takes in an id that is not a member.
func (s *idSet) add(id int) {
	s.len++
	for _, words := range s.levels {
		words[id/64] |= 1 << (id % 64)
		id /= 64
	}
}

// remove takes out an id that is a member.
func (s *idSet) remove(id int) {
	s.len--
	for _, words := range s.levels {
		words[id/64] &^= 1 << (id % 64)
		if words[id/64] != 0 {
			return
		}
		id /= 64
	}
}

// lowest is the least member of a set that is not empty.
func (s *idSet) lowest() int {
	id := 0
	for level := len(s.levels) - 1; level >= 0; level-- {
		id = id*64 + bits.TrailingZeros64(s.levels[level][id])
	}
	return id
}
