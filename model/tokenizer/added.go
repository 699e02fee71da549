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

// matcher finds added tokens, the longest that begins at a place.
type matcher struct {
	tokens  map[string]addedToken
	lengths [256][]int // by first byte: the lengths of the tokens that begin with it, longest first
}

func (m *matcher) add(a addedToken) {
	if m.tokens == nil {
		m.tokens = map[string]addedToken{}
	}
	m.tokens[a.Content] = a
	l := &m.lengths[a.Content[0]]
	if !slices.Contains(*l, len(a.Content)) {
		*l = append(*l, len(a.Content))
		slices.SortFunc(*l, func(a, b int) int { return b - a })
	}
}

// find returns the first added token in s at or after from, and where it begins and ends with the white space it takes.
func (m *matcher) find(s string, from int) (id int32, start, end int, ok bool) {
	if len(m.tokens) == 0 {
		return 0, 0, 0, false
	}
	for i := from; i < len(s); i++ {
		for _, n := range m.lengths[s[i]] {
			if n > len(s)-i {
				continue
			}
			a, found := m.tokens[s[i:i+n]]
			if !found {
				continue
			}
			if a.SingleWord && (endsWithWord(s[:i]) || beginsWithWord(s[i+n:])) {
				i += n - 1 // as the reference: the text is passed over, shorter tokens included
				break
			}
			start, end = i, i+n
			if a.LStrip {
				start = from + len(strings.TrimRightFunc(s[from:i], unicode.IsSpace))
			}
			if a.RStrip {
				end = len(s) - len(strings.TrimLeftFunc(s[end:], unicode.IsSpace))
			}
			return a.ID, start, end, true
		}
	}
	return 0, 0, 0, false
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
