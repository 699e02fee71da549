package kvcachetest

import "github.com/quire-llm/quire/kvcache"

type kvPrompt = kvcache.Prompt

// sequence is the twin of a sequence: what the manager has to know of it, in the plainest form.
type sequence struct {
	id      kvcache.SeqID
	prompt  kvPrompt
	chunks  []int    // ends of the prompt's chunks, whoever cut them
	tokens  []int32  // prompt and extensions
	context []uint64 // [tokens] hash of the salt and of all tokens up to and with this one
	chunk   []uint64 // [tokens] the same from the start of the token's chunk on; the context outside of chunks
	start   []int    // [tokens] where the token's chunk starts; 0 outside of chunks
	state   []state  // [tokens]
	again   []bool   // [tokens] computed in its context after having been computed in the chunk alone

	cached    int  // as the manager said at admission
	disturbed bool // cached need not be kept to: what it counted on was lost before the prompt was computed
}

// state is how far a token is, for this sequence.
type state uint8

const (
	missing state = iota // not computed by this sequence; perhaps by another
	pending              // in a span that Next gave in this step
	computed
)

func newSequence(id kvcache.SeqID, p kvPrompt, chunks []int) *sequence {
	s := &sequence{id: id, prompt: p, chunks: chunks}
	s.append(p.Tokens)
	return s
}

// append adds tokens and what a right memory holds for each.
func (s *sequence) append(tokens []int32) {
	for _, t := range tokens {
		i := len(s.tokens)
		start, inChunk := s.chunkOf(i)
		before, chunk := hashText(s.prompt.Salt), hashText(s.prompt.Salt)+1
		if i > 0 {
			before = s.context[i-1]
		}
		if i > start {
			chunk = s.chunk[i-1]
		}
		s.tokens = append(s.tokens, t)
		s.context = append(s.context, mix(before, t))
		s.start = append(s.start, start)
		s.state = append(s.state, missing)
		s.again = append(s.again, false)
		if inChunk {
			s.chunk = append(s.chunk, mix(chunk, t))
		} else {
			s.chunk = append(s.chunk, s.context[i])
		}
	}
}

// chunkOf is where the chunk around token i starts, if there is one.
func (s *sequence) chunkOf(i int) (start int, ok bool) {
	for _, end := range s.chunks {
		if i < end {
			return start, true
		}
		start = end
	}
	return 0, false
}

// finished says that everything is computed, the last token by this sequence itself.
func (s *sequence) finished() bool { return s.state[len(s.tokens)-1] == computed }

// computed counts those of the first tokens that this sequence computed.
func (s *sequence) computed(tokens int) int {
	n := 0
	for _, st := range s.state[:tokens] {
		if st == computed {
			n++
		}
	}
	return n
}

// blocks is what the first n tokens need with nothing shared, each chunk in blocks of its own, and the tokens that are
// computed again.
func (s *sequence) blocks(n, blockTokens, again int) int {
	return blocksAlone(s.chunks, n, blockTokens, again)
}

func blocksAlone(chunks []int, n, blockTokens, again int) int {
	blocks, start := 0, 0
	for _, end := range chunks {
		blocks += roundUp(end-start, blockTokens) + roundUp(min(again, end-start), blockTokens)
		start = end
	}
	return blocks + roundUp(n-start, blockTokens)
}

func roundUp(n, blockTokens int) int { return (n + blockTokens - 1) / blockTokens }

// mix hashes a token onto what came before it. It is never 0.
func mix(h uint64, token int32) uint64 {
	h = (h ^ uint64(uint32(token)) + 1) * 0x9e3779b97f4a7c15
	return (h ^ h>>29) | 1
}

func hashText(text string) uint64 {
	h := mix(0, int32(len(text)))
	for i := range len(text) {
		h = mix(h, int32(text[i]))
	}
	return h
}
