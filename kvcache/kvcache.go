// Package kvcache decides which block of key-value memory holds which tokens.
//
// It never touches device memory: blocks are integers, and a strategy is policy over one concrete [Pool]. That is why a
// strategy can be written, fuzzed and proved anywhere, also outside this module; kvcachetest holds the rules as a test.
//
// # Words
//
// A block is a fixed number of token slots, the same in every layer. A sequence is one request as the cache sees it. A
// span is a run of a sequence's tokens to compute in one step. A segment is a run of tokens that a span's rows attend to.
package kvcache

import "errors"

// ErrNoSpace says that the pool has too few blocks that are free or may be evicted. The call that returned it has
// changed nothing; the engine waits for other sequences to end or preempts one.
var ErrNoSpace = errors.New("kvcache: no space")

// ErrTooLong says that a sequence can never fit: it needs more blocks than the whole pool has, or more tokens than the
// geometry allows. Waiting does not help.
var ErrTooLong = errors.New("kvcache: sequence can never fit")

// BlockID names a block of a pool. Block 0 is the null block: it is never handed out, and padding rows write to it.
type BlockID int32

// SeqID names a sequence from Admit to Remove. The engine never reuses one.
type SeqID uint64

// Geometry is what a manager needs to know of the model and of the engine.
type Geometry struct {
	BlockTokens   int      // tokens in a block: 16, 32 or 64
	BytesPerToken int      // key and value bytes of one token in all layers
	MaxTokens     int      // longest sequence, prompt and output together
	Identity      [32]byte // model, dtype and rope configuration: two models never share a key
	// AnyPosition says that keys written for one position may be read at another (the rope angles do not depend on the
	// length). Strategies that move chunks must refuse a geometry without it.
	AnyPosition bool
}

// Prompt is what a sequence starts with.
type Prompt struct {
	Tokens []int32 // the caller keeps it unchanged until Remove
	// Chunks are the ends of the prompt's content-addressed chunks, ascending, the last at most len(Tokens). Nil where
	// the request gave none. Strategies without chunks ignore it.
	Chunks []int
	// Salt separates tenants: sequences with different salts share nothing.
	Salt string
	// ComputeAll asks for every prompt token to be computed (prompt log-probabilities). What was computed may be shared.
	ComputeAll bool
}

// Admission is what a manager says of a sequence that it has taken in.
type Admission struct {
	// Cached prompt tokens need no computation by this sequence: they are held already, or another sequence's span will
	// write them. Always less than len(Prompt.Tokens), since the last token's logits are wanted.
	Cached int
	// Approximate says that some tokens will be seen as they are without all that comes before them. What is seen at another
	// position than it was written for counts as approximate in any case.
	Approximate bool
}

// Span is a run of one sequence's tokens to compute in one step.
//
//	tokens of the sequence   |........ computed ........|#### span ####|.... later ....|
//	index                    0                        Start       Start+Len
//
// The span's own tokens are the last Len tokens of its View: that says both where their keys and values are written and
// at which positions they stand.
type Span struct {
	Seq   SeqID
	Start int // index in the sequence of the first token to compute
	Len   int // tokens to compute, at least 1
}

// Segment is an ordered run of tokens that a span's rows see.
type Segment struct {
	Blocks []BlockID // the first one holds token Off of itself as the segment's first; owned by the manager, valid until its next call
	Off    int       // tokens to skip in the first block
	Len    int       // tokens in the segment
	Pos    int       // logical position of its first token here
	Stored int       // position its keys were rotated for when written; equals Pos unless the strategy moves chunks
}

// MoveKind says what a Move does.
type MoveKind uint8

// The kinds of move.
const (
	MoveCopy  MoveKind = iota + 1 // block to block within the pool (copy on write)
	MoveLoad                      // from another tier into a block
	MoveStore                     // from a block to another tier
	MovePlace                     // relocation of a block's bytes, for shrinking and compaction
)

// Move is a transfer that must be done before the next step. From and To are blocks of the pool; the tier's side of a load
// or a store is named by Key.
type Move struct {
	Kind     MoveKind
	From, To BlockID
	Key      Key
	Tokens   []int32 // of a load or a store: the block's token ids; the manager keeps them unchanged until Moved
}

// Stats is what a manager reports of itself. The engine counts computed tokens on its own, in the forward pass.
type Stats struct {
	Sequences    int   // admitted and not yet removed
	Blocks       int   // capacity, without the null block
	BlocksUsed   int   // referenced by sequences, or by transfers that are not finished
	BlocksCached int   // held for reuse, free to evict
	BlocksPeak   int   // most used after any call since the manager was made
	PromptTokens int64 // of all admissions
	CachedTokens int64 // of all admissions: found, not computed
	Evictions    int64 // blocks whose content was given up
	BlocksPinned int   // of those used: held because somebody asked for it, with or without a sequence
	SharedBlocks int   // with more than one reference
	WaitingSpans int   // sequences that wait for another's span
	PendingMoves int   // moves asked for and not yet reported by Moved
}

// Strategy is a cache policy as a plain value: engine.Options{Cache: kvcache.Standard{}}.
type Strategy interface {
	// Name is the strategy's name in flags and results: "standard".
	Name() string
	// NewManager makes a manager over a pool that nothing else uses.
	NewManager(*Pool, Geometry) (Manager, error)
}

// Manager keeps the books of one engine's cache. All calls come from one goroutine. A call that returns an error has
// changed nothing. Optional abilities are further interfaces found by assertion.
//
// A sequence's life: Admit; then in each step Next, View and, once the step is ordered on the device's stream, Wrote for
// every span that Next gave; Extend for each token that sampling adds; Remove.
type Manager interface {
	// Admit takes a sequence in and reserves what its prompt needs. ErrNoSpace: later or never; ErrTooLong: never.
	Admit(id SeqID, p Prompt) (Admission, error)
	// Next appends what to compute of the sequence in this step, at most budget tokens, in order. No span: everything is
	// computed, or what is missing is being computed by another sequence. A span that Next gave is pending until Wrote:
	// Next does not give it again in the same step.
	Next(dst []Span, id SeqID, budget int) []Span
	// View appends what the rows of a pending span see: all earlier segments, then the span's own tokens, which are the
	// view's last s.Len. Row i of the span sees everything up to and with its own token.
	View(dst []Segment, s Span) []Segment
	// Wrote says that the span's keys and values are written before all later steps on the device's stream.
	Wrote(s Span)
	// Extend makes room for n more tokens, which Next then gives out. ErrNoSpace leaves the sequence as it was.
	Extend(id SeqID, n int) error
	// Remove forgets a sequence, whatever its state. A span that others wait for passes to one of them in this call. An
	// unknown id is ignored. The rows of a pending span still run in its step, so that others of that step may have counted
	// on them, but Wrote does not follow: what they wrote does not count later. No span may be asked for in that step again.
	Remove(id SeqID)
	// Moves appends the transfers to do before the next step, each once. It is called before planning a step, and after, since
	// Next may ask for copies. Copies and placements are done, in order, before any row runs. Loads and stores may take
	// several steps; until they are reported their block is the device's to read or write.
	Moves(dst []Move) []Move
	// Moved reports a finished or failed transfer. After a failure the content of its target is undefined.
	Moved(m Move, err error)
	// Resize asks for another capacity in blocks and returns the one reached; sequences keep what they use. A manager that can
	// move blocks out of the way asks for that with MovePlace, and shrinks further by itself when they are done.
	Resize(blocks int) (int, error)
	// Available is the number of blocks that an Admit or Extend could get now.
	Available() int
	// Stats are the manager's own counts.
	Stats() Stats
	// Check verifies every invariant and names the first that is broken. It costs a walk over everything.
	Check() error
}

// Base implements the parts of a Manager that most strategies leave empty: no transfers between tiers.
type Base struct{}

// Moves appends nothing.
func (Base) Moves(dst []Move) []Move { return dst }

// Moved is never called for a manager that asks for no moves.
func (Base) Moved(Move, error) {}
