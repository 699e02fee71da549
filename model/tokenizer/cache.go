package tokenizer

import "hash/maphash"

// wordCache remembers the tokens of words seen lately: language repeats itself, and finding a word here is quicker than
// merging it. Each word has one place, where the next one that falls to it takes over.
type wordCache struct {
	seed    maphash.Seed
	entries [1 << 12]cacheEntry // 256 KiB, which stays in a core's own cache
}

const (
	cachedBytes  = 30
	cachedTokens = 8
)

// cacheEntry fills a cache line of 64 bytes.
type cacheEntry struct {
	wordBytes uint8
	count     uint8
	word      [cachedBytes]byte
	ids       [cachedTokens]int32
}

// entry returns the word's place.
func (c *wordCache) entry(word string) *cacheEntry {
	return &c.entries[maphash.String(c.seed, word)%uint64(len(c.entries))]
}

func (e *cacheEntry) is(word string) bool { return string(e.word[:e.wordBytes]) == word }

func (e *cacheEntry) tokens() []int32 { return e.ids[:e.count] }

// keep remembers a word, if it is not too long.
func (e *cacheEntry) keep(word string, tokens []int32) {
	if len(word) <= cachedBytes && len(tokens) <= cachedTokens {
		e.wordBytes = uint8(copy(e.word[:], word))
		e.count = uint8(copy(e.ids[:], tokens))
	}
}
