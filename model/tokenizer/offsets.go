package tokenizer

import "golang.org/x/text/unicode/norm"

// Offset is the place of a token in a text, in bytes: text[Start:End].
type Offset struct{ Start, End int }

// EncodeOffsets encodes text as EncodeWith does and also says which bytes each token stands for. The offsets of a text
// that is valid and already in normal form tile it. Where normalizing changes a rune and its marks, the tokens that
// touch them all stand for the whole group. Tokens that AddBOS adds stand for nothing, at 0.
func (t *Tokenizer) EncodeOffsets(text string, o EncodeOptions) ([]int32, []Offset) {
	e := t.encoders.Get().(*encoder)
	defer t.encoders.Put(e)
	e.tracks = true
	e.encode(text, o)
	ids, offsets := e.ids, e.offsets
	e.tracks, e.ids, e.offsets = false, nil, nil
	return ids, offsets
}

// track adds the offsets of the tokens that have none yet, which stand for consecutive bytes from at on.
func (e *encoder) track(at int) {
	for _, id := range e.ids[len(e.offsets):] {
		end := at + len(e.vocab.text(id))
		e.offsets = append(e.offsets, Offset{at, end})
		at = end
	}
}

// align turns offsets into normal, the normalized form of text, into offsets into the whole text, where text is at at.
func (e *encoder) align(offsets []Offset, text, normal string, at int) {
	if text == normal {
		for i := range offsets {
			offsets[i].Start += at
			offsets[i].End += at
		}
		return
	}
	// Groups are what normalizing changes on its own. Offsets ascend, and so do the groups: start is that of the group
	// where the token under way begins, end that where it ends.
	start := group{text: text, nfc: e.nfc}
	end := start
	for i := range offsets {
		o := &offsets[i]
		for o.Start >= start.normalEnd {
			start.next()
		}
		for o.End > end.normalEnd {
			end.next()
		}
		if start.same {
			o.Start += start.textEnd - start.normalEnd
		} else {
			o.Start = start.textStart
		}
		if end.same {
			o.End += end.textEnd - end.normalEnd
		} else {
			o.End = end.textEnd
		}
		o.Start += at
		o.End += at
	}
}

// group is a rune and the marks and such that may join it, in a text and in its normalized form.
type group struct {
	text      string
	nfc       bool
	textStart int
	textEnd   int
	normalEnd int
	same      bool // normalizing leaves the group as it is
}

// next moves on to the next group.
func (g *group) next() {
	g.textStart = g.textEnd
	for i, r := range g.text[g.textStart:] {
		if i > 0 && (!g.nfc || norm.NFC.PropertiesString(string(r)).BoundaryBefore() || isNewMark(r)) {
			g.textEnd = g.textStart + i
			break
		}
		g.textEnd = len(g.text)
	}
	before := g.text[g.textStart:g.textEnd]
	after := valid(before)
	if g.nfc {
		after = nfc(after)
	}
	g.normalEnd += len(after)
	g.same = before == after
}
