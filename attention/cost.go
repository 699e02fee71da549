package attention

// The cost model of shared items counts in bytes of keys and values that a row alone reads in the time. The constants are
// those of two threads of Zen 4, with this package's benchmark: a row alone reads 29 GB/s and thread from the third-level
// cache, a pass over shared tokens takes 17 ns for a token and head, and 4.3 ns for each query; a row's sums of a stretch
// cost 0.4 µs. From memory a row alone reads less, and more is gained than this says.
const (
	passQueries   = 64       // queries (row × head of a group) that one pass over shared tokens takes
	stretchTokens = 512      // tokens whose sums a row keeps apart
	passWorth     = 0.7      // of a pass that is left out: between what one row's costs, less its queries, and a whole tile's
	sumsCost      = 16       // times their bytes: a row's sums are written, read and merged
	itemCost      = 64 << 10 // the threads meet once more
)

// On a GPU a row's sums are written and read once for each part of its walk, shared items need a kernel of their own in every
// layer, and what few rows read again comes from the second-level cache, at about twice the speed of memory.
// Constants of an H200, the ones with which the choices cost least in bench/results/h200/cascade_table.md.
const (
	gpuCachedBytes = 48 << 20 // of a layer's shared tokens that stay in the second-level cache
	gpuCachedWorth = 0.5      // of reading them again
	gpuItemCost    = 90 << 20 // bytes that are read while the kernel starts and ends
)

// rowsOfPass is the rows that share a pass over shared tokens.
func (s Shape) rowsOfPass() int { return max(1, passQueries*s.KVHeads/s.Heads) }

// passesOf is how often so many rows of one span, alone, pass over their past.
func (s Shape) passesOf(rows int) int {
	each := s.rowsOfPass()
	if !s.GPU { // whose kernels take a span's rows as tiles of their own
		each = min(tileRows, each)
	}
	return (rows + each - 1) / each
}

// gain is what is saved where rows walk shared tokens in shared passes and not in their own.
func (s Shape) gain(tokens, rows int, own, shared float64) float64 {
	sums := rows * s.Heads * ((tokens + stretchTokens - 1) / stretchTokens)
	if s.GPU {
		worth := 1.0
		if tokens*s.TokenBytes < gpuCachedBytes {
			worth = gpuCachedWorth
		}
		return worth*(own-shared)*float64(tokens*s.TokenBytes) - float64(2*sums*4*(s.HeadDim+2))
	}
	return passWorth*(own-shared)*float64(tokens*s.TokenBytes) - sumsCost*float64(sums*4*(s.HeadDim+32))
}

// joins says whether a span of so many rows gains by sharing at all: a long prompt's passes are full anyway.
func (s Shape) joins(rows int) bool {
	return s.gain(stretchTokens, rows, float64(s.passesOf(rows)), float64(rows)/float64(s.rowsOfPass())) > 0
}

// pays says whether a group gains by sharing so many tokens.
func (p *Plan) pays(group []int32, tokens int, shape Shape) bool {
	rows, own := 0, 0
	for _, i := range group {
		n := p.sharing.spans[i].rows
		rows, own = rows+n, own+shape.passesOf(n)
	}
	shared := (rows + shape.rowsOfPass() - 1) / shape.rowsOfPass()
	cost := float64(itemCost)
	if shape.GPU {
		cost = gpuItemCost
	}
	return shape.gain(tokens, rows, float64(own), float64(shared)) > cost
}
