package kernels

import (
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/quire-llm/quire/kernels/ref"
)

// Filtered rows, in Go for every kernel set: one row is a unit, and all that is long is one look at each logit. Nothing
// is sorted but what is left at the end.

// filterArgs: unit u is row u, left alone unless it is filtered.
type filterArgs struct {
	queue
	params SampleParams
	rooms  unsafe.Pointer // a room for each thread
	taken  int64          // rooms
}

// A thread's room is [Vocab] candidate, then [Vocab] float32.
func (p *SampleParams) roomBytes() int { return p.Vocab * (sizeOf[candidate]() + 4) }

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

// filter takes the tokens of the filtered rows anew; everything else of Out stands.
func (c *cpu) filter(p *SampleParams) error {
	rooms, err := c.rooms.get(c.memory, (c.pool.workers+1)*p.roomBytes())
	if err != nil {
		return err
	}
	a := &c.args.filter
	a.params, a.rooms, a.taken = *p, rooms, 0
	c.pool.run(filterRows, &a.queue, p.Rows, 1)
	return nil
}

// filterRows is the kernel.
func filterRows(args unsafe.Pointer) {
	a := (*filterArgs)(args)
	p := &a.params
	room := unsafe.Add(a.rooms, int(atomic.AddInt64(&a.taken, 1)-1)*p.roomBytes())
	candidates := unsafe.Slice((*candidate)(room), p.Vocab)
	edited := unsafe.Slice((*float32)(unsafe.Add(room, p.Vocab*sizeOf[candidate]())), p.Vocab)
	out := unsafe.Slice((*SampleOut)(p.Out.addr), p.Rows)
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		for r := lo; r < hi; r++ {
			if p.filtered(r) && out[r].Finite != 0 {
				out[r].Token = p.filterRow(r, out[r].Argmax, candidates, edited)
				out[r].Logit = p.row(r)[out[r].Token]
			}
		}
	}
}

// filterRow takes one row's token. candidates and edited have room for the vocabulary.
func (p *SampleParams) filterRow(r int, argmax int32, candidates []candidate, edited []float32) int32 {
	row, f, logits := &p.params()[r], &p.filters()[r], p.row(r)
	if f.Biases+f.Counts > 0 {
		copy(edited, logits)
		p.edit(edited, f)
		logits, argmax = edited, largest(edited, argmax)
	}
	if row.Temperature == 0 || math.IsInf(float64(logits[argmax]), -1) {
		return argmax
	}
	left := keep(candidates, logits, logits[argmax], row.Temperature, f)
	var total, sum uint64
	for i := range left {
		total += left[i].weight
	}
	target := min(uint64(ref.Uniform(row.Seed, row.Counter)*float64(total)), total-1)
	i := 0
	for sum = left[0].weight; sum <= target; sum += left[i].weight {
		i++
	}
	return left[i].id
}

// edit applies biases, then penalties.
func (p *SampleParams) edit(logits []float32, f *SampleFilter) {
	biases, counts := p.edits(f)
	for _, b := range biases {
		logits[b.Token] = ref.Clamp(logits[b.Token] + b.Bias)
	}
	for _, c := range counts {
		l := &logits[c.Token]
		*l = ref.Clamp(ref.Penalize(*l, f.RepetitionPenalty, f.PresencePenalty, f.FrequencyPenalty, c.Output))
	}
}

// largest is the smallest id of the largest logit, or otherwise if all are −Inf.
func largest(logits []float32, otherwise int32) int32 {
	value := float32(math.Inf(-1))
	for id, l := range logits {
		if l > value {
			value, otherwise = l, int32(id)
		}
	}
	return otherwise
}
