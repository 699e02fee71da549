package tokenizer

import (
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

func TestOffsets(t *testing.T) {
	strips := map[string]any{"added_tokens": []any{
		map[string]any{"id": 2039, "content": "<mask>", "lstrip": true, "rstrip": true},
		map[string]any{"id": 2040, "content": "é.", "normalized": true},
	}}
	stripping, err := Parse(edited(t, strips), nil)
	require.NoError(t, err)
	for _, c := range []struct {
		name, text string
		tok        *Tokenizer
		want       []string // text[Start:End] of each token
	}{
		{"words", "the end", tiny(t), []string{"the", " end"}},
		{"an added token", "<think>the", tiny(t), []string{"<think>", "the"}},
		{"bytes of one rune", "€", tiny(t), []string{"\xe2", "\x82", "\xac"}},
		{"a mark that joins", "xe\u0301x", tiny(t), []string{"x", "e\u0301", "e\u0301", "x"}},
		{"after a mark that joins", "e\u0301 the", tiny(t), []string{"e\u0301", "e\u0301", " the"}},
		{"a byte that is no rune", "a\xff\xfeb", tiny(t), []string{"a", "\xff", "\xff", "\xff", "\xfe", "\xfe", "\xfe", "b"}},
		{"white space that belongs to a token", "the  <mask>\tend", stripping, []string{"the", "  <mask>\t", "end"}},
		{"a token in normalized text", "the e\u0301.end", stripping, []string{"the", " ", "e\u0301.", "end"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids, offsets := c.tok.EncodeOffsets(c.text, EncodeOptions{})
			require.Len(t, offsets, len(ids))
			var got []string
			for _, o := range offsets {
				got = append(got, c.text[o.Start:o.End])
			}
			require.Equal(t, c.want, got)
		})
	}
}

func TestOffsetsOfAnyText(t *testing.T) {
	tok := tiny(t)
	pieces := []string{"the ", "a", "e\u0301", "é", "\u0301", "\u1ac9", "\u1100", "\u1161", "\xff", "\xe2\x82", "<think>", "<|im_end|>", "\n", " ", "你", "\u0344", "\u0958"}
	rapid.Check(t, func(t *rapid.T) {
		text := ""
		for _, p := range rapid.SliceOf(rapid.SampledFrom(pieces)).Draw(t, "pieces") {
			text += p
		}
		o := EncodeOptions{PlainText: rapid.Bool().Draw(t, "plain text")}
		ids, offsets := tok.EncodeOffsets(text, o)
		require.Equal(t, append([]int32{}, tok.EncodeWith(nil, text, o)...), append([]int32{}, ids...))
		require.Len(t, offsets, len(ids))
		covered, previous := 0, Offset{}
		for i, at := range offsets {
			if at.Start < previous.Start || at.End < previous.End || at.End <= at.Start || at.End > len(text) {
				t.Fatalf("%+q: token %d is at %v, after %v", text, i, at, previous)
			}
			if at.Start > covered {
				t.Fatalf("%+q: no token has bytes %d to %d", text, covered, at.Start)
			}
			covered, previous = at.End, at
			if utf8.ValidString(text) && norm.NFC.IsNormalString(text) && text[at.Start:at.End] != tok.vocab.text(ids[i]) {
				t.Fatalf("%+q: token %d, %q, is at %v", text, i, tok.vocab.text(ids[i]), at)
			}
		}
		if covered != len(text) {
			t.Fatalf("%+q: no token has the bytes from %d on", text, covered)
		}
	})
}
