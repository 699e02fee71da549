package kernels

import (
	"math"
	"unsafe"

	"github.com/quire-llm/quire/kernels/ref"
)

// maxTopN is the largest TopN.
const maxTopN = 64

func (c *cpu) Sample(p *SampleParams) error {
	ck := c.check("Sample")
	ck.sample(p)
	if ck.err != nil {
		return ck.err
	}
	chunks := ceilDiv(p.Vocab, sampleChunk)
	rows, sums, err := c.scan(p, chunks)
	if err != nil {
		return err
	}
	params, out := unsafe.Slice((*SampleRow)(c.args.sample.params), p.Rows), p.out()
	filtered := false
	for r := range p.Rows {
		logits := p.row(r)
		filtered = filtered || p.filtered(r)
		out[r] = pick(logits, &params[r], rows[r], sums[r*chunks:][:chunks])
		if n := p.TopN; n > 0 {
			ref.Top(p.TopTokens.int32s()[r*n:][:n], p.TopLogits.float32s()[r*n:][:n], logits)
		}
	}
	if filtered {
		return c.filter(p)
	}
	return nil
}

// row is the logits of a row.
func (p *SampleParams) row(r int) []float32 { return p.Logits.float32s()[r*p.Vocab:][:p.Vocab] }

// params is the list in device memory.
func (p *SampleParams) params() []SampleRow {
	return unsafe.Slice((*SampleRow)(p.Params.addr), p.Rows)
}

// sampleRows demands temperatures and tokens that mean something.
func (c *checker) sampleRows(p *SampleParams) {
	if c.err != nil || c.cuda {
		return
	}
	for r, row := range p.params() {
		if !(row.Temperature >= 0) || math.IsInf(float64(row.Temperature), 0) {
			c.failf("Params[%d].Temperature is %v", r, row.Temperature)
			return
		}
		if int(row.Want) >= p.Vocab {
			c.failf("Params[%d].Want is %d, Vocab %d", r, row.Want, p.Vocab)
			return
		}
	}
}

// rowMax is what the sampler knows of a row before it sums.
type rowMax struct {
	id     int32 // of the largest logit, the smallest of equals
	finite int32 // 0 if any logit is NaN or infinite
}

// scan finds each row's maximum and each chunk's sums. Rows that are filtered are greedy here: their tokens are yet to come.
func (c *cpu) scan(p *SampleParams, chunks int) ([]rowMax, []chunkSum, error) {
	units := p.Rows * chunks
	list, err := c.lists.get(c.memory, units*(sizeOf[chunkSum]()+sizeOf[chunkMax]())+p.Rows*(sizeOf[SampleRow]()+4+sizeOf[rowMax]()))
	if err != nil {
		return nil, nil, err
	}
	a := &c.args.sample
	a.logits, a.sums = p.Logits.addr, list
	a.params = unsafe.Add(a.sums, units*sizeOf[chunkSum]())
	a.maxima = unsafe.Add(a.params, p.Rows*sizeOf[SampleRow]())
	a.rowMax = unsafe.Add(a.maxima, units*sizeOf[chunkMax]())
	rows := unsafe.Slice((*rowMax)(unsafe.Add(a.rowMax, 4*p.Rows)), p.Rows)
	a.vocab, a.chunks, a.chunkLen = int64(p.Vocab), int64(chunks), sampleChunk

	params := unsafe.Slice((*SampleRow)(a.params), p.Rows)
	copy(params, p.params())
	for r := range params {
		if p.filtered(r) {
			params[r].Temperature = 0
		}
	}
	c.pool.run(c.set.maxima, &a.queue, units, grainOf(sampleChunk))
	maxima, values := unsafe.Slice((*chunkMax)(a.maxima), units), unsafe.Slice((*float32)(a.rowMax), p.Rows)
	for r := range rows {
		rows[r], values[r] = best(p.row(r), maxima[r*chunks:][:chunks])
	}
	c.pool.run(c.set.sums, &a.queue, units, grainOf(sampleChunk))
	return rows, unsafe.Slice((*chunkSum)(a.sums), units), nil
}

// best is the largest logit of a row, given that of each chunk.
func best(logits []float32, maxima []chunkMax) (rowMax, float32) {
	row, value, chunk := rowMax{finite: 1}, maxima[0].value, 0
	for i, m := range maxima {
		row.finite &= m.finite
		if m.value > value {
			value, chunk = m.value, i
		}
	}
	if row.finite == 0 {
		return row, value
	}
	for i, l := range logits[chunk*sampleChunk:] {
		if l == value {
			row.id = int32(chunk*sampleChunk + i)
			break
		}
	}
	return row, value
}

// pick takes a row's token.
func pick(logits []float32, p *SampleRow, top rowMax, sums []chunkSum) SampleOut {
	var plain, tempered float64
	for _, s := range sums {
		plain += s.plain
		tempered += s.tempered
	}
	value := float64(logits[top.id])
	out := SampleOut{Argmax: top.id, Finite: top.finite, LogSumExp: float32(value + math.Log(plain))}
	switch {
	case p.Want >= 0:
		out.Token = p.Want
	case p.Temperature == 0 || top.finite == 0:
		out.Token = top.id
	default:
		target := tempered * ref.Uniform(p.Seed, p.Counter)
		out.Token = invert(logits, float64(p.Temperature), value, target, sums)
	}
	out.Logit = logits[out.Token]
	return out
}

// invert is the first token at which the sum of the tempered weights exceeds target: the chunk is found by the chunks'
// sums, the token by adding up its weights. Where rounding leaves none, it is the last one with any weight.
func invert(logits []float32, temperature, max, target float64, sums []chunkSum) int32 {
	last := 0 // the last chunk with any weight
	for i, s := range sums {
		if s.tempered > 0 {
			last = i
		}
	}
	chunk := 0
	for chunk < last && sums[chunk].tempered <= target {
		target -= sums[chunk].tempered
		chunk++
	}
	first := chunk * sampleChunk
	token, sum := first, 0.0
	for i, l := range logits[first:min(first+sampleChunk, len(logits))] {
		weight := math.Exp((float64(l) - max) / temperature)
		if weight > 0 {
			token = first + i
		}
		if sum += weight; sum > target {
			break
		}
	}
	return int32(token)
}
