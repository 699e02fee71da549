package fair

import (
	"crypto/sha256"
	"encoding/binary"
)

// sharing says what a strategy computes once. The zero value computes everything.
type sharing struct {
	prefixes bool // full blocks of what prompts have in common from their beginning
	chunks   bool // whole chunks after the same chunks; the last one of a prompt is private
	keeps    bool // from one batch to the next, answers included where prefixes are shared
}

// node is a block of tokens after certain others, as a place in the tree of prompts.
type node [sha256.Size]byte

// child is the block of tokens that follows n.
func (n node) child(tokens []int32) node {
	h := sha256.New()
	h.Write(n[:])
	binary.Write(h, binary.LittleEndian, tokens)
	return node(h.Sum(nil))
}

// tree is what a cache holds.
type tree struct {
	blockTokens int
	held        map[node]bool
}

// walk goes down the tree by the blocks of tokens, with the incomplete last one where partial says so, and adds what is
// missing. It returns where it ended and how many of the tokens were there.
func (t *tree) walk(from node, tokens []int32, partial bool) (at node, found int) {
	at = from
	for len(tokens) >= t.blockTokens || partial && len(tokens) > 0 {
		n := min(t.blockTokens, len(tokens))
		at = at.child(tokens[:n])
		if t.held[at] {
			found += n
		}
		t.held[at] = true
		tokens = tokens[n:]
	}
	return at, found
}

// expected is how many tokens must be computed for batches of prompts and their answers: unique blocks over the tree of
// prompts, the rest of each prompt, one token of a prompt that was found to its end, and every token of an answer but its
// last, on which nothing follows. It holds where the pool has room for all of them at once.
func expected(s sharing, blockTokens int, batches [][]prompt, answers [][]int32) int64 {
	t := tree{blockTokens: blockTokens, held: map[node]bool{}}
	total, next := 0, 0
	for _, batch := range batches {
		if !s.keeps {
			t.held = map[node]bool{}
		}
		first := next
		for _, p := range batch {
			found := t.admit(s, p)
			total += max(p.tokens()-found, 1) + len(answers[next]) - 1
			next++
		}
		if s.keeps && s.prefixes {
			for i, p := range batch {
				answer := answers[first+i]
				t.walk(node{}, append(p.join(), answer[:len(answer)-1]...), false)
			}
		}
	}
	return int64(total)
}

// admit adds a prompt to the tree and returns how many of its tokens were there.
func (t *tree) admit(s sharing, p prompt) (found int) {
	switch {
	case s.prefixes:
		_, found = t.walk(node{}, p.join(), false)
	case s.chunks:
		at := node{}
		for _, c := range p[:len(p)-1] {
			var n int
			at, n = t.walk(at, c, true)
			found += n
		}
	}
	return found
}
