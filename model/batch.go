package model

import "github.com/quire-llm/quire/attention"

// Batch is one packed step: rows of all sequences, each with its token, its position and the slot that its key and value
// go to. Decode rows come first, then prefill spans.
type Batch struct {
	Tokens []int32 // [rows]
	// Plan holds positions, slots and the attention work list of the same rows.
	Plan *attention.Plan
}
