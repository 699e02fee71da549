package tokenizer

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTinyVocabulary(t *testing.T) {
	tok := tiny(t)
	require.Equal(t, 2048, tok.Vocab())
	require.Equal(t, 2039, tok.OrdinaryVocab())
	eos, ok := tok.EOS()
	require.True(t, ok)
	require.EqualValues(t, 2041, eos)
	_, ok = tok.BOS()
	require.False(t, ok)
	require.Contains(t, tok.ChatTemplate(), "add_generation_prompt")
	for id := range int32(tok.Vocab()) {
		token, ok := tok.Token(id)
		require.True(t, ok)
		back, ok := tok.ID(token)
		require.True(t, ok)
		require.Equal(t, id, back)
		require.Equal(t, id >= 2039, tok.IsSpecial(id))
	}
	for _, id := range []int32{-1, 2048, 1 << 30, -1 << 31} {
		_, ok := tok.Token(id)
		require.False(t, ok)
		require.False(t, tok.IsSpecial(id))
		require.Empty(t, tok.Decode([]int32{id}))
	}
}
