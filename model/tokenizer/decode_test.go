package tokenizer

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// byteTokens returns the tokens of single bytes.
func byteTokens(tok *Tokenizer, bytes string) []int32 {
	ids := make([]int32, len(bytes))
	for i := range ids {
		ids[i] = tok.vocab.bytes[bytes[i]]
	}
	return ids
}

func TestStreamHoldsCutRunes(t *testing.T) {
	tok := tiny(t)
	end, _ := tok.EOS()
	think, _ := tok.ID("</think>")
	for _, c := range []struct {
		name  string
		ids   []int32
		want  []string // one for each token, then what Flush gives
		skips bool
	}{
		{"whole rune", byteTokens(tok, "a\u20acb"), []string{"a", "", "", "€", "b", ""}, false},
		{"four bytes", byteTokens(tok, "🙂"), []string{"", "", "", "🙂", ""}, false},
		{"cut at the end", byteTokens(tok, "\xf0\x9f\x99"), []string{"", "", "", "\ufffd"}, false},
		{"cut in the middle", byteTokens(tok, "\xe2\x82a"), []string{"", "", "\ufffda", ""}, false},
		{"cut by another rune", byteTokens(tok, "\xe2\xc3\xa9"), []string{"", "\ufffd", "é", ""}, false},
		{"never a rune", byteTokens(tok, "\xff\x80"), []string{"\ufffd", "\ufffd", ""}, false},
		{"surrogate", byteTokens(tok, "\xed\xa0\x80"), []string{"", "\ufffd\ufffd", "\ufffd", ""}, false},
		{"cut by a special token", append(byteTokens(tok, "\xe2"), end), []string{"", "\ufffd<|im_end|>", ""}, false},
		{"joined over a skipped one", append(byteTokens(tok, "\xc3"), end, byteTokens(tok, "\xa9")[0]), []string{"", "", "é", ""}, true},
		{"skipped", []int32{end, think}, []string{"", "", ""}, true},
		{"not skipped", []int32{end, think}, []string{"<|im_end|>", "</think>", ""}, false},
		{"no such token", []int32{-1, 1 << 30}, []string{"", "", ""}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := DecodeOptions{SkipSpecial: c.skips}
			s := tok.NewStream(o)
			var got []string
			for _, id := range c.ids {
				got = append(got, s.Next(id))
			}
			require.Equal(t, c.want, append(got, s.Flush()))
			require.Equal(t, strings.Join(c.want, ""), tok.DecodeWith(c.ids, o))
			require.Empty(t, s.Flush())
		})
	}
}

func TestStreamIsDecode(t *testing.T) {
	tok := tiny(t)
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOf(rapid.OneOf(rapid.Int32Range(0, 255), rapid.Int32Range(-3, 2050))).Draw(t, "ids")
		o := DecodeOptions{SkipSpecial: rapid.Bool().Draw(t, "skip special")}
		s := tok.NewStream(o)
		var b strings.Builder
		for _, id := range ids {
			text := s.Next(id)
			if !utf8.ValidString(text) {
				t.Fatalf("Next gave %q, which cuts a rune", text)
			}
			b.WriteString(text)
		}
		b.WriteString(s.Flush())
		if got, want := b.String(), tok.DecodeWith(ids, o); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		var bytes []byte
		for _, id := range ids {
			if !o.SkipSpecial || !tok.IsSpecial(id) {
				bytes = tok.AppendToken(bytes, id)
			}
		}
		if got, want := b.String(), string(bytes); utf8.ValidString(want) && got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}
