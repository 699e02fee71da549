package kernels

import "math"

// sampleFilters demands filters that mean something.
func (c *checker) sampleFilters(p *SampleParams) {
	if c.err != nil || p.Filters.IsZero() {
		return
	}
	c.buffer("Filters", p.Filters, p.Rows, sizeOf[SampleFilter]()/4, 4)
	c.buffer("Biases", p.Biases, 0, 2, 4)
	c.buffer("Counts", p.Counts, 0, 2, 4)
	if p.Vocab >= 1<<24 {
		c.failf("Vocab is %d, filters take less than %d", p.Vocab, 1<<24)
	}
	if c.err != nil || c.cuda {
		return
	}
	for r := range p.filters() {
		c.sampleFilter(p, r, &p.filters()[r])
	}
}

func (c *checker) sampleFilter(p *SampleParams, r int, f *SampleFilter) {
	part := func(field string, value float32) {
		if !(value >= 0 && value <= 1) {
			c.failf("Filters[%d].%s is %v, want 0 to 1", r, field, value)
		}
	}
	part("TopP", f.TopP)
	part("MinP", f.MinP)
	part("TypicalP", f.TypicalP)
	list := func(field string, first, n int32, size int) bool {
		if first < 0 || n < 0 || int(first)+int(n) > size {
			c.failf("Filters[%d] has %s %d to %d of %d", r, field, first, int(first)+int(n), size)
			return false
		}
		return true
	}
	switch {
	case f.TopK < 0:
		c.failf("Filters[%d].TopK is %d", r, f.TopK)
	case !(f.RepetitionPenalty >= 0) || math.IsInf(float64(f.RepetitionPenalty), 0):
		c.failf("Filters[%d].RepetitionPenalty is %v", r, f.RepetitionPenalty)
	case !finite(f.PresencePenalty) || !finite(f.FrequencyPenalty):
		c.failf("Filters[%d] has penalties %v and %v", r, f.PresencePenalty, f.FrequencyPenalty)
	}
	if !list("Biases", f.Bias, f.Biases, p.Biases.size/sizeOf[TokenBias]()) ||
		!list("Counts", f.Count, f.Counts, p.Counts.size/sizeOf[TokenCount]()) {
		return
	}
	biases, counts := p.edits(f)
	for i, b := range biases {
		if uint(b.Token) >= uint(p.Vocab) || b.Bias != b.Bias || b.Bias > math.MaxFloat32 {
			c.failf("Filters[%d], bias %d: token %d, %v", r, i, b.Token, b.Bias)
		}
	}
	for i, n := range counts {
		if uint(n.Token) >= uint(p.Vocab) || n.Output < 0 {
			c.failf("Filters[%d], count %d: token %d, %d times", r, i, n.Token, n.Output)
		}
	}
}

// finite reports whether x is a number and not infinite.
func finite(x float32) bool { return x-x == 0 }
