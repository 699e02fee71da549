package attention

import (
	"cmp"
	"slices"

	"github.com/quire-llm/quire/kernels"
)

// Mode says whether tokens that several spans see are attended once for all of them. The results are the same, on the CPU bit for
// bit.
type Mode uint8

// The modes.
const (
	Auto     Mode = iota // where it pays, by a cost model
	Ordinary             // never: every row reads all of its past
	Shared               // wherever two spans see the same tile of tokens
)

// Modes are all modes, the default first.
func Modes() []Mode { return []Mode{Auto, Ordinary, Shared} }

// String is the mode's name in flags and results.
func (m Mode) String() string {
	switch m {
	case Auto:
		return "auto"
	case Ordinary:
		return "ordinary"
	case Shared:
		return "shared"
	}
	return "invalid"
}

// Shape is what the cost model needs to know of a layer.
type Shape struct {
	Heads, KVHeads, HeadDim int
	TokenBytes              int // of one token's keys and values in the cache
	GPU                     bool
}

// sharing is the part of a plan that is about shared tokens.
type sharing struct {
	spans []span
	items []kernels.WorkItem // whose rows are in rows
	rows  []int32
	saved int
	order []int32 // room for indices of spans
}

// emptied keeps the memory.
func (s sharing) emptied() sharing {
	return sharing{spans: s.spans[:0], items: s.items[:0], rows: s.rows[:0], order: s.order[:0]}
}

// span is what was added by one call of Add.
type span struct {
	row, rows         int
	item, items       int
	segment, segments int
	before            int // tokens before its own rows, which all of these see
	shares            int // tokens of its past that shared items walk

	// What comes after the tokens that are known to be alike.
	next  cursor
	place int64 // slot of the token there: spans that differ in it share no more
}

// cursor is a token of a span: of which segment, and which of its tokens.
type cursor struct{ segment, token int }

// Share plans shared items for the spans added since Reset and takes what they walk from the ordinary items. Call it once,
// after the last Add, for a device that SharesAttention.
//
// Spans share tokens if they see the same slots at the same positions, turned alike, from position 0 on and without gaps;
// how a manager cuts that into segments does not matter. What is shared ends at a multiple of kernels.ShareTile, and before
// the span's own rows: of these each sees another part. Groups form a tree: rows of a level go on to the next one apart.
//
//	spans     A  |ssssssssss|tttttt|aaa|        shared items   s: rows of A, B, C
//	          B  |ssssssssss|tttttt|bb|                        t: rows of A, B
//	          C  |ssssssssss|ccccc|             items          A: aaa  B: bb  C: ccccc  D: all of it
//	          D  |dddd|
//
// Where no two spans begin with the same slot, that is all that it looks at.
func (p *Plan) Share(mode Mode, shape Shape) {
	s := &p.sharing
	if mode == Ordinary || len(s.spans) < 2 {
		return
	}
	for i := range s.spans {
		if sp := &s.spans[i]; sp.before >= kernels.ShareTile && (mode == Shared || shape.joins(sp.rows)) {
			sp.next = cursor{segment: sp.segment}
			p.advance(sp, 0)
			s.order = append(s.order, int32(i))
		}
	}
	p.shareFrom(s.order, 0, 0, mode, shape)
	for i := range s.spans {
		if s.spans[i].shares > 0 {
			p.trim(&s.spans[i])
		}
	}
}

// shareFrom plans shared items for groups among spans that see the same first tokens. The first done of them are planned.
func (p *Plan) shareFrom(spans []int32, tokens, done int, mode Mode, shape Shape) {
	for len(spans) > 1 {
		group, same := p.gather(spans, tokens)
		if len(group) > 1 {
			planned := done
			if mode == Shared || p.pays(group, same-done, shape) {
				p.addShared(group, done, same)
				planned = same
			}
			for _, i := range group {
				p.advance(&p.sharing.spans[i], same-tokens)
			}
			p.shareFrom(group, same, planned, mode, shape)
		}
		spans = spans[len(group):]
	}
}

// gather moves the spans that see the same as the first, beyond so many tokens, to the front, and says how much all of
// them see alike, in whole tiles.
func (p *Plan) gather(spans []int32, tokens int) (group []int32, same int) {
	s := p.sharing.spans
	first := &s[spans[0]]
	same = wholeTiles(first.before)
	n := 1
	for i := 1; i < len(spans); i++ {
		other := &s[spans[i]]
		if other.place != first.place {
			continue
		}
		if alike := p.alike(first, other, tokens); alike > tokens {
			same = min(same, alike)
			spans[n], spans[i] = spans[i], spans[n]
			n++
		}
	}
	return spans[:n], same
}

// wholeTiles is as many of so many tokens as fill tiles.
func wholeTiles(tokens int) int { return tokens / kernels.ShareTile * kernels.ShareTile }

// alike is the number of tokens, in whole tiles, that two spans see alike before either's own rows. So many are known.
func (p *Plan) alike(a, b *span, tokens int) int {
	most := wholeTiles(min(a.before, b.before))
	x, y := a.next, b.next
	for tokens < most {
		s, t := &p.segments[x.segment], &p.segments[y.segment]
		if int(s.Pos)+x.token != tokens || int(t.Pos)+y.token != tokens || s.Stored-s.Pos != t.Stored-t.Pos ||
			p.placeOf(x) != p.placeOf(y) {
			break
		}
		i, j := int(s.Block)+(int(s.Off)+x.token)/p.blockTokens, int(t.Block)+(int(t.Off)+y.token)/p.blockTokens
		n, run := p.blockTokens-(int(s.Off)+x.token)%p.blockTokens, min(int(s.Len)-x.token, int(t.Len)-y.token)
		for ; n < run && p.blocks[i+1] == p.blocks[j+1]; n += p.blockTokens {
			i, j = i+1, j+1
		}
		n = min(n, run)
		tokens, x, y = tokens+n, p.after(x, n), p.after(y, n)
	}
	return wholeTiles(min(tokens, most))
}

// placeOf is the slot of a token.
func (p *Plan) placeOf(c cursor) int64 {
	s := &p.segments[c.segment]
	at := int(s.Off) + c.token
	return int64(p.blocks[int(s.Block)+at/p.blockTokens])*int64(p.blockTokens) + int64(at%p.blockTokens)
}

// after is the token n tokens later. There is one.
func (p *Plan) after(c cursor, n int) cursor {
	for c.token += n; c.token >= int(p.segments[c.segment].Len); c.segment++ {
		c.token -= int(p.segments[c.segment].Len)
	}
	return c
}

// advance moves a span's cursor on.
func (p *Plan) advance(sp *span, n int) {
	sp.next = p.after(sp.next, n)
	sp.place = p.placeOf(sp.next)
}

// addShared adds an item for the tokens [from, end) of a group, as its first span sees them.
func (p *Plan) addShared(group []int32, from, end int) {
	s := &p.sharing
	slices.SortFunc(group, cmp.Compare[int32]) // rows that are neighbours in the batch stay neighbours
	item := kernels.WorkItem{Row: int32(len(s.rows)), Segment: int32(len(p.segments))}
	for _, i := range group {
		sp := &s.spans[i]
		for row := range sp.rows {
			s.rows = append(s.rows, int32(sp.row+row))
		}
		sp.shares = end
	}
	sp := &s.spans[group[0]]
	for i := range sp.segments {
		segment := p.segments[sp.segment+i]
		if n := end - int(segment.Pos); n > 0 && n < int(segment.Len) {
			segment.Len = int32(n)
		}
		if int(segment.Pos) < end && p.skip(&segment, from) {
			p.segments = append(p.segments, segment)
		}
	}
	item.Rows, item.Segments = int32(len(s.rows))-item.Row, int32(len(p.segments))-item.Segment
	s.items = append(s.items, item)
	s.saved += (end - from) * (int(item.Rows) - 1)
}

// skip takes the tokens before a position from a segment and says whether any are left.
func (p *Plan) skip(s *kernels.WorkSegment, position int) bool {
	n := int32(position) - s.Pos
	if n <= 0 {
		return true
	}
	if n >= s.Len {
		return false
	}
	at := int(s.Off + n)
	s.Block, s.Off = s.Block+int32(at/p.blockTokens), int32(at%p.blockTokens)
	s.Len, s.Pos, s.Stored = s.Len-n, s.Pos+n, s.Stored+n
	return true
}

// trim leaves to a span's items what shared items do not walk.
func (p *Plan) trim(sp *span) {
	for !p.skip(&p.segments[sp.segment], sp.shares) {
		sp.segment, sp.segments = sp.segment+1, sp.segments-1
	}
	for i := range p.items[sp.item:][:sp.items] {
		item := &p.items[sp.item+i]
		item.Segment, item.Segments = int32(sp.segment), int32(sp.segments)
	}
}

// SavedReads is the number of keys of a head, and of values, that Share leaves out: each shared token is read once and not
// by each row.
func (p *Plan) SavedReads() int { return p.sharing.saved }
