package engine

import (
	"slices"
	"time"

	"github.com/quire-llm/quire/kvcache"
)

// sequence is a request as the scheduler sees it: tokens, and where they may end. Everything but the fields marked as
// shared belongs to the step loop once the sequence is queued.
type sequence struct {
	ticket   uint64    // order of acceptance: the smallest is the oldest
	accepted time.Time // shared, does not change
	answer   *answer   // shared: where its tokens go

	// tokens is the prompt, then what was generated; also given to the manager, which sees only a prefix that stays. What was
	// asked for and is not known yet has its place: -(i+1) for the answer to question i of the last step.
	tokens      []int32
	known       int   // tokens before this one are known
	prompt      int   // tokens of the prompt
	limit       int   // most tokens of prompt and output together
	chunks      []int // ends of the prompt's chunks
	salt        string
	force       []int32 // the tokens to take, or nil
	ends        []int32 // tokens that end the text
	seed        uint64
	temperature float32
	tops        int // likely tokens asked for at each position

	filtering *filtering // nil: none

	// promptProbs is nil unless asked for; Argmax is -1 where it is not known yet.
	promptProbs   []PromptLogprob
	promptUnknown int // entries that are not known yet

	id          kvcache.SeqID // since the last admission; 0: waiting
	decoding    bool          // the last token was sampled since admission; unless todo is 1, it has no room in the cache yet
	computed    int           // tokens computed since admission
	todo        int           // tokens to compute that have room in the cache
	room        int           // tokens that have room in the cache
	told        int           // tokens that the manager knows
	cached      int           // prompt tokens that the first admission did not have to compute; -1: not known yet
	admitted    time.Time     // first admission; zero: never
	preemptions int
	approximate bool // some row saw less than its whole past, or keys from another position
	ended       bool
}

// generated counts the tokens that the sequence has added to its prompt, known or not.
func (s *sequence) generated() int { return len(s.tokens) - s.prompt }

// expect makes a place for the token that will answer question i of the step just submitted.
func (s *sequence) expect(i int) {
	s.tokens = append(s.tokens, int32(-(i + 1)))
	s.decoding, s.todo = true, 0
	if s.cached < 0 {
		s.cached = max(s.prompt-s.computed, 0)
	}
}

// take puts a sampled token in its place and says whether the text ends with it, and why.
func (s *sequence) take(token int32) FinishReason {
	s.tokens[s.known] = token
	s.known++
	s.filtering.took(token)
	switch {
	case s.force == nil && slices.Contains(s.ends, token):
		return FinishStop
	case s.known >= s.limit:
		return FinishLength
	}
	return ""
}

// full says whether nothing is computed after the last token, known or not.
func (s *sequence) full() bool { return len(s.tokens) >= s.limit }

// growsBlocks says whether the sequence may yet need another block of blockTokens.
func (s *sequence) growsBlocks(blockTokens int) bool {
	return blocksFor(s.limit-1, blockTokens) > blocksFor(len(s.tokens), blockTokens)
}

// blocksFor is the number of blocks that hold tokens.
func blocksFor(tokens, blockTokens int) int { return (tokens + blockTokens - 1) / blockTokens }
