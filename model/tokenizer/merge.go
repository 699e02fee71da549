package tokenizer

import (
	"container/heap"
	"math"
)

// noRank is the rank of a pair that does not merge.
const noRank = math.MaxUint32

type mergeTable struct {
	ranks map[[2]int32]uint32
	into  []int32 // by rank: the token that the pair becomes
}

func (m *mergeTable) rank(left, right int32) uint32 {
	if r, ok := m.ranks[[2]int32{left, right}]; ok {
		return r
	}
	return noRank
}

// candidate is a pair that may merge: the lowest rank goes first, then the leftmost.
type candidate struct {
	rank uint32
	at   int
}

type candidates []candidate

func (c candidates) Len() int { return len(c) }
func (c candidates) Less(i, j int) bool {
	return c[i].rank < c[j].rank || c[i].rank == c[j].rank && c[i].at < c[j].at
}
func (c candidates) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *candidates) Push(x any)   { *c = append(*c, x.(candidate)) }
func (c *candidates) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// symbol is a token in the making; dead ones have been merged into the one before.
type symbol struct {
	id         int32
	prev, next int
	rank       uint32 // of this symbol with the next
}

// mergeWord appends the tokens that word's bytes merge into.
func (t *Tokenizer) mergeWord(dst []int32, word string) []int32 {
	symbols := make([]symbol, len(word))
	for i := range symbols {
		symbols[i] = symbol{t.vocab.bytes[word[i]], i - 1, i + 1, noRank}
	}
	var queue candidates
	rank := func(i int) {
		s := &symbols[i]
		s.rank = noRank
		if s.next < len(symbols) {
			s.rank = t.merges.rank(s.id, symbols[s.next].id)
		}
		if s.rank != noRank {
			heap.Push(&queue, candidate{s.rank, i})
		}
	}
	for i := range symbols {
		rank(i)
	}
	for len(queue) > 0 {
		c := heap.Pop(&queue).(candidate)
		s := &symbols[c.at]
		if s.rank != c.rank {
			continue // the pair is gone
		}
		gone := &symbols[s.next]
		s.id, s.next, gone.rank = t.merges.into[c.rank], gone.next, noRank
		if s.next < len(symbols) {
			symbols[s.next].prev = c.at
		}
		rank(c.at)
		if s.prev >= 0 {
			rank(s.prev)
		}
	}
	for i := 0; i < len(symbols); i = symbols[i].next {
		dst = append(dst, symbols[i].id)
	}
	return dst
}
