package tokenizer

import (
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct{ name, cut string }{
		{"letters take a space along", "Hello| world"},
		{"letters take any one rune along", "(a|)b|\tc|\u00a0d|\u0301f"},
		{"but not a newline", "\n|a"},
		{"the last space of a run begins a word", "a|  | b|  | |1"},
		{"one space before a digit stands alone", "a| |1"},
		{"spaces at the end stay together", "a|   "},
		{"a run of white space ends with its last newline", "a|  \n \n|  | b"},
		{"carriage returns are newlines", "a|\r\n|b|\r|c"},
		{"symbols take newlines along", "a|!!\n\n|b"},
		{"symbols take a space along", "a| !!| | !"},
		{"but not another white space rune", "a|\u2003|!!"},
		{"contractions", "I|'m| you|'RE| he|'ll| it|'s|'s| don|'t"},
		{"a contraction needs no word before it", "'s|a"},
		{"a long s is an s", "it|'ſ|a"},
		{"a kelvin sign is no k", "'K"},
		{"half a contraction is a letter with a prefix", "'r|'l|'ve"},
		{"marks are not letters", "a|́"},
		{"a zero width space is no space", "a|\u200b\u200b|b|\u200bc"},
		{"beyond the table", "𠀀𠀁|\U000e0001!|\U0001fbf0|\U000e0001𠀀"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := strings.Split(c.cut, "|")
			require.Equal(t, want, words(&splitter{newClasses(), 1}, strings.Join(want, "")))
		})
	}
}

func TestSplitDigits(t *testing.T) {
	require.Equal(t, []string{"1", "2", "3", "4", "x"}, words(&splitter{newClasses(), 1}, "1234x"))
	require.Equal(t, []string{"123", "4", "x", "12"}, words(&splitter{newClasses(), 3}, "1234x12"))
	require.Equal(t, []string{"1²½", "٣"}, words(&splitter{newClasses(), 3}, "1²½٣"))
}

func TestClasses(t *testing.T) {
	table := newClasses()
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if r >= 0xd800 && r <= 0xdfff {
			continue
		}
		want := other
		switch {
		case r == '\r' || r == '\n':
			want = newline
		case unicode.IsLetter(r):
			want = letter
		case unicode.IsNumber(r):
			want = number
		case unicode.IsSpace(r):
			want = space
		}
		if got, size := table.at("x"+string(r), 1); got != want || size != len(string(r)) {
			t.Fatalf("%U: got class %d of %d bytes, want %d of %d", r, got, size, want, len(string(r)))
		}
	}
}
