// Package attention turns a batch and its segments into a work list.
package attention

import (
	"fmt"
	"math"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

// tileRows is the most rows of one work item. Kernels spread work over items × key-value heads: a prompt's chunk must be
// many items to keep every worker busy, and a tile must be rows enough to pay for reading the keys once.
const tileRows = 16

// Plan is the attention work of one step, built on the host and the same for every layer. Reset it and use it again: it
// keeps its memory. It is not safe for concurrent use.
//
// A span of 20 rows over two segments, in blocks of 16 tokens:
//
//	tokens      |ssssssssssssssssssssssss|pppppppppppppppppppp|     24 shared, then 20 private, which are the span's rows
//	segments     0: Off 0, Len 24         1: Off 0, Len 20, Pos 24
//	blocks      |--- 7 ---|--- 9 ---|     |--- 12 ---|--- 3 --|
//	rows                                   0....15    16...19
//	slots                                 12·16+0...  3·16+0...
//
//	items       {Row 0, Rows 16, Segment 0, Segments 2}, {Row 16, Rows 4, Segment 0, Segments 2}
//	segments    {Block 0, Off 0, Len 24, Pos 0}, {Block 2, Off 0, Len 20, Pos 24}
//	blocks      7 9 12 3
//
// All rows of an item walk all tokens of its segments; a row leaves out what stands at a later position than its own.
type Plan struct {
	Positions []int32 // [rows] position of each row's token
	Slots     []int32 // [rows] block·blockTokens + token that its key and value go to

	blockTokens int
	items       []kernels.WorkItem
	segments    []kernels.WorkSegment
	blocks      []int32
	sharing     sharing
	maxPosition int32
	maxBlock    int32
}

// Reset empties the plan for a step over blocks of blockTokens tokens.
func (p *Plan) Reset(blockTokens int) {
	*p = Plan{
		blockTokens: blockTokens,
		Positions:   p.Positions[:0],
		Slots:       p.Slots[:0],
		items:       p.items[:0],
		segments:    p.segments[:0],
		blocks:      p.blocks[:0],
		sharing:     p.sharing.emptied(),
		maxPosition: -1,
	}
}

// Add appends rows rows that see view, a manager's View of one span: the view's last rows tokens are the rows' own. It
// copies what it needs from view. An error names the segment and has changed nothing.
func (p *Plan) Add(view []kvcache.Segment, rows int) error {
	if err := p.check(view, rows); err != nil {
		return fmt.Errorf("attention: adding %d rows: %w", rows, err)
	}
	firstRow, firstSegment, firstItem := len(p.Positions), len(p.segments), len(p.items)
	later := tokens(view) // tokens from the segment's first on
	for _, s := range view {
		p.segments = append(p.segments, kernels.WorkSegment{
			Block: int32(len(p.blocks)), Off: int32(s.Off), Len: int32(s.Len), Pos: int32(s.Pos), Stored: int32(s.Stored),
		})
		for _, b := range s.Blocks[:blocksOf(s, p.blockTokens)] {
			p.blocks = append(p.blocks, int32(b))
			p.maxBlock = max(p.maxBlock, int32(b))
		}
		p.addRows(s, max(0, later-rows))
		later -= s.Len
	}
	for row := firstRow; row < len(p.Positions); row += tileRows {
		p.items = append(p.items, kernels.WorkItem{
			Row: int32(row), Rows: int32(min(tileRows, len(p.Positions)-row)),
			Segment: int32(firstSegment), Segments: int32(len(view)),
		})
	}
	p.sharing.spans = append(p.sharing.spans, span{
		row: firstRow, rows: rows, item: firstItem, items: len(p.items) - firstItem,
		segment: firstSegment, segments: len(view), before: tokens(view) - rows,
	})
	return nil
}

// addRows appends the tokens of a segment from its token first on as rows.
func (p *Plan) addRows(s kvcache.Segment, first int) {
	for i := first; i < s.Len; i++ {
		at := s.Off + i
		p.Positions = append(p.Positions, int32(s.Pos+i))
		p.Slots = append(p.Slots, int32(int(s.Blocks[at/p.blockTokens])*p.blockTokens+at%p.blockTokens))
		p.maxPosition = max(p.maxPosition, int32(s.Pos+i))
	}
}

// check says what is wrong with a view. Positions must rise over the view: only then do "the tokens up to the row's own"
// and "the positions up to the row's own", by which the kernels judge, mean the same.
func (p *Plan) check(view []kvcache.Segment, rows int) error {
	if p.blockTokens < 1 {
		return fmt.Errorf("the plan was not reset: %d tokens in a block", p.blockTokens)
	}
	later := tokens(view)
	if rows < 1 || rows > later {
		return fmt.Errorf("got a view of %d tokens, want at least the rows' own, and at least one row", later)
	}
	next := 0 // least position of the next token
	for i, s := range view {
		switch {
		case s.Len < 1:
			return fmt.Errorf("segment %d: got length %d, want at least 1", i, s.Len)
		case s.Off < 0 || s.Off >= p.blockTokens:
			return fmt.Errorf("segment %d: got offset %d, want one within a block of %d tokens", i, s.Off, p.blockTokens)
		case s.Pos < next:
			return fmt.Errorf("segment %d: got position %d, want at least %d, where the tokens before it end", i, s.Pos, next)
		case s.Len > math.MaxInt32-s.Pos || s.Stored < 0 || s.Stored > math.MaxInt32-s.Len:
			return fmt.Errorf("segment %d: got positions %d, stored %d, for %d tokens, want 31 bits", i, s.Pos, s.Stored, s.Len)
		case len(s.Blocks) < blocksOf(s, p.blockTokens):
			return fmt.Errorf("segment %d: got %d blocks, want %d for %d tokens from offset %d", i, len(s.Blocks), blocksOf(s, p.blockTokens), s.Len, s.Off)
		case later-s.Len < rows && s.Stored != s.Pos:
			return fmt.Errorf("segment %d: got position %d, stored %d: the rows' own keys are written for the positions they stand at", i, s.Pos, s.Stored)
		}
		for _, b := range s.Blocks[:blocksOf(s, p.blockTokens)] {
			if b < 1 || int(b) > math.MaxInt32/p.blockTokens-1 {
				return fmt.Errorf("segment %d: got block %d, which holds no tokens", i, b)
			}
		}
		next = s.Pos + s.Len
		later -= s.Len
	}
	return nil
}

// tokens is the number of tokens in a view.
func tokens(view []kvcache.Segment) int {
	n := 0
	for _, s := range view {
		n += s.Len
	}
	return n
}

// blocksOf is the number of blocks that a segment's tokens lie in.
func blocksOf(s kvcache.Segment, blockTokens int) int {
	return (s.Off + s.Len + blockTokens - 1) / blockTokens
}

// Rows is the number of rows added since Reset.
func (p *Plan) Rows() int { return len(p.Positions) }

// MaxPosition is the largest position of any row; -1 for an empty plan.
func (p *Plan) MaxPosition() int { return int(p.maxPosition) }

// MaxBlock is the largest block that any row reads or writes; 0 for an empty plan.
func (p *Plan) MaxBlock() int { return int(p.maxBlock) }

// BlockTokens is the number of tokens in a block, as given to Reset.
func (p *Plan) BlockTokens() int { return p.blockTokens }

// Sizes are numbers of list entries.
type Sizes struct {
	Rows     int
	Segments int
	Blocks   int // of all segments
	Shared   int // rows of all shared items
}

// Sizes are what the plan's lists hold.
func (p *Plan) Sizes() Sizes {
	return Sizes{Rows: len(p.Positions), Segments: len(p.segments), Blocks: len(p.blocks), Shared: len(p.sharing.rows)}
}
