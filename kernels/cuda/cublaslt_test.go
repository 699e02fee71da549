//go:build linux && cgo && (amd64 || arm64)

package cuda

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOpenLt: a file that is not there, and one that is another library, are not cuBLASLt.
func TestOpenLt(t *testing.T) {
	for library, want := range map[string]string{"./no such file": "no such file", "libdl.so.2": "it has no cublasLtCreate"} {
		_, err := OpenLt(library, 0, 0)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorContains(t, err, want)
	}
}

// TestLtProducts: cuBLASLt gets what it can do and is faster at; parts that lie one after the other are one product.
func TestLtProducts(t *testing.T) {
	p := WideProduct{X: 256, Out: 1 << 20, W: wideParts(1024), Rows: 256, Cols: 2048, Outputs: 1024, Store: AddBF16}
	first := p.W.Data[0]
	want := LtProduct{X: 256, W: first, Out: 1 << 20, Rows: 256, Cols: 2048, Outputs: 1024, OutStride: 1024, Add: true}
	require.Equal(t, []LtProduct{want}, p.LtProducts(nil))

	p.W = wideParts(512, 256, 256)
	p.W.Data = [MaxParts]uint64{first, first + 2*512*2048, 3 << 30, 3 << 30}
	one, other := want, want
	one.Outputs, other.Outputs = 768, 256
	other.W, other.Out = 3<<30, 1<<20+2*768
	require.Equal(t, []LtProduct{one, other}, p.LtProducts(nil), "two runs")
	p.Store = StoreF32
	require.Equal(t, uint64(1<<20+4*768), p.LtProducts(nil)[1].Out, "rows of float32")

	require.True(t, LtTakes(LtLeastRowsOfMany, ManyOutputs))
	require.False(t, LtTakes(LtLeastRowsOfMany-1, ManyOutputs))
	require.False(t, LtTakes(LtLeastRows-1, ManyOutputs-1))
	for name, change := range map[string]func(p *WideProduct){
		"few rows":    func(p *WideProduct) { p.Rows = LtLeastRows - 1 },
		"a bias":      func(p *WideProduct) { p.W.Bias[0] = 256 },
		"an address":  func(p *WideProduct) { p.X = 16 },
		"a part's":    func(p *WideProduct) { p.W.Data[2] += 16 },
		"odd columns": func(p *WideProduct) { p.Cols = 2047 },
		"a gate":      func(p *WideProduct) { p.Gated = true },
	} {
		odd := p
		change(&odd)
		require.Nil(t, odd.LtProducts(nil), name)
	}
}
