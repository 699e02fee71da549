package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/model"
)

// fakeVocab is the vocabulary of the fake model; fakeEOS ends its texts.
const (
	fakeVocab = 60
	fakeEOS   = 59
)

// fakeRunner is a model whose next token is a hash of all tokens that a row sees in the cache. A wrong block, a stale one,
// a wrong position or a row that runs before its past was written changes every token after it.
type fakeRunner struct {
	blockTokens int
	cells       []fakeCell // [slots] the cache memory
	rows        []fakeRow  // of the step being built
	total       atomic.Int64

	// overlap lets a step run when rng says so, or when it is collected; before that its answers are poison. Nil rng: not
	// before. With a worker, it runs there, at the same time as the step loop.
	overlap bool
	rng     *rand.Rand // with device held
	worker  chan func()
	device  sync.Mutex  // held by who does the device's work, without a worker
	queue   []func()    // guarded by device: what there is still to do, without a worker
	flying  []*fakeStep // submitted and not collected
	last    *fakeStep   // submitted last

	beforeRun func() error            // called before a step runs, if set
	broken    func(past []int32) bool // rows with this past get a non-finite logit, if set
	copies    [][2]kvcache.BlockID    // blocks copied
	steps     [][]int                 // rows of each add, for each step
}

// fakeCell is what a token leaves in the cache.
type fakeCell struct {
	token int32
	pos   int
}

// fakeRow is a row and the slots and positions that it sees, its own last.
type fakeRow struct {
	token int32
	past  []fakeSlot
}

type fakeSlot struct{ slot, pos int }

// fakeStep is a step that was submitted.
type fakeStep struct {
	rows   []fakeRow
	asked  *questions
	before *fakeStep     // the step before it
	ran    chan struct{} // closed when it has run
	err    error
	tokens []int32   // answers
	copied questions // answers
}

func (st *fakeStep) hasRun() bool {
	select {
	case <-st.ran:
		return true
	default:
		return false
	}
}

func newFakeRunner(blocks, blockTokens int) *fakeRunner {
	f := &fakeRunner{blockTokens: blockTokens, cells: make([]fakeCell, (blocks+1)*blockTokens)}
	for i := range f.cells {
		f.cells[i] = fakeCell{-1, -1}
	}
	return f
}

func (f *fakeRunner) begin() {
	f.rows = nil
	f.steps = append(f.steps, nil)
	f.work()
}

func (f *fakeRunner) add(tokens []int32, view []kvcache.Segment) error {
	var all []fakeSlot
	for _, s := range view {
		for i := range s.Len {
			at := s.Off + i
			all = append(all, fakeSlot{int(s.Blocks[at/f.blockTokens])*f.blockTokens + at%f.blockTokens, s.Pos + i})
		}
	}
	first := len(all) - len(tokens)
	for i, t := range tokens {
		f.rows = append(f.rows, fakeRow{t, all[:first+i+1]})
	}
	last := len(f.steps) - 1
	f.steps[last] = append(f.steps[last], len(tokens))
	return nil
}

func (f *fakeRunner) overlaps() bool { return f.overlap }

func (f *fakeRunner) submit(q *questions) error {
	if len(f.flying) > 1 {
		return errors.New("more than two steps are submitted")
	}
	for _, st := range f.flying {
		if st.asked == q {
			return errors.New("questions that are asked already")
		}
	}
	st := &fakeStep{rows: f.rows, asked: q, before: f.last, ran: make(chan struct{})}
	f.last = st
	f.rows = nil
	if !f.overlap {
		f.device.Lock()
		f.runStep(st)
		f.device.Unlock()
		if st.err != nil {
			return st.err
		}
	}
	f.flying = append(f.flying, st)
	if !f.overlap {
		return nil
	}
	for i := range q.out {
		q.out[i] = kernels.SampleOut{Token: -1000, Argmax: -1000, Finite: 1}
	}
	f.do(func() { f.runStep(st) })
	return nil
}

// do has something done after all before it.
func (f *fakeRunner) do(op func()) {
	if f.worker != nil {
		f.worker <- op
		return
	}
	f.device.Lock()
	f.queue = append(f.queue, op)
	f.device.Unlock()
	f.work()
}

// work does some of what there is to do.
func (f *fakeRunner) work() {
	f.device.Lock()
	defer f.device.Unlock()
	for f.rng != nil && len(f.queue) > 0 && f.rng.IntN(3) == 0 {
		f.workOnce()
	}
}

// workOnce is called with device held.
func (f *fakeRunner) workOnce() {
	do := f.queue[0]
	f.queue = f.queue[1:]
	do()
}

// sync does all that there is to do, and then op. Any goroutine may call it.
func (f *fakeRunner) sync(op func()) {
	if f.worker != nil {
		done := make(chan struct{})
		f.worker <- func() {
			op()
			close(done)
		}
		<-done
		return
	}
	f.device.Lock()
	defer f.device.Unlock()
	for len(f.queue) > 0 {
		f.workOnce()
	}
	op()
}

func (f *fakeRunner) collect() error {
	st := f.flying[0]
	f.flying = f.flying[1:]
	f.device.Lock()
	for f.worker == nil && len(f.queue) > 0 && !st.hasRun() {
		f.workOnce()
	}
	f.device.Unlock()
	<-st.ran
	q := st.asked
	copy(q.out, st.copied.out)
	copy(q.topTokens, st.copied.topTokens)
	copy(q.topLogits, st.copied.topLogits)
	return st.err
}

// runStep runs a step in the device's order.
func (f *fakeRunner) runStep(st *fakeStep) {
	defer func() {
		st.before = nil
		close(st.ran)
	}()
	st.copied = questions{topN: st.asked.topN}
	st.copied.rows = st.asked.rows
	st.copied.makeRoom()
	for i := range st.rows {
		if token := &st.rows[i].token; *token < 0 {
			if st.before == nil || int(-*token) > len(st.before.tokens) {
				st.err = fmt.Errorf("row %d wants answer %d of the step before, which there is not", i, -*token-1)
				return
			}
			*token = st.before.tokens[-*token-1]
		}
	}
	if st.err = f.compute(st.rows, st.asked, &st.copied); st.err != nil {
		return
	}
	for _, out := range st.copied.out {
		st.tokens = append(st.tokens, out.Token)
	}
}

// compute answers q in the memory of a.
func (f *fakeRunner) compute(rows []fakeRow, q, a *questions) error {
	if f.beforeRun != nil {
		if err := f.beforeRun(); err != nil {
			return err
		}
	}
	written := map[int]bool{}
	for _, r := range rows {
		own := r.past[len(r.past)-1]
		if written[own.slot] || own.slot < f.blockTokens {
			return fmt.Errorf("slot %d is written twice in a step, or is the null block's", own.slot)
		}
		written[own.slot] = true
		f.cells[own.slot] = fakeCell{r.token, own.pos}
	}
	f.total.Add(int64(len(rows)))
	for i, row := range q.rows {
		past := make([]int32, 0, len(rows[row].past))
		for at, s := range rows[row].past {
			if s.pos != at || f.cells[s.slot].pos != s.pos {
				return fmt.Errorf("row %d sees position %d at %d, written for %d", row, s.pos, at, f.cells[s.slot].pos)
			}
			past = append(past, f.cells[s.slot].token)
		}
		out := &a.out[i]
		*out = fakeSample(past, q.params[i])
		if f.broken != nil && f.broken(past) {
			out.Finite = 0
		}
		if filter := q.filters.Rows[i]; q.params[i].Want < 0 && filter != (kernels.SampleFilter{}) {
			out.Token = fakeFilter(out.Token, filter, &q.filters)
		}
		for k := range q.topN {
			a.topTokens[i*q.topN+k] = (out.Argmax + int32(k)) % fakeVocab
			a.topLogits[i*q.topN+k] = -float32(k)
		}
	}
	return nil
}

func (f *fakeRunner) copyBlock(from, to kvcache.BlockID) error {
	f.copies = append(f.copies, [2]kvcache.BlockID{from, to})
	f.do(func() {
		n := kvcache.BlockID(f.blockTokens)
		copy(f.cells[to*n:(to+1)*n], f.cells[from*n:(from+1)*n])
	})
	if !f.overlap {
		f.sync(func() {})
	}
	return nil
}

func (f *fakeRunner) readBlock(b kvcache.BlockID, dst []byte) error {
	f.sync(func() {
		for i := range f.blockTokens {
			cell := f.cells[int(b)*f.blockTokens+i]
			binary.LittleEndian.PutUint32(dst[8*i:], uint32(cell.token))
			binary.LittleEndian.PutUint32(dst[8*i+4:], uint32(int32(cell.pos)))
		}
	})
	return nil
}

func (f *fakeRunner) writeBlock(b kvcache.BlockID, src []byte) error {
	f.sync(func() {
		for i := range f.blockTokens {
			f.cells[int(b)*f.blockTokens+i] = fakeCell{
				int32(binary.LittleEndian.Uint32(src[8*i:])), int(int32(binary.LittleEndian.Uint32(src[8*i+4:]))),
			}
		}
	})
	return nil
}

// heap is memory for a tier of the fake model.
type heap struct{}

func (heap) AllocHost(bytes int) ([]byte, error) { return make([]byte, bytes), nil }
func (heap) FreeHost([]byte)                     {}

func (f *fakeRunner) computed() int64 { return f.total.Load() }

// fakeSample is the fake model's answer to a past.
func fakeSample(past []int32, p kernels.SampleRow) kernels.SampleOut {
	h := uint64(14695981039346656037) // FNV-1a
	mix := func(n uint64) { h = (h ^ n) * 1099511628211 }
	for _, t := range past {
		mix(uint64(t))
	}
	out := kernels.SampleOut{Argmax: int32(h >> 20 % fakeVocab), Logit: -float32(h >> 20 % 97), LogSumExp: 1, Finite: 1}
	switch {
	case p.Want >= 0:
		out.Token = p.Want
	case p.Temperature > 0:
		mix(p.Seed)
		mix(p.Counter)
		out.Token = int32(h >> 20 % fakeVocab)
	default:
		out.Token = out.Argmax
	}
	return out
}

// fakeFilter is what a filter makes of a token: something else for other counts and biases.
func fakeFilter(token int32, filter kernels.SampleFilter, lists *model.Filters) int32 {
	h := token + int32(filter.TopK)
	for _, b := range lists.Biases[filter.Bias : filter.Bias+filter.Biases] {
		h += 7 * b.Token
	}
	for _, c := range lists.Counts[filter.Count : filter.Count+filter.Counts] {
		h += 3 * (c.Token + 1) * (c.Output + 1)
	}
	return h % fakeVocab
}

// fakeContinue is what an engine must answer to a request of tokens: computed with no engine.
func fakeContinue(r Request, context int) (tokens []int32, finish FinishReason) {
	all := slices.Clone(r.Tokens)
	limit := len(all) + r.MaxTokens
	if r.MaxTokens == 0 {
		limit = context
	}
	var text strings.Builder
	for {
		next := fakeSample(all, kernels.SampleRow{
			Want: -1, Temperature: float32(r.Sampling.Temperature), Seed: r.Sampling.Seed, Counter: uint64(len(all)),
		}).Token
		all = append(all, next)
		tokens = all[len(r.Tokens):]
		ended := slices.Contains(r.StopTokens, next) || next == fakeEOS && !r.IgnoreEOS
		if !ended {
			text.WriteString(fakeText(next))
		}
		for _, s := range r.Stop {
			ended = ended || strings.Contains(text.String(), s)
		}
		switch {
		case ended:
			return tokens, FinishStop
		case len(all) == limit:
			return tokens, FinishLength
		}
	}
}

// fakeText is a token as text: letters, some of them two bytes long.
func fakeText(token int32) string {
	return string([]rune("abcdefghijklmnopqrstuvwxyzäöü")[token%29])
}

// fakeCodec is the fake model's text: a letter a token.
type fakeCodec struct{}

func (fakeCodec) encode(dst []int32, text string, first bool) []int32 {
	for _, b := range []byte(text) {
		dst = append(dst, int32(b)%fakeVocab)
	}
	return dst
}

func (fakeCodec) decoder() decoder { return fakeDecoder{} }

func (fakeCodec) render(messages []Message) (string, error) {
	if messages[0].Role == "nobody" {
		return "", errors.New("no such role")
	}
	return fmt.Sprint(messages), nil
}

type fakeDecoder struct{}

func (fakeDecoder) Next(token int32) string { return fakeText(token) }
func (fakeDecoder) Flush() string           { return "" }

// fakeOptions are the sizes of an engine over a fakeRunner.
type fakeOptions struct {
	blocks, blockTokens, sequences, stepTokens, queue, context int
	cache                                                      kvcache.Strategy
	overlap                                                    bool
	seed                                                       uint64 // of when the device works, if steps overlap; 0: when it must
	worker                                                     bool   // if steps overlap: it works all the time
}

func (o fakeOptions) scheduler(t testing.TB) (*scheduler, *fakeRunner) {
	if o.cache == nil {
		o.cache = kvcache.Standard{}
	}
	pool, err := kvcache.NewPool(o.blocks, o.blockTokens)
	require.NoError(t, err)
	manager, err := o.cache.NewManager(pool, kvcache.Geometry{
		BlockTokens: o.blockTokens, BytesPerToken: 8, MaxTokens: o.context, AnyPosition: true,
	})
	require.NoError(t, err)
	runner := newFakeRunner(o.blocks, o.blockTokens)
	if runner.overlap = o.overlap; o.seed > 0 {
		runner.rng = rand.New(rand.NewPCG(o.seed, 2))
	}
	if o.worker {
		runner.worker = make(chan func(), 4)
		go func() {
			for op := range runner.worker {
				op()
			}
		}()
		t.Cleanup(func() { close(runner.worker) })
	}
	l := limits{sequences: o.sequences, stepTokens: o.stepTokens, blockTokens: o.blockTokens}
	return newScheduler(l, o.cache.Name(), newStrict(manager), pool, runner), runner
}

// engine starts an engine over the fake runner, with its books checked after every step. It is closed with the test.
func (o fakeOptions) engine(t testing.TB) (*Engine, *fakeRunner) {
	s, runner := o.scheduler(t)
	e := &Engine{
		core:   newCore(s, o.queue),
		intake: &intake{text: fakeCodec{}, vocab: fakeVocab, context: o.context, eos: []int32{fakeEOS}},
		info:   Info{Memory: MemoryPlan{KVBytesPerToken: 8, BlockTokens: o.blockTokens, Blocks: o.blocks}},
	}
	e.core.check = true
	e.core.openTier(heap{}, 8*o.blockTokens, func(string) {})
	t.Cleanup(func() { e.Close() })
	return e, runner
}

func (o fakeOptions) start(t testing.TB) (*Engine, *fakeRunner) {
	e, runner := o.engine(t)
	e.core.start()
	return e, runner
}

// collect ranges over an answer to its end.
func collect(e *Engine, r Request) (tokens []Token, err error) {
	for tok, e := range e.Generate(context.Background(), r) {
		tokens, err = append(tokens, tok), e
	}
	return tokens, err
}

// randomTokens are n ordinary tokens of the fake model.
func randomTokens(rng *rand.Rand, n int) []int32 {
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = rng.Int32N(fakeVocab)
	}
	return tokens
}
