package tokenizer

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pkoukk/tiktoken-go"
	"github.com/stretchr/testify/require"
)

// secondOpinion builds tiktoken's encoder from a tokenizer's vocabulary, whose ids are in order of rank.
func secondOpinion(t *testing.T, tok *Tokenizer) *tiktoken.Tiktoken {
	ordinary, added := map[string]int{}, map[string]int{}
	names := map[string]any{}
	for id := range int32(tok.Vocab()) {
		text := tok.vocab.text(id)
		if int(id) < tok.OrdinaryVocab() {
			ordinary[text] = int(id)
		} else {
			added[text] = int(id)
			names[text] = true
		}
	}
	core, err := tiktoken.NewCoreBPE(ordinary, added, qwenPattern)
	require.NoError(t, err)
	return tiktoken.NewTiktoken(core, &tiktoken.Encoding{}, names)
}

func TestSecondOpinion(t *testing.T) {
	tok := tiny(t)
	opinion := secondOpinion(t, tok)
	pieces := []string{
		"the ", "The", " of", "Quire", "licence", "attention ", "x", "y", "qu", "ing", "don't", "I'LL", "'s", "'", "\"",
		" ", "  ", "\n", "\r\n", "\t", " \n ", "1", "23", "456", "٣", "²", "...", "!?", "{}", "==", "//", "é", "ñandú",
		"привет ", "你好", "こんにちは", "한국어", "שלום", "🙂", "👩‍🚀", "<think>", "</think>", "<|im_start|>", "<|im_end|>", "<|",
	}
	const seed = 20
	random := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		var b strings.Builder
		for range 1 + random.IntN(30) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		text := b.String()
		var want []int32
		for _, id := range opinion.Encode(text, []string{"all"}, nil) {
			want = append(want, int32(id))
		}
		require.Equal(t, want, tok.Encode(nil, text), "seed %d: %q", seed, text)
		want = nil
		for _, id := range opinion.EncodeOrdinary(text) {
			want = append(want, int32(id))
		}
		require.Equal(t, want, tok.EncodeWith(nil, text, EncodeOptions{PlainText: true}), "seed %d: %q", seed, text)
	}
}
