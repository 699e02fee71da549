package kernels

import (
	"math"
	"unsafe"

	"github.com/quire-llm/quire/kernels/ref"
)

// maxTopN is the largest TopN.
const maxTopN = 64

func (c *cpu) Sample(p *SampleParams) error {
	ck := checker{op: "Sample"}
	ck.positive("Vocab", p.Vocab)
	ck.buffer("Logits", p.Logits, p.Rows, p.Vocab, 4)
	ck.buffer("Params", p.Params, p.Rows, int(unsafe.Sizeof(SampleRow{}))/8, 8)
	ck.buffer("Out", p.Out, p.Rows, int(unsafe.Sizeof(SampleOut{}))/4, 4)
	if p.TopN < 0 || p.TopN > min(maxTopN, p.Vocab) {
		ck.failf("TopN is %d, want 0 to %d", p.TopN, min(maxTopN, p.Vocab))
	}
	ck.buffer("TopTokens", p.TopTokens, p.Rows, p.TopN, 4)
	ck.buffer("TopLogits", p.TopLogits, p.Rows, p.TopN, 4)
	ck.sampleRows(p)
	if ck.err != nil {
		return ck.err
	}
	chunks := ceilDiv(p.Vocab, sampleChunk)
	maxima, stats, err := c.scan(p, chunks)
	if err != nil {
		return err
	}
	params, out := p.params(), unsafe.Slice((*SampleOut)(p.Out.addr), p.Rows)
	logits := p.Logits.float32s()
	for r := range p.Rows {
		out[r] = pick(logits[r*p.Vocab:][:p.Vocab], &params[r], maxima[r], stats[r*chunks:][:chunks])
		if n := p.TopN; n > 0 {
			ref.Top(p.TopTokens.int32s()[r*n:][:n], p.TopLogits.float32s()[r*n:][:n], logits[r*p.Vocab:][:p.Vocab])
		}
	}
	return nil
}

// params is the list in device memory.
func (p *SampleParams) params() []SampleRow {
	return unsafe.Slice((*SampleRow)(p.Params.addr), p.Rows)
}

// sampleRows demands temperatures and tokens that mean something.
func (c *checker) sampleRows(p *SampleParams) {
	if c.err != nil {
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

// scan finds each row's maximum and each chunk's sums.
func (c *cpu) scan(p *SampleParams, chunks int) ([]chunkMax, []chunkSum, error) {
	units := p.Rows * chunks
	const size = int(unsafe.Sizeof(chunkMax{}))
	// A chunk's maximum is read before its sums are written, so they share their memory.
	list, err := c.lists.get(c.memory, (p.Rows+units)*size)
	if err != nil {
		return nil, nil, err
	}
	maxima, stats := list, unsafe.Add(list, p.Rows*size)
	a := &c.args.sample
	a.logits, a.params, a.maxima, a.stats = p.Logits.addr, p.Params.addr, maxima, stats
	a.vocab, a.chunks = int64(p.Vocab), int64(chunks)
	c.pool.run(c.set.maxima, &a.queue, units, 4)

	rows := unsafe.Slice((*chunkMax)(maxima), p.Rows)
	for r := range rows {
		of := unsafe.Slice((*chunkMax)(stats), units)[r*chunks:][:chunks]
		best := of[0]
		for _, m := range of[1:] {
			finite := best.finite & m.finite
			if m.value > best.value {
				best = m
			}
			best.finite = finite
		}
		rows[r] = best
	}
	c.pool.run(c.set.sums, &a.queue, units, 4)
	return rows, unsafe.Slice((*chunkSum)(stats), units), nil
}

// pick takes a row's token.
func pick(logits []float32, p *SampleRow, top chunkMax, sums []chunkSum) SampleOut {
	var plain, tempered float64
	for _, s := range sums {
		plain += s.plain
		tempered += s.tempered
	}
	out := SampleOut{Argmax: top.id, Finite: top.finite, LogSumExp: float32(float64(top.value) + math.Log(plain))}
	switch {
	case p.Want >= 0:
		out.Token = p.Want
	case p.Temperature == 0 || top.finite == 0:
		out.Token = top.id
	default:
		target := tempered * ref.Uniform(p.Seed, p.Counter)
		out.Token = invert(logits, float64(p.Temperature), float64(top.value), target, sums)
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
