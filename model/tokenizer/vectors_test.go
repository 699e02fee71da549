package tokenizer

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// tiny loads the tokenizer in testdata, that of the built-in model.
func tiny(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := Load(os.DirFS("testdata"))
	require.NoError(t, err)
	return tok
}

// sharedFile returns the path of a file that is too large for the repository.
func sharedFile(t testing.TB, path ...string) string {
	t.Helper()
	root := os.Getenv("QUIRE_TESTDATA")
	if root == "" {
		t.Skip("needs Qwen3's tokenizer and its vectors: set QUIRE_TESTDATA to the folder that has tokenizers/qwen3")
	}
	name := filepath.Join(append([]string{root}, path...)...)
	_, err := os.Stat(name)
	require.NoError(t, err, "QUIRE_TESTDATA is set, but a file is missing")
	return name
}

// qwen3 loads Qwen3's tokenizer.
func qwen3(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := Load(os.DirFS(filepath.Dir(sharedFile(t, "tokenizers", "qwen3", "tokenizer.json"))))
	require.NoError(t, err)
	return tok
}

func readGzip(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	data, err := io.ReadAll(z)
	require.NoError(t, err)
	return data
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
