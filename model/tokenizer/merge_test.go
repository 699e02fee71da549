package tokenizer

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// mergeSlowly is the definition: of all pairs that merge, always the one of the lowest rank, and of equals the leftmost.
func mergeSlowly(tok *Tokenizer, word string) []int32 {
	ids := byteTokens(tok, word)
	for {
		best, at := uint32(noRank), -1
		for i := range len(ids) - 1 {
			if r := tok.merges.rank(ids[i], ids[i+1]); r < best {
				best, at = r, i
			}
		}
		if at < 0 {
			return ids
		}
		ids[at] = tok.merges.into[best]
		ids = slices.Delete(ids, at+1, at+2)
	}
}

func TestMergeIsItsDefinition(t *testing.T) {
	tok := tiny(t)
	m := merger{table: &tok.merges}
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(rapid.SampledFrom([]string{
			"a", "aa", "the", "er", "in", "on", " ", "e", "t", "n", "attention", "\n", "=", "\xe2", "\x80", "x",
		}), 1, 60).Draw(t, "pieces")
		word := strings.Join(pieces, "")
		want := mergeSlowly(tok, word)
		if got := m.longWord(nil, word); !slices.Equal(got, want) {
			t.Fatalf("%q in a queue: got %v, want %v", word, got, want)
		}
		if got := m.word(nil, word); !slices.Equal(got, want) {
			t.Fatalf("%q: got %v, want %v", word, got, want)
		}
	})
}

func TestEqualRanksGoLeftToRight(t *testing.T) {
	tok := tiny(t)
	m := merger{table: &tok.merges}
	checked := 0
	for b, id := range tok.vocab.bytes {
		letter := string([]byte{byte(b)})
		twice := tok.vocab.find(letter + letter)
		if twice < 0 || tok.vocab.find(letter+letter+letter) >= 0 {
			continue
		}
		checked++
		want := []int32{twice, id}
		for name, got := range map[string][]int32{
			"word":  m.word(nil, letter+letter+letter),
			"queue": m.longWord(nil, letter+letter+letter),
		} {
			if !slices.Equal(got, want) {
				t.Errorf("%q three times, by %s: got %v, want %v", letter, name, got, want)
			}
		}
	}
	if checked == 0 {
		t.Fatal("no token in testdata is a byte twice and not three times")
	}
}
