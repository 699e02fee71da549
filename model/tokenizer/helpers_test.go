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

// edited is tiny's tokenizer.json with some of its keys changed: objects are merged, all else is replaced.
func edited(t testing.TB, change map[string]any) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/tokenizer.json")
	require.NoError(t, err)
	var whole map[string]any
	require.NoError(t, json.Unmarshal(data, &whole))
	mergeInto(whole, change)
	data, err = json.Marshal(whole)
	require.NoError(t, err)
	return data
}

func mergeInto(object, change map[string]any) {
	for key, value := range change {
		inner, isObject := value.(map[string]any)
		if have, ok := object[key].(map[string]any); ok && isObject {
			mergeInto(have, inner)
		} else {
			object[key] = value
		}
	}
}

// words cuts text as encoding does.
func words(s *splitter, text string) []string {
	var cut []string
	for len(text) > 0 {
		end := s.end(text)
		cut = append(cut, text[:end])
		text = text[end:]
	}
	return cut
}
