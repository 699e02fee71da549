package tokenizer

import (
	"slices"
	"strings"
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

// graphemeJoiner is what x/text puts into runs of more than 30 marks, to keep buffers small. NFC itself does not.
const graphemeJoiner = "\u034f"

// nfc returns valid UTF-8 in normal form C.
func nfc(s string) string {
	if norm.NFC.IsNormalString(s) {
		return s
	}
	out := norm.NFC.String(s)
	if strings.Count(out, graphemeJoiner) != strings.Count(s, graphemeJoiner) {
		return longNFC(s)
	}
	return out
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
				if composed, ok := compose(out[starter].r, m.r); ok {
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

// compose returns the rune that a and b make together.
func compose(a, b rune) (rune, bool) {
	both := norm.NFC.String(string(a) + string(b))
	r, size := utf8.DecodeRuneInString(both)
	return r, size == len(both)
}
