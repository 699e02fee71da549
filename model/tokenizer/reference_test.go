package tokenizer

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReferenceCases compares with what the reference, the Rust library tokenizers, made of some hundred awkward texts
// (add_special_tokens on) with four tokenizers: tiny's, tiny's in the manner of Llama 3, tiny's with added tokens of
// every sort, and Qwen3's.
func TestReferenceCases(t *testing.T) {
	data, err := os.ReadFile("testdata/reference.json")
	require.NoError(t, err)
	var reference struct {
		Variants map[string]map[string]any // by name: what to change in tiny's tokenizer.json
		Cases    []struct {
			Text string
			IDs  map[string][]int32
		}
	}
	require.NoError(t, json.Unmarshal(data, &reference))
	require.Greater(t, len(reference.Cases), 400)

	compare := func(name string, tok *Tokenizer) {
		for _, c := range reference.Cases {
			got := tok.EncodeWith([]int32{}, c.Text, EncodeOptions{AddBOS: true})
			require.Equal(t, c.IDs[name], got, "%s: %+q", name, c.Text)
			ids, _ := tok.EncodeOffsets(c.Text, EncodeOptions{AddBOS: true})
			require.Equal(t, got, append([]int32{}, ids...), "%s: %+q, with offsets", name, c.Text)
		}
	}
	compare("tiny", tiny(t))
	for name, change := range reference.Variants {
		tok, err := Parse(edited(t, change), nil)
		require.NoError(t, err, name)
		compare(name, tok)
	}
	t.Run("qwen3", func(t *testing.T) { compare("qwen3", qwen3(t)) })
}

func TestReferenceVectors(t *testing.T) {
	data, err := os.ReadFile(sharedFile(t, "tokenizers", "qwen3", "vectors.json"))
	require.NoError(t, err)
	var vectors []struct {
		Cat, Text, Dec string
		IDs            []int32
	}
	require.NoError(t, json.Unmarshal(data, &vectors))
	require.NotEmpty(t, vectors)
	tok := qwen3(t)
	for i, v := range vectors {
		require.Equal(t, v.IDs, tok.Encode([]int32{}, v.Text), "case %d (%s): %q", i, v.Cat, v.Text)
		require.Equal(t, v.Dec, tok.Decode(v.IDs), "case %d (%s): %q", i, v.Cat, v.Text)
	}
}

func TestReferenceCorpora(t *testing.T) {
	tok := qwen3(t)
	for _, name := range []string{"en", "multi"} {
		t.Run(name, func(t *testing.T) {
			text := string(readGzip(t, sharedFile(t, "tokenizers", "qwen3", "corpus_"+name+".txt.gz")))
			var want []int32
			require.NoError(t, json.Unmarshal(readGzip(t, sharedFile(t, "tokenizers", "qwen3", "corpus_"+name+".ids.json.gz")), &want))
			got := tok.Encode(nil, text)
			for i := range min(len(got), len(want)) {
				require.Equal(t, want[i], got[i], "token %d, after %q", i, tok.Decode(got[max(0, i-10):i]))
			}
			require.Len(t, got, len(want))
			require.Equal(t, text, tok.Decode(got))
		})
	}
}
