package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// class is what the patterns tell runes apart by.
type class uint8

const (
	other   class = iota // none of the below: punctuation, symbols, marks, controls
	letter               // \p{L}
	number               // \p{N}
	space                // \s but for newline
	newline              // [\r\n]
)

// classRunes is how far the table of classes reaches: the scripts in use today. Classes beyond are looked up in the
// unicode package's tables.
const classRunes = 0x20000

// classes is the class of every rune below classRunes.
type classes [classRunes]class

// newClasses builds the table from the unicode package's.
func newClasses() *classes {
	c := new(classes)
	for _, t := range []struct {
		table *unicode.RangeTable
		class class
	}{{unicode.L, letter}, {unicode.N, number}, {unicode.White_Space, space}} {
		for _, r := range t.table.R16 {
			c.set(uint32(r.Lo), uint32(r.Hi), uint32(r.Stride), t.class)
		}
		for _, r := range t.table.R32 {
			c.set(r.Lo, r.Hi, r.Stride, t.class)
		}
	}
	c['\r'], c['\n'] = newline, newline
	return c
}

func (c *classes) set(low, high, stride uint32, to class) {
	for r := low; r <= min(high, classRunes-1); r += stride {
		c[r] = to
	}
}

// at returns the class of the rune at s[i], which must be the beginning of a valid one, and its length in bytes.
func (c *classes) at(s string, i int) (class, int) {
	if b := s[i]; b < utf8.RuneSelf {
		return c[b], 1
	}
	return c.atWide(s[i:])
}

// atWide is at for a rune beyond ASCII at the beginning of s.
func (c *classes) atWide(s string) (class, int) {
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case r < classRunes:
		return c[r], size
	case unicode.IsLetter(r):
		return letter, size
	case unicode.IsNumber(r):
		return number, size
	}
	return other, size // no white space this far out
}
