package cuda

// LtProduct is out[r] = W · x[r], added to what is there or not, as cuBLASLt takes it.
type LtProduct struct {
	X, W, Out                      uint64 // [Rows, Cols] and [Outputs, Cols] bfloat16; [Rows, OutStride]
	Rows, Cols, Outputs, OutStride int
	Floats                         bool // out is float32, not bfloat16
	Add                            bool
}

// LtLeastRows is the fewest rows of a product that cuBLASLt is faster at, and LtLeastRowsOfMany that of one with many outputs: see
// the table of products in docs/performance.md.
const (
	LtLeastRows       = 33
	LtLeastRowsOfMany = 17
)

// LtTakes says whether cuBLASLt is faster at products of a shape.
func LtTakes(rows, outputs int) bool {
	return rows >= LtLeastRows || rows >= LtLeastRowsOfMany && outputs >= ManyOutputs
}

// LtMostGated is the most rows of an MLP's first product that is left to it, though gate and up are then written and read again.
const LtMostGated = 1024

// ltAlign is what the library's choice of an algorithm takes addresses to be multiples of.
const ltAlign = 256

// LtProducts appends the product that p describes for cuBLASLt to an empty slice: one for each run of parts that lie one after the
// other, MaxParts at most. nil where the library cannot take it, or not well: with a bias, or odd sizes or addresses.
func (p *WideProduct) LtProducts(products []LtProduct) []LtProduct {
	if !LtTakes(p.Rows, p.Outputs) || p.Cols%Vector != 0 || p.Outputs%Vector != 0 || p.X%ltAlign != 0 || p.Gated {
		return nil
	}
	size := 2
	if p.Store == StoreF32 {
		size = 4
	}
	first, next := 0, uint64(0)
	for i, end := range p.W.Ends {
		n := int(end) - first
		if n == 0 {
			continue // a part that is not there
		}
		at, out := p.W.Data[i], p.Out+uint64(size*first)
		if p.W.Bias[i] != 0 {
			return nil
		}
		if len(products) > 0 && at == next {
			products[len(products)-1].Outputs += n
		} else {
			if n%Vector != 0 || (at|out)%ltAlign != 0 {
				return nil
			}
			products = append(products, LtProduct{
				X: p.X, W: at, Out: out, Rows: p.Rows, Cols: p.Cols, Outputs: n, OutStride: p.Outputs,
				Floats: p.Store == StoreF32, Add: p.Store == AddBF16,
			})
		}
		first, next = int(end), at+uint64(2*n*p.Cols)
	}
	return products
}
