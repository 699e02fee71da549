package engine

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/model"
)

// A checkpoint without tokenizer files runs on token ids and refuses text by name.
func TestModelWithoutTokenizer(t *testing.T) {
	ck, err := model.OpenDir("../model/testdata/goldens/qwen3-tied-gqa2")
	require.NoError(t, err)
	defer ck.Close()
	e, err := Open(t.Context(), Options{Checkpoint: ck, CheckInvariants: true})
	require.NoError(t, err)
	defer e.Close()
	require.Nil(t, e.Tokenizer())

	results, err := e.Batch(t.Context(), []Request{{Tokens: []int32{1, 2, 3}, MaxTokens: 4, IgnoreEOS: true, Stop: []string{"x"}}})
	require.NoError(t, err)
	require.Len(t, results[0].Tokens, 4)
	require.Empty(t, results[0].Text)

	for name, r := range map[string]Request{
		"prompt":   {Prompt: "hello"},
		"messages": {Messages: []Message{{Role: "user", Content: "hello"}}},
		"chunks":   {Chunks: []Chunk{{Tokens: []int32{1}}, {Text: "hello"}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := e.Batch(t.Context(), []Request{r})
			require.ErrorIs(t, err, ErrInvalid)
			require.ErrorContains(t, err, "no tokenizer")
		})
	}
}
