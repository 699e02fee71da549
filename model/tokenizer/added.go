package tokenizer

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// addedToken is a token that is found in the text before anything else happens to it.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // only where no word character touches it
	LStrip     bool   `json:"lstrip"`      // takes the white space before it along
	RStrip     bool   `json:"rstrip"`      // takes the white space after it along
	Normalized bool   `json:"normalized"`  // looked for in the normalized text
	Special    bool   `json:"special"`
}

// matcher finds added tokens: of those that begin at a place, the longest.
type matcher struct {
	tokens  map[string]addedToken
	lengths [256][]int // by first byte: the lengths of the tokens that begin with it, longest first
	first   byte       // the first byte of all tokens, if it is one
	firsts  int        // how many first bytes there are
}

func (m *matcher) add(a addedToken) {
	if m.tokens == nil {
		m.tokens = map[string]addedToken{}
	}
	m.tokens[a.Content] = a
	m.first = a.Content[0]
	lengths := &m.lengths[m.first]
	if len(*lengths) == 0 {
		m.firsts++
	}
	if !slices.Contains(*lengths, len(a.Content)) {
		*lengths = append(*lengths, len(a.Content))
		slices.SortFunc(*lengths, func(a, b int) int { return b - a })
	}
}

// match is an added token in a text and the place it takes there, with white space that belongs to it.
type match struct {
	id         int32 // -1 at the end of a text: no token
	start, end int
}

func (m match) appendID(dst []int32) []int32 {
	if m.id < 0 {
		return dst
	}
	return append(dst, m.id)
}

// find returns the first added token in s that begins at from or later, or a match of no token at the end of s.
func (m *matcher) find(s string, from int) match {
	for i := from; ; i++ {
		if i += m.candidate(s[i:]); i == len(s) {
			return match{-1, i, i}
		}
		a := m.longest(s[i:])
		n := len(a.Content)
		if n == 0 {
			continue
		}
		if a.SingleWord && (endsWithWord(s[:i]) || beginsWithWord(s[i+n:])) {
			i += n - 1 // no token, nor are shorter ones in it: so does the reference
			continue
		}
		found := match{a.ID, i, i + n}
		if a.LStrip {
			found.start = from + len(strings.TrimRightFunc(s[from:i], unicode.IsSpace))
		}
		if a.RStrip {
			found.end = len(s) - len(strings.TrimLeftFunc(s[i+n:], unicode.IsSpace))
		}
		return found
	}
}

// candidate returns where in s a token may begin, or the end of s.
func (m *matcher) candidate(s string) int {
	if m.firsts == 1 {
		if i := strings.IndexByte(s, m.first); i >= 0 {
			return i
		}
		return len(s)
	}
	if m.firsts > 1 {
		for i := range len(s) {
			if m.lengths[s[i]] != nil {
				return i
			}
		}
	}
	return len(s)
}

// longest returns the longest token that s begins with.
func (m *matcher) longest(s string) addedToken {
	for _, n := range m.lengths[s[0]] {
		if n > len(s) {
			continue
		}
		if a, ok := m.tokens[s[:n]]; ok {
			return a
		}
	}
	return addedToken{}
}

func beginsWithWord(s string) bool {
	r, size := utf8.DecodeRuneInString(s)
	return size > 0 && isWord(r)
}

func endsWithWord(s string) bool {
	r, size := utf8.DecodeLastRuneInString(s)
	return size > 0 && isWord(r)
}

// isWord is the reference's \w: letters and what counts as such, marks, digits, connectors and joiners.
func isWord(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}
