package tokenizer

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// corpus is 1 MB of text, mostly English or of many languages.
func corpus(b *testing.B, name string) string {
	return string(readGzip(b, sharedFile(b, "tokenizers", "qwen3", "corpus_"+name+".txt.gz")))
}

func BenchmarkEncode(b *testing.B) {
	tok := qwen3(b)
	for _, name := range []string{"en", "multi"} {
		b.Run("text="+name, func(b *testing.B) {
			text := corpus(b, name)
			var ids []int32
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				ids = tok.Encode(ids[:0], text)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	tok := qwen3(b)
	for _, name := range []string{"en", "multi"} {
		b.Run("text="+name, func(b *testing.B) {
			text := corpus(b, name)
			ids := tok.Encode(nil, text)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				tok.Decode(ids)
			}
		})
	}
}

func BenchmarkStream(b *testing.B) {
	tok := qwen3(b)
	text := corpus(b, "multi")
	ids := tok.Encode(nil, text)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		s := tok.NewStream(DecodeOptions{})
		for _, id := range ids {
			s.Next(id)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	name := sharedFile(b, "tokenizers", "qwen3", "tokenizer.json")
	info, err := os.Stat(name)
	require.NoError(b, err)
	folder := os.DirFS(filepath.Dir(name))
	b.SetBytes(info.Size())
	b.ReportAllocs()
	for b.Loop() {
		_, err := Load(folder)
		require.NoError(b, err)
	}
}
