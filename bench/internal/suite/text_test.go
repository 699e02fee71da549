package suite

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/model"
	"github.com/quire-llm/quire/model/tiny"
	"github.com/quire-llm/quire/model/tokenizer"
)

// Chunks of a chat are its template's text, cut where system, contexts and question begin.
func TestChunks(t *testing.T) {
	ck, err := model.Open("tiny", model.ResolveOptions{Providers: []model.Provider{tiny.Provider{}}})
	require.NoError(t, err)
	defer ck.Close()
	tokens, err := tokenizer.Load(ck.Files)
	require.NoError(t, err)

	p := NewPrompts(1, 100)
	require.Equal(t, "words", p.Form())
	words := p.Chunks("You are", []string{"One two", "One two"}, "what is it")
	require.Len(t, words, 4)
	require.Equal(t, words[1], words[2], "the same text has the same tokens")
	require.Len(t, words[3].Tokens, 3)
	for _, c := range words {
		for _, id := range c.Tokens {
			require.Less(t, id, int32(100))
		}
	}
	require.Equal(t, 3, p.CountTokens("what is it"))

	p.useTokenizer(tokens)
	require.Equal(t, "chat", p.Form())
	var texts []string
	for _, c := range p.Chunks("You are", []string{"One two", "One two"}, "what is it") {
		require.Empty(t, c.Tokens)
		texts = append(texts, c.Text)
	}
	require.Equal(t, []string{
		"<|im_start|>system\nYou are<|im_end|>\n<|im_start|>user\n", "One two\n\n", "One two\n\n",
		"what is it<|im_end|>\n<|im_start|>assistant\n",
	}, texts)
	require.Equal(t, len(tokens.Encode(nil, "what is it")), p.CountTokens("what is it"))

	p.text.chat = nil
	require.Equal(t, "text", p.Form())
	texts = nil
	for _, c := range p.Chunks("You are", nil, "what is it") {
		texts = append(texts, c.Text)
	}
	require.Equal(t, "You are\n\nwhat is it", strings.Join(texts, ""))
}
