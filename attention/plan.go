// Package attention turns a batch and its segments into a work list.
package attention

import "github.com/quire-llm/quire/kvcache"

// Plan is the attention work of one step, built on the host and the same for every layer. Reset it and use it again: it
// keeps its memory. It is not safe for concurrent use.
type Plan struct {
	blockTokens int
	Positions   []int32 // [rows] position of each row's token
	Slots       []int32 // [rows] block·blockTokens + token that its key and value go to
}

// Reset empties the plan for a step over blocks of blockTokens tokens.
func (p *Plan) Reset(blockTokens int) {}

// Add appends rows rows that see view, a manager's View of one span: the view's last rows tokens are the rows' own. It
// copies what it needs from view.
func (p *Plan) Add(view []kvcache.Segment, rows int) error { return nil }

// Rows is the number of rows added since Reset.
func (p *Plan) Rows() int { return len(p.Positions) }
