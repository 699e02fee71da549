package tokenizer

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalize returns text as valid UTF-8, in normal form C if the tokenizer asks for it.
func (t *Tokenizer) normalize(text string) string {
	text = valid(text)
	if t.nfc {
		text = nfc(text)
	}
	return text
}

// valid returns s with every byte that is not part of a valid rune replaced by U+FFFD.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s { // range yields U+FFFD and one byte for each
		b.WriteRune(r)
	}
	return b.String()
}

// nfc returns valid UTF-8 in normal form C, as the reference does: it knows Unicode 9.
func nfc(s string) string {
	if norm.NFC.IsNormalString(s) {
		return s
	}
	var b strings.Builder
	for {
		i := strings.IndexFunc(s, isNewMark)
		if i < 0 {
			b.WriteString(compose(s))
			return b.String()
		}
		b.WriteString(compose(s[:i]))
		_, size := utf8.DecodeRuneInString(s[i:])
		b.WriteString(s[i : i+size])
		s = s[i+size:]
	}
}

// graphemeJoiner is what x/text puts into runs of more than 30 marks, to keep buffers small. NFC itself does not.
const graphemeJoiner = "\u034f"

// compose is nfc for text without new marks.
func compose(s string) string {
	out := norm.NFC.String(s)
	if strings.Count(out, graphemeJoiner) != strings.Count(s, graphemeJoiner) {
		return longNFC(s)
	}
	return out
}

// isNewMark tells whether the reference leaves r where it is although Unicode has r trade places with other marks, or
// join the rune before it, since Unicode got r after version 9.
func isNewMark(r rune) bool { return r >= 0x7fd && unicode.Is(newMarks, r) }

var newMarks = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x7fd, 0x7fd, 1}, {0x898, 0x89f, 1}, {0x8ca, 0x8d3, 1}, {0x9fe, 0x9fe, 1}, {0xc3c, 0xc3c, 1},
		{0xd3b, 0xd3c, 1}, {0xeba, 0xeba, 1}, {0x1715, 0x1715, 1}, {0x1abf, 0x1ace, 1}, {0x1df6, 0x1dfa, 1},
		{0xa82c, 0xa82c, 1},
	},
	R32: []unicode.Range32{
		{0x10d24, 0x10d27, 1}, {0x10eab, 0x10eac, 1}, {0x10efd, 0x10eff, 1}, {0x10f46, 0x10f50, 1},
		{0x10f82, 0x10f85, 1}, {0x11070, 0x11070, 1}, {0x1133b, 0x1133b, 1}, {0x1145e, 0x1145e, 1},
		{0x11839, 0x1183a, 1}, {0x11930, 0x11930, 1}, {0x1193d, 0x1193e, 1}, {0x11943, 0x11943, 1},
		{0x119e0, 0x119e0, 1}, {0x11a34, 0x11a34, 1}, {0x11a47, 0x11a47, 1}, {0x11a99, 0x11a99, 1},
		{0x11d42, 0x11d42, 1}, {0x11d44, 0x11d45, 1}, {0x11d97, 0x11d97, 1}, {0x11f41, 0x11f42, 1},
		{0x16ff0, 0x16ff1, 1}, {0x1e08f, 0x1e08f, 1}, {0x1e130, 0x1e136, 1}, {0x1e2ae, 0x1e2ae, 1},
		{0x1e2ec, 0x1e2ef, 1}, {0x1e4ec, 0x1e4ef, 1},
	},
}

// mark is a rune with its canonical combining class; 0 is a starter's.
type mark struct {
	r   rune
	ccc uint8
}

// longNFC is NFC as the Unicode standard has it (chapter 3.11), for runs of marks of any length: decompose, order the
// marks, compose.
func longNFC(s string) string {
	var marks []mark
	for _, r := range s {
		if r < 0xc0 {
			marks = append(marks, mark{r, 0}) // neither decomposes nor is a mark
			continue
		}
		for _, d := range norm.NFD.String(string(r)) {
			marks = append(marks, mark{d, norm.NFD.PropertiesString(string(d)).CCC()})
		}
	}
	for i := 0; i < len(marks); {
		j := i
		for j < len(marks) && marks[j].ccc != 0 {
			j++
		}
		slices.SortStableFunc(marks[i:j], func(a, b mark) int { return int(a.ccc) - int(b.ccc) })
		i = j + 1
	}
	out := marks[:0]
	starter := -1 // index in out
	for _, m := range marks {
		if starter >= 0 {
			last := out[len(out)-1]
			blocked := len(out)-1 > starter && (last.ccc >= m.ccc || last.ccc == 0)
			if !blocked {
				if composed, ok := composePair(out[starter].r, m.r); ok {
					out[starter].r = composed
					continue
				}
			}
		}
		if m.ccc == 0 {
			starter = len(out)
		}
		out = append(out, m)
	}
	var b strings.Builder
	for _, m := range out {
		b.WriteRune(m.r)
	}
	return b.String()
}

// composePair returns the rune that a and b make together, if they do.
func composePair(a, b rune) (rune, bool) {
	if norm.NFC.PropertiesString(string(b)).BoundaryBefore() {
		return 0, false
	}
	both := norm.NFC.String(string(a) + string(b))
	r, size := utf8.DecodeRuneInString(both)
	return r, size == len(both)
}
