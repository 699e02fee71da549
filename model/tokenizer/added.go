package tokenizer

import (
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

// matcher finds added tokens: of those that begin at a place, the longest. It is a tree of their bytes.
type matcher struct {
	tokens []addedToken
	nodes  []node     // nodes[0] is the empty beginning, once there are tokens
	roots  [256]int32 // by first byte: its node, or 0
	first  byte       // the first byte of all tokens, if it is one
	firsts int        // how many first bytes there are
}

// node is a beginning of added tokens.
type node struct {
	last           byte
	token          int32 // index of the token that is this beginning, or -1
	child, sibling int32 // 0 is none
}

func (m *matcher) add(a addedToken) {
	if m.nodes == nil {
		m.nodes = []node{{token: -1}}
	}
	at := int32(0)
	for i := range len(a.Content) {
		at = m.grow(at, a.Content[i])
	}
	if root := &m.roots[a.Content[0]]; *root == 0 {
		*root = m.child(0, a.Content[0])
		m.first = a.Content[0]
		m.firsts++
	}
	m.nodes[at].token = int32(len(m.tokens))
	m.tokens = append(m.tokens, a)
}

// child returns the node that follows a node with a byte, or 0.
func (m *matcher) child(of int32, last byte) int32 {
	at := m.nodes[of].child
	for at != 0 && m.nodes[at].last != last {
		at = m.nodes[at].sibling
	}
	return at
}

// grow returns the node that follows a node with a byte, making it if need be.
func (m *matcher) grow(of int32, last byte) int32 {
	if at := m.child(of, last); at != 0 {
		return at
	}
	at := int32(len(m.nodes))
	m.nodes = append(m.nodes, node{last: last, token: -1, sibling: m.nodes[of].child})
	m.nodes[of].child = at
	return at
}

// match is an added token in a text and the place it takes there, with white space that belongs to it.
type match struct {
	id         int32 // -1 at the end of a text: no token
	start, end int
}

// find returns the first added token in s that begins at from or later, or a match of no token at the end of s; so does
// a nil matcher.
func (m *matcher) find(s string, from int) match {
	for i := from; ; i++ {
		if i += m.candidate(s[i:]); i == len(s) {
			return match{-1, i, i}
		}
		a := m.longest(s[i:])
		if a == nil {
			continue
		}
		n := len(a.Content)
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
	switch {
	case m == nil || m.firsts == 0:
	case m.firsts == 1:
		if i := strings.IndexByte(s, m.first); i >= 0 {
			return i
		}
	default:
		for i := range len(s) {
			if m.roots[s[i]] != 0 {
				return i
			}
		}
	}
	return len(s)
}

// longest returns the longest token that s, whose first byte is that of a token, begins with; nil if there is none.
func (m *matcher) longest(s string) *addedToken {
	var found *addedToken
	at := m.roots[s[0]]
	for i := 1; at != 0; i++ {
		if token := m.nodes[at].token; token >= 0 {
			found = &m.tokens[token]
		}
		if i == len(s) {
			break
		}
		at = m.child(at, s[i])
	}
	return found
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
