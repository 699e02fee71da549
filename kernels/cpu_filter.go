package kernels

import (
	"unsafe"

	"github.com/quire-llm/quire/kernels/ref"
)

// Filtered rows. What looks at every logit is done by the set's kernels, which share a row among the threads; the steps
// between them are one thread's for each row. As many rows go together as there are threads.
//
//	edit     biases and penalties, in place, undone at the end: few logits change, and a copy would be of all
//	  peaks  each block's largest logit
//	aim      the largest logit of all, and what TopK asks for
//	  weigh  each block's weight
//	mark     what TopP, MinP and TypicalP ask for; a mark that all reach that may be left
//	  gather those that reach it
//	draw     leaves what the filter leaves, and draws

// filterWork is the rows that go together, and whose they are. It lies outside the Go heap.
type filterWork struct {
	filterArgs
	params SampleParams
}

// filtering is a row, and what of it the kernels need not know.
type filtering struct {
	filterRow
	row     int            // of the batch
	argmax  int32          // of the logits, once they are edited
	saved   unsafe.Pointer // [Biases+Counts] float32: the edited logits as they came, in the order of the edits
	need    uint64         // the weight that TopP asks for, or else TypicalP, where nothing is left out before
	mean    float64        // of all exponents, as near as the order of its sum allows, where need is TypicalP's
	loose   float32        // a mark that surely all reach that may be left
	enough  float32        // where guessed: the logits that reach it may have the needed weight
	guessed bool
}

// filters is the list in device memory, nil if there is none.
func (p *SampleParams) filters() []SampleFilter {
	if p.Filters.IsZero() {
		return nil
	}
	return unsafe.Slice((*SampleFilter)(p.Filters.addr), p.Rows)
}

// filtered says whether a row asks for more than a temperature.
func (p *SampleParams) filtered(r int) bool {
	return !p.Filters.IsZero() && p.filters()[r] != SampleFilter{} && p.params()[r].Want < 0
}

// edits are the row's biases and counts.
func (p *SampleParams) edits(f *SampleFilter) ([]TokenBias, []TokenCount) {
	biases := unsafe.Slice((*TokenBias)(p.Biases.addr), p.Biases.size/sizeOf[TokenBias]())
	counts := unsafe.Slice((*TokenCount)(p.Counts.addr), p.Counts.size/sizeOf[TokenCount]())
	return biases[f.Bias:][:f.Biases], counts[f.Count:][:f.Counts]
}

// out is what the sampler gives back.
func (p *SampleParams) out() []SampleOut { return unsafe.Slice((*SampleOut)(p.Out.addr), p.Rows) }

// filterTogether is the most rows that go together, whatever the threads: a row of 151,936 tokens takes 7 MB of memory.
const filterTogether = 16

// filter takes the tokens of the filtered rows anew; everything else of Out stands.
func (c *cpu) filter(p *SampleParams) error {
	together := min(c.pool.workers+1, p.Rows, filterTogether)
	if err := c.makeRoom(p, together); err != nil {
		return err
	}
	w, rows := &c.args.filter, 0
	for r := range p.Rows {
		if p.filtered(r) && p.out()[r].Finite != 0 {
			w.begin(rows, r)
			rows++
		}
		if rows == together || rows > 0 && r == p.Rows-1 {
			c.search(rows)
			c.pool.run(kernel{compute: drawRows}, &w.queue, rows, 1)
			rows = 0
		}
	}
	return nil
}

// makeRoom lays out the work for so many rows at a time.
func (c *cpu) makeRoom(p *SampleParams, together int) error {
	edits := 0
	for i := range p.filters() {
		f := &p.filters()[i]
		edits = max(edits, int(f.Biases)+int(f.Counts))
	}
	bytes := rowBytes(p.Vocab, edits)
	rows, err := c.rooms.get(c.memory, together*bytes)
	if err != nil {
		return err
	}
	c.args.filter = filterWork{params: *p, filterArgs: filterArgs{
		rows: rows, rowBytes: int64(bytes),
		vocab: int64(p.Vocab), chunks: int64(ceilDiv(p.Vocab, sampleChunk)), chunkLen: sampleChunk,
	}}
	return nil
}

// rowBytes is the memory of a row with so many edits: a filtering, then what begin gives out of it.
func rowBytes(vocab, edits int) int {
	blocks, chunks := ceilDiv(vocab, filterBlock), ceilDiv(vocab, sampleChunk)
	arrays := 2*vocab*sizeOf[candidate]() + 8*(2*chunks+blocks) + 4*(blocks+edits)
	return (sizeOf[filtering]() + arrays + 63) &^ 63
}

// begin lays out place i for a row, and says what its filter needs of the kernels.
func (w *filterWork) begin(i, row int) {
	p := &w.params
	f, temperature := &p.filters()[row], p.params()[row].Temperature
	s := w.at(i)
	*s = filtering{row: row, argmax: p.out()[row].Argmax}
	s.logits, s.temperature = unsafe.Pointer(unsafe.SliceData(p.row(row))), float64(temperature)

	at := unsafe.Add(unsafe.Pointer(s), sizeOf[filtering]())
	take := func(asked bool, n, size int) (array unsafe.Pointer) {
		if asked {
			array, at = at, unsafe.Add(at, n*size)
		}
		return array
	}
	drawn, few, light := temperature > 0, f.few(p.Vocab), f.least() == 1 // light: MinP leaves out none
	blocks, chunks := ceilDiv(p.Vocab, filterBlock), int(w.chunks)
	s.room = take(drawn && (few || f.nucleus() || f.typical() || !light), 2*p.Vocab, sizeOf[candidate]())
	s.counts = take(s.room != nil, chunks, 8)
	s.sums = take(drawn && !few && (f.nucleus() || light), blocks, 8)
	s.moments = take(s.sums != nil && f.typical() && !f.nucleus(), chunks, 8)
	s.peaks = take(drawn && few || f.Biases+f.Counts > 0, blocks, 4)
	s.saved = take(true, int(f.Biases+f.Counts), 4)
}

// search does all but the last step for the rows that have begun.
func (c *cpu) search(rows int) {
	w := &c.args.filter
	c.pool.run(kernel{compute: editRows}, &w.queue, rows, 1)
	c.pass(c.set.peaks, rows, func(r *filterRow) bool { return r.peaks != nil })
	c.pool.run(kernel{compute: aimRows}, &w.queue, rows, 1)
	c.pass(c.set.weigh, rows, func(r *filterRow) bool { return r.sums != nil })
	c.pool.run(kernel{compute: markRows}, &w.queue, rows, 1)
	c.pass(c.set.gather, rows, func(r *filterRow) bool { return r.room != nil })
	if w.missed(rows) {
		c.pass(c.set.gather, rows, func(r *filterRow) bool { return r.room != nil })
	}
}

// pass runs a kernel over the rows if any asks for it.
func (c *cpu) pass(k kernel, rows int, asks func(*filterRow) bool) {
	w := &c.args.filter
	for i := range rows {
		if asks(w.row(i)) {
			c.pool.run(k, &w.queue, rows*int(w.chunks), 1)
			return
		}
	}
}

// at is row i of those that go together.
func (w *filterWork) at(i int) *filtering { return (*filtering)(unsafe.Pointer(w.row(i))) }

// The steps between the kernels. A unit is a row.
func editRows(args unsafe.Pointer) { eachRow(args, (*filtering).edit) }
func aimRows(args unsafe.Pointer)  { eachRow(args, (*filtering).aim) }
func markRows(args unsafe.Pointer) { eachRow(args, (*filtering).setMark) }
func drawRows(args unsafe.Pointer) { eachRow(args, (*filtering).draw) }

func eachRow(args unsafe.Pointer, step func(*filtering, *SampleParams)) {
	w := (*filterWork)(args)
	for lo, hi := w.claim(); lo < hi; lo, hi = w.claim() {
		for i := lo; i < hi; i++ {
			step(w.at(i), &w.params)
		}
	}
}

// edit applies biases, then penalties.
func (s *filtering) edit(p *SampleParams) {
	f, logits := &p.filters()[s.row], p.row(s.row)
	biases, counts := p.edits(f)
	saved := unsafe.Slice((*float32)(s.saved), len(biases)+len(counts))
	for i, b := range biases {
		l := &logits[b.Token]
		saved[i] = *l
		*l = ref.Clamp(*l + b.Bias)
	}
	for i, c := range counts {
		l := &logits[c.Token]
		saved[len(biases)+i] = *l
		*l = ref.Clamp(ref.Penalize(*l, f.RepetitionPenalty, f.PresencePenalty, f.FrequencyPenalty, c.Output))
	}
}

// undo brings the logits back, the last edit first: a token may have several.
func (s *filtering) undo(p *SampleParams) {
	biases, counts := p.edits(&p.filters()[s.row])
	logits, saved := p.row(s.row), unsafe.Slice((*float32)(s.saved), len(biases)+len(counts))
	for i := len(counts) - 1; i >= 0; i-- {
		logits[counts[i].Token] = saved[len(biases)+i]
	}
	for i := len(biases) - 1; i >= 0; i-- {
		logits[biases[i].Token] = saved[i]
	}
}

// draw takes the row's token.
func (s *filtering) draw(p *SampleParams) {
	row, out, logits := &p.params()[s.row], &p.out()[s.row], p.row(s.row)
	switch uniform := ref.Uniform(row.Seed, row.Counter); {
	case s.room != nil:
		out.Token = pickOf(s.keep(p), uniform)
	case s.sums != nil:
		out.Token = s.pickOfAll(logits, uniform)
	default:
		out.Token = s.argmax
	}
	s.undo(p)
	out.Logit = logits[out.Token]
}

// passed is the weight of the tokens before the one that is drawn, and of so much of that one as is less than all of it.
func passed(uniform float64, total uint64) uint64 {
	return min(uint64(uniform*float64(total)), total-1)
}

// pickOf draws one of those that are left.
func pickOf(left []candidate, uniform float64) int32 {
	target := passed(uniform, weight(left))
	i := 0
	for sum := left[0].weight; sum <= target; sum += left[i].weight {
		i++
	}
	return left[i].id
}

// pickOfAll draws one of all tokens, of which the blocks' weights are known.
func (s *filtering) pickOfAll(logits []float32, uniform float64) int32 {
	blocks := s.blockSums(len(logits))
	target := passed(uniform, total(blocks))
	block := 0
	for ; target >= blocks[block]; block++ {
		target -= blocks[block]
	}
	id := block * filterBlock
	for sum := s.weight(logits[id]); sum <= target; sum += s.weight(logits[id]) {
		id++
	}
	return int32(id)
}
