package kvcachetest

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/quire-llm/quire/kvcache"
)

var errTransfer = errors.New("kvcachetest: a transfer that fails")

// world is a manager, the twin of each of its sequences, and the memory that both speak of.
type world struct {
	config
	t        TB
	in       choices
	strategy kvcache.Strategy
	manager  kvcache.Manager
	pool     *kvcache.Pool
	memory   memory
	replay   string

	sequences   []*sequence // in order of admission
	nextID      kvcache.SeqID
	nextToken   int32
	flying      []flight
	faulty      bool // transfers may fail
	failing     bool // all transfers fail
	approximate bool
	afterHead   bool // chunks may be read after the first one
	gap         int  // positions between that and a chunk
	again       int  // tokens of each chunk that are computed again in their context
	step        int  // number of the step
	inStep      bool
	plan        []*planned
	peak        int          // most blocks in use after any call
	blockStates []blockState // [blocks+1]; after the last call
	tally       tally
	log         []operation

	moves         []kvcache.Move    // scratch
	spans         []kvcache.Span    // scratch
	view          []kvcache.Segment // scratch
	before, after snapshot          // scratch
}

// operation is a line of the log, formatted only if it is shown.
type operation struct {
	format string
	args   [3]int
	shown  int // of args
}

func newWorld(t TB, s kvcache.Strategy, c config, in choices) *world {
	t.Helper()
	w := &world{config: c, t: t, in: in, strategy: s, nextID: 1, nextToken: 10_000, faulty: true, replay: "not random"}
	if a, ok := s.(Approximate); ok {
		w.approximate = a.Approximate()
		w.anyPosition = w.anyPosition || w.approximate // such strategies may refuse the others
	}
	if r, ok := s.(Reading); ok {
		w.afterHead, w.again = r.Reading()
	}
	if g, ok := s.(Spaced); ok {
		w.gap = g.HeadGap()
	}
	pool, err := kvcache.NewPool(c.blocks, c.blockTokens)
	if err != nil {
		t.Fatalf("kvcachetest: %v", err)
	}
	w.pool = pool
	w.memory = memory{blockTokens: c.blockTokens, host: make(map[kvcache.Key][]slot)}
	w.memory.resize(c.blocks)
	w.manager, err = s.NewManager(pool, kvcache.Geometry{
		BlockTokens: c.blockTokens, BytesPerToken: 64, MaxTokens: c.maxTokens, Identity: [32]byte{1}, AnyPosition: w.anyPosition,
	})
	if err != nil {
		t.Fatalf("kvcachetest: strategy %q refuses %+v: %v", s.Name(), c, err)
	}
	return w
}

// guard runs f, and makes a panic of the manager a failure like others.
func (w *world) guard(f func()) {
	w.t.Helper()
	defer func() {
		if r := recover(); r != nil {
			w.failf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	w.verify()
	f()
	w.tally.evictions = int(w.manager.Stats().Evictions)
}

// note adds an operation to the log that a failure shows.
func (w *world) note(format string, args ...int) {
	op := operation{format: format, shown: len(args)}
	copy(op.args[:], args)
	w.log = append(w.log, op)
}

func (op operation) String() string {
	args := []any{op.args[0], op.args[1], op.args[2]}
	return fmt.Sprintf(op.format, args[:op.shown]...)
}

// failf ends the test, with the operations that led there.
func (w *world) failf(format string, args ...any) {
	w.t.Helper()
	var b strings.Builder
	shown := w.log[max(0, len(w.log)-40):]
	for i, op := range shown {
		fmt.Fprintf(&b, "  %4d  %v\n", len(w.log)-len(shown)+i, op)
	}
	w.t.Fatalf("kvcachetest: strategy %q breaks a rule: %s\n%d blocks of %d, at most %d tokens; replay: %s\noperations:\n%s",
		w.strategy.Name(), fmt.Sprintf(format, args...), w.blocks, w.blockTokens, w.maxTokens, w.replay, b.String())
}

// fresh is a token that no other sequence has.
func (w *world) fresh() int32 { w.nextToken++; return w.nextToken }

// mustUse fails unless a block is one that something refers to.
func (w *world) mustUse(b kvcache.BlockID, what string) {
	switch {
	case b == 0:
		w.failf("%s is the null block", what)
	case b < 0 || int(b) > w.pool.Blocks():
		w.failf("%s is block %d, of a pool of %d", what, b, w.pool.Blocks())
	case !w.pool.InUse(b):
		w.failf("%s is block %d, which is not in use", what, b)
	}
}

// admit asks for a prompt to be taken in and judges the answer. It returns nil where there is no room.
func (w *world) admit(p kvPrompt) *sequence {
	id := w.nextID
	w.note("admit %d: %d tokens, %d chunks", int(id), len(p.Tokens), len(p.Chunks))
	available := w.manager.Available()
	w.remember(&w.before)
	a, err := w.manager.Admit(id, p)
	n, chunks := len(p.Tokens), w.cut(p)
	if err != nil {
		w.unchanged("Admit", err)
		need := blocksAlone(chunks, n, w.blockTokens, w.again)
		w.judge("Admit", err, n, roundUp(n, w.blockTokens), need, need, available)
		return nil
	}
	if n == 0 || n > w.maxTokens {
		w.failf("Admit: took in a prompt of %d tokens, of 1 to %d", n, w.maxTokens)
	}
	if a.Cached < 0 || a.Cached >= n {
		w.failf("Admit: %d of %d prompt tokens cached; at least the last one is to be computed", a.Cached, n)
	}
	if p.ComputeAll && a.Cached != 0 {
		w.failf("Admit: %d prompt tokens cached where all are to be computed", a.Cached)
	}
	w.nextID++
	s := newSequence(id, p, chunks)
	s.cached = a.Cached
	w.sequences = append(w.sequences, s)
	w.tally.sequences++
	w.tally.prompt += n
	w.tally.cached += a.Cached
	w.verify()
	return s
}

// cut is where the prompt's chunks end.
func (w *world) cut(p kvPrompt) []int {
	if c, ok := w.strategy.(Cutting); ok && p.Chunks == nil {
		return c.Cut(nil, p.Tokens)
	}
	return p.Chunks
}

// extend asks for room for n more tokens. It returns whether there was.
func (w *world) extend(s *sequence, n int) bool {
	w.note("extend %d by %d", int(s.id), n)
	available := w.manager.Available()
	w.remember(&w.before)
	total := len(s.tokens) + n
	if err := w.manager.Extend(s.id, n); err != nil {
		w.unchanged("Extend", err)
		w.judge("Extend", err, total, roundUp(total, w.blockTokens), s.blocks(total, w.blockTokens, w.again), roundUp(n, w.blockTokens), available)
		return false
	}
	if total > w.maxTokens {
		w.failf("Extend: made sequence %d %d tokens long, of at most %d", s.id, total, w.maxTokens)
	}
	tokens := make([]int32, n)
	run := w.in.below(pieces)
	for i := range tokens {
		tokens[i] = piece(run, len(s.tokens)%w.blockTokens+i)
	}
	s.append(tokens)
	w.verify()
	return true
}

// judge says whether a refusal was right: of tokens in all, which need least blocks if they lie densely and most if each
// chunk lies alone, and of which a part is still to be found, with available to find it in.
func (w *world) judge(call string, err error, tokens, least, most, find, available int) {
	switch {
	case tokens == 0:
	case errors.Is(err, kvcache.ErrTooLong):
		if tokens <= w.maxTokens && most <= w.pool.Blocks() {
			w.failf("%s: %v; but %d of at most %d tokens fit in %d of %d blocks", call, err, tokens, w.maxTokens, most, w.pool.Blocks())
		}
	case errors.Is(err, kvcache.ErrNoSpace):
		if tokens > w.maxTokens || least > w.pool.Blocks() {
			w.failf("%s: %v; but it can never fit: %d of at most %d tokens, %d of %d blocks", call, err, tokens, w.maxTokens, least, w.pool.Blocks())
		}
		if find <= available {
			w.failf("%s: %v; but at most %d blocks are needed and %d are available", call, err, find, available)
		}
	default:
		w.failf("%s: got error %v, want one that matches ErrNoSpace or ErrTooLong", call, err)
	}
}

// remove forgets a sequence. Those that counted on what it was to compute may now have to compute more.
func (w *world) remove(s *sequence) {
	w.note("remove %d", int(s.id))
	w.sequences = slices.DeleteFunc(w.sequences, func(o *sequence) bool { return o == s })
	w.manager.Remove(s.id)
	w.disturb()
	w.verify()
}

// disturb records that something was lost that sequences may have counted on.
func (w *world) disturb() {
	for _, s := range w.sequences {
		if s.state[len(s.prompt.Tokens)-1] != computed {
			s.disturbed = true
		}
	}
}

// preempt removes a sequence and asks for it again, with what it had generated as part of the prompt.
func (w *world) preempt(s *sequence) *sequence {
	p := s.prompt
	p.Tokens = s.tokens
	w.remove(s)
	return w.admit(p)
}

// resize asks for another capacity.
func (w *world) resize(blocks int) int {
	w.note("resize to %d", blocks)
	old, used := w.pool.Blocks(), w.pool.CountUsed()
	w.remember(&w.before)
	got, err := w.manager.Resize(blocks)
	if err != nil {
		w.unchanged("Resize", err)
		if blocks >= 1 {
			w.failf("Resize to %d blocks: %v", blocks, err)
		}
		return old
	}
	lowest := max(blocks, used)
	if blocks < 1 || got != w.pool.Blocks() || blocks >= old && got != blocks || blocks < old && (got < lowest || got > old) {
		w.failf("Resize to %d blocks of %d, %d in use: got %d, the pool has %d", blocks, old, used, got, w.pool.Blocks())
	}
	w.memory.resize(got)
	w.verify()
	return got
}
