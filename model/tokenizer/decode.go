package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// DecodeOptions says how to write tokens as text.
type DecodeOptions struct {
	SkipSpecial bool // leave out added tokens marked as special
}

// Decode returns the text of ids, special tokens included. What is not valid UTF-8 becomes U+FFFD, one for each longest
// beginning of a rune. Ids that no token has are left out, as the reference does: a model's padded vocabulary has some.
func (t *Tokenizer) Decode(ids []int32) string { return t.DecodeWith(ids, DecodeOptions{}) }

// DecodeWith is Decode with options.
func (t *Tokenizer) DecodeWith(ids []int32, o DecodeOptions) string {
	size := 0
	for _, id := range ids {
		size += len(t.vocab.text(id))
	}
	var b strings.Builder
	b.Grow(size)
	for _, id := range ids {
		b.WriteString(t.text(id, o))
	}
	text, _ := wholeRunes(b.String(), true)
	return text
}

// AppendToken appends the bytes of one token, which may be part of a rune; nothing for an id that no token has.
func (t *Tokenizer) AppendToken(dst []byte, id int32) []byte {
	return append(dst, t.vocab.text(id)...)
}

// text returns the bytes of a token, or nothing if it is to be left out.
func (t *Tokenizer) text(id int32, o DecodeOptions) string {
	if o.SkipSpecial && t.IsSpecial(id) {
		return ""
	}
	return t.vocab.text(id)
}

// Stream decodes tokens as they come. It has one user.
type Stream struct {
	t       *Tokenizer
	options DecodeOptions
	held    []byte // the beginning of a rune that is not whole yet
}

// NewStream returns a decoder for one sequence of tokens.
func (t *Tokenizer) NewStream(o DecodeOptions) *Stream { return &Stream{t: t, options: o} }

// Next takes the next token and returns the text that became complete, which may be none: the bytes of a rune are held
// back until the rune is whole. All that Next and Flush return, joined, is what Decode returns for the same ids.
func (s *Stream) Next(id int32) string {
	token := s.t.text(id, s.options)
	if len(s.held) > 0 {
		token = string(append(s.held, token...))
	}
	text, used := wholeRunes(token, false)
	s.held = append(s.held[:0], token[used:]...)
	return text
}

// Flush returns what is held back, as U+FFFD. The stream is empty afterwards and may be used again.
func (s *Stream) Flush() string {
	text, _ := wholeRunes(string(s.held), true)
	s.held = s.held[:0]
	return text
}

// wholeRunes returns bytes as valid UTF-8 and how many of them it has used: all if they are the last, else all but the
// beginning of a rune at the end.
func wholeRunes(bytes string, last bool) (text string, used int) {
	if utf8.ValidString(bytes) {
		return bytes, len(bytes)
	}
	var b strings.Builder
	b.Grow(len(bytes))
	for used < len(bytes) {
		rest := bytes[used:]
		r, size := utf8.DecodeRuneInString(rest)
		if r != utf8.RuneError || size > 1 {
			b.WriteString(rest[:size])
			used += size
			continue
		}
		if !last && !utf8.FullRuneInString(rest) {
			break
		}
		b.WriteRune(utf8.RuneError)
		used += beginning(rest)
	}
	return b.String(), used
}

// beginning returns how many bytes of s, which does not begin with a rune, begin one; at least 1.
func beginning(s string) int {
	n := 1
	for n < len(s) && !utf8.FullRuneInString(s[:n+1]) {
		n++
	}
	return n
}
