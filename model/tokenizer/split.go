package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// The two patterns that cut a text into words, as tokenizer.json has them. They differ in how many digits make a word.
const (
	qwenPattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	llamaPattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// class is what the patterns tell runes apart by.
type class uint8

const (
	other   class = iota // none of the below: punctuation, symbols, marks, controls
	letter               // \p{L}
	number               // \p{N}
	space                // \s but newline
	newline              // [\r\n]
)

// splitter cuts valid UTF-8 into words. Every rune falls into one of the patterns' alternatives, so that the words
// tile the text.
type splitter struct {
	digits int // longest run of digits in a word
}

// end returns where the word that begins at s[i] ends.
func (p *splitter) end(s string, i int) int {
	if s[i] == '\'' {
		if n := contraction(s[i+1:]); n > 0 {
			return i + 1 + n
		}
	}
	first, size := classAt(s, i)
	j := i + size
	switch first {
	case letter:
		return run(s, j, letter)
	case number:
		for n := 1; n < p.digits && j < len(s); n++ {
			c, size := classAt(s, j)
			if c != number {
				break
			}
			j += size
		}
		return j
	}
	second, size := class(newline), 0
	if j < len(s) {
		second, size = classAt(s, j)
	}
	switch {
	case first != newline && second == letter:
		return run(s, j+size, letter)
	case first == other:
		return symbols(s, j)
	case s[i] == ' ' && second == other:
		return symbols(s, j+size)
	}
	return whitespace(s, i)
}

// symbols finishes ` ?[^\s\p{L}\p{N}]+[\r\n]*`.
func symbols(s string, i int) int {
	return run(s, run(s, i, other), newline)
}

// run returns where the run of runes of one class that begins at s[i] ends.
func run(s string, i int, want class) int {
	for i < len(s) {
		c, size := classAt(s, i)
		if c != want {
			break
		}
		i += size
	}
	return i
}

// whitespace matches `\s*[\r\n]+|\s+(?!\S)|\s+` where the run of white space begins at s[i]: up to its last newline if
// it has one; else all of it where the text ends there; else all but its last rune, which may begin the next word.
func whitespace(s string, i int) int {
	afterNewline, last, j := -1, i, i
	for j < len(s) {
		c, size := classAt(s, j)
		if c != space && c != newline {
			break
		}
		last, j = j, j+size
		if c == newline {
			afterNewline = j
		}
	}
	switch {
	case afterNewline > 0:
		return afterNewline
	case j == len(s) || last == i:
		return j
	}
	return last
}

// contraction returns how many bytes of s finish a contraction whose apostrophe comes before s, or 0. Case does not
// matter, and U+017F (long s) folds to s.
func contraction(s string) int {
	if len(s) == 0 {
		return 0
	}
	switch s[0] | 0x20 {
	case 's', 't', 'm', 'd':
		return 1
	case 'r', 'v':
		if len(s) > 1 && s[1]|0x20 == 'e' {
			return 2
		}
	case 'l':
		if len(s) > 1 && s[1]|0x20 == 'l' {
			return 2
		}
	}
	if len(s) > 1 && s[0] == 0xc5 && s[1] == 0xbf {
		return 2
	}
	return 0
}

func classAt(s string, i int) (class, int) {
	r, size := utf8.DecodeRuneInString(s[i:])
	switch {
	case r == '\r' || r == '\n':
		return newline, size
	case unicode.IsLetter(r):
		return letter, size
	case unicode.IsNumber(r):
		return number, size
	case unicode.IsSpace(r):
		return space, size
	}
	return other, size
}
