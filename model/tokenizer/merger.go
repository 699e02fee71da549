package tokenizer

// shortWord is up to how many bytes a word is merged by looking at all pairs each time, which costs less than a queue.
const shortWord = 64

// merger holds what merging words needs, so that it need not be made for each.
type merger struct {
	table *mergeTable

	ids   [shortWord]int32
	ranks [shortWord]uint32 // of a symbol and the next

	// For longer words: symbols by their first byte. A symbol that was merged into the one before has no rank.
	long  []symbol
	queue pairQueue
}

// symbol is a token in the making.
type symbol struct {
	id         int32
	prev, next int32  // -1 and the number of bytes at the ends
	rank       uint32 // of this symbol and the next
}

// word appends the tokens that word's bytes merge into: of all pairs of neighbours that merge, always the one of the
// lowest rank, and of equals the leftmost.
func (m *merger) word(dst []int32, word string) []int32 {
	if len(word) > shortWord {
		return m.longWord(dst, word)
	}
	table := m.table
	ids, ranks := m.ids[:len(word)], m.ranks[:len(word)]
	for i := range ids {
		ids[i] = table.tokens[word[i]]
	}
	last := len(word) - 1
	for i := range last {
		ranks[i] = table.byteRank(word[i], word[i+1])
	}
	for {
		best, at := uint32(noRank), 0
		for i, r := range ranks[:last] {
			if r < best {
				best, at = r, i
			}
		}
		if best == noRank {
			return append(dst, ids[:last+1]...)
		}
		ids[at] = table.into[best]
		copy(ids[at+1:last], ids[at+2:last+1])
		copy(ranks[at:last-1], ranks[at+1:last])
		last--
		if at < last {
			ranks[at] = table.rank(ids[at], ids[at+1])
		}
		if at > 0 {
			ranks[at-1] = table.rank(ids[at-1], ids[at])
		}
	}
}

// longWord is word with a queue of pairs, for words of any length.
func (m *merger) longWord(dst []int32, word string) []int32 {
	table := m.table
	m.long = m.long[:0]
	m.queue = m.queue[:0]
	n := int32(len(word))
	for i := range n {
		s := symbol{table.tokens[word[i]], i - 1, i + 1, noRank}
		if i+1 < n {
			s.rank = table.byteRank(word[i], word[i+1])
		}
		m.long = append(m.long, s)
		if s.rank != noRank {
			m.queue = append(m.queue, queued(s.rank, i))
		}
	}
	m.queue.order()
	for len(m.queue) > 0 {
		rank, at := m.queue.pop()
		s := &m.long[at]
		if s.rank != rank {
			continue // one of the two has merged with another since
		}
		gone := &m.long[s.next]
		s.id, s.next, gone.rank = table.into[rank], gone.next, noRank
		if s.next < n {
			m.long[s.next].prev = at
		}
		m.rerank(at)
		if s.prev >= 0 {
			m.rerank(s.prev)
		}
	}
	for i := int32(0); i < n; i = m.long[i].next {
		dst = append(dst, m.long[i].id)
	}
	return dst
}

// rerank finds the rank of the symbol at i and its new neighbour.
func (m *merger) rerank(i int32) {
	s := &m.long[i]
	s.rank = noRank
	if int(s.next) == len(m.long) {
		return
	}
	if s.rank = m.table.rank(s.id, m.long[s.next].id); s.rank != noRank {
		m.queue.push(queued(s.rank, i))
	}
}

// pairQueue is a binary heap of pairs, first the lowest rank, then the leftmost: rank<<32 | position of the left one.
type pairQueue []uint64

func queued(rank uint32, at int32) uint64 { return uint64(rank)<<32 | uint64(at) }

// order makes a heap of pairs in any order.
func (q pairQueue) order() {
	for i := len(q)/2 - 1; i >= 0; i-- {
		q.down(i)
	}
}

func (q *pairQueue) push(pair uint64) {
	*q = append(*q, pair)
	h := *q
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if h[up] <= h[i] {
			break
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
}

func (q *pairQueue) pop() (rank uint32, at int32) {
	h := *q
	first := h[0]
	h[0] = h[len(h)-1]
	*q = h[:len(h)-1]
	q.down(0)
	return uint32(first >> 32), int32(uint32(first))
}

func (q pairQueue) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(q) {
			return
		}
		if child+1 < len(q) && q[child+1] < q[child] {
			child++
		}
		if q[i] <= q[child] {
			return
		}
		q[i], q[child] = q[child], q[i]
		i = child
	}
}
