package tokenizer

// The two patterns that cut a text into words, as tokenizer.json has them. They differ in how many digits make a word.
const (
	qwenPattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	llamaPattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// splitter cuts valid UTF-8 into words. Every rune falls into one of the pattern's alternatives, so the words tile the
// text.
type splitter struct {
	*classes
	digits int // the longest run of digits that is a word
}

// end returns the length of the word that s begins with; s is not empty. The first two runes' classes tell which of the
// pattern's alternatives matches.
func (p *splitter) end(s string) int {
	if s[0] == '\'' {
		if n := contraction(s[1:]); n > 0 {
			return 1 + n
		}
	}
	first, i := p.at(s, 0)
	switch first {
	case letter:
		return p.run(s, i, letter)
	case number:
		for n := 1; n < p.digits && i < len(s); n++ {
			c, size := p.at(s, i)
			if c != number {
				break
			}
			i += size
		}
		return i
	case newline:
		return p.whitespace(s)
	}
	if i < len(s) {
		second, size := p.at(s, i)
		switch {
		case second == letter:
			return p.run(s, i+size, letter)
		case second == other && (first == other || s[0] == ' '):
			return p.symbols(s, i+size)
		}
	}
	if first == other {
		return p.symbols(s, i)
	}
	return p.whitespace(s)
}

// symbols finishes ` ?[^\s\p{L}\p{N}]+[\r\n]*` from s[i] on, where at least one symbol has been seen.
func (p *splitter) symbols(s string, i int) int {
	return p.run(s, p.run(s, i, other), newline)
}

// run returns where the run of runes of one class that begins at s[i] ends; i if there is none.
func (p *splitter) run(s string, i int, want class) int {
	for i < len(s) {
		c, size := p.at(s, i)
		if c != want {
			break
		}
		i += size
	}
	return i
}

// whitespace matches `\s*[\r\n]+|\s+(?!\S)|\s+` at the beginning of s, which is white space: up to its last newline if it
// has one; else all of it where the text ends there; else all but its last rune, which may begin the next word.
func (p *splitter) whitespace(s string) int {
	afterNewline, last, i := 0, 0, 0
	for i < len(s) {
		c, size := p.at(s, i)
		if c != space && c != newline {
			break
		}
		last, i = i, i+size
		if c == newline {
			afterNewline = i
		}
	}
	switch {
	case afterNewline > 0:
		return afterNewline
	case i == len(s) || last == 0:
		return i
	}
	return last
}

// contraction returns how many bytes of s finish a contraction whose apostrophe comes before s; 0 if none do. Case does
// not matter, and U+017F (long s) folds to s.
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
	if len(s) > 1 && s[:2] == "ſ" {
		return 2
	}
	return 0
}
