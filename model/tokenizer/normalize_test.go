package tokenizer

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

func TestNFC(t *testing.T) {
	many := strings.Repeat("\u0301", 40)
	for _, c := range []struct{ name, text, want string }{
		{"composes", "e\u0301", "é"},
		{"orders marks", "a\u0301\u0323", "\u1ea1\u0301"},
		{"more than 30 marks stay together", "e" + many, "é" + many[2:]},
		{"more than 30 marks are ordered", "a" + many + "\u0323", "\u1ea1" + many},
		{"more than 30 marks before any starter", many + "\u0323", "\u0323" + many},
		{"a joiner that was there stays", "e\u034f\u0301", "e\u034f\u0301"},
		{"hangul", "\u1100\u1161\u11a8", "\uac01"},
		{"hangul after many marks", "a" + many + "\u1100\u1161\u11a8", "\u00e1" + many[2:] + "\uac01"},
		{"a mark that is new stays where it is", "a\u0345\u1ac9", "a\u0345\u1ac9"},
		{"a mark that is new keeps others apart", "a\u1ac9\u0301", "a\u1ac9\u0301"},
		{"text around a mark that is new", "e\u0301\u1ac9\u0301\u0323e\u0301", "é\u1ac9\u0323\u0301é"},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, nfc(c.text)) })
	}
}

// TestLongNFC compares with x/text where that keeps to the standard: up to 30 marks.
func TestLongNFC(t *testing.T) {
	runes := []rune("ae\u00e9\u0301\u0323\u0308\u0344\u0345\u034f\u1100\u1161\u11a8\uac00\u0958\u2126\u0f71\u0f72\u0f73 x")
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOfN(rapid.SampledFrom(runes), 0, 14).Draw(t, "runes"))
		if got, want := longNFC(text), norm.NFC.String(text); got != want {
			t.Fatalf("%+q: got %+q, want %+q", text, got, want)
		}
	})
}

func TestValid(t *testing.T) {
	for text, want := range map[string]string{
		"":                 "",
		"é\x00":            "é\x00",
		"a\xffb":           "a\ufffdb",
		"\xe2\x82":         "\ufffd\ufffd",
		"\xed\xa0\x80":     "\ufffd\ufffd\ufffd",
		"\ufffd\xc3\ufffd": "\ufffd\ufffd\ufffd",
	} {
		require.Equal(t, want, valid(text), "%q", text)
	}
}
