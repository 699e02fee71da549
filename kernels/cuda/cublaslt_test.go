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

// TestLtProducts: cuBLASLt gets what it can do and is faster at.
func TestLtProducts(t *testing.T) {
	p := WideProduct{X: 64, Out: 64, W: wideParts(1024), Rows: 256, Cols: 2048, Outputs: 1024, Store: AddBF16}
	want := LtProduct{X: 64, W: p.W.Data[0], Out: 64, Rows: 256, Cols: 2048, Outputs: 1024, Add: true}
	require.Equal(t, &want, p.Lt(p.Tiles(132)))
	p.Rows = 8192
	require.Nil(t, p.Lt(p.Tiles(132)), "many rows")
	p.Rows, p.W.Bias[0] = 256, 64
	require.Nil(t, p.Lt(p.Tiles(132)), "a bias")
	p.W = wideParts(512, 512)
	require.Nil(t, p.Lt(p.Tiles(132)), "two parts")
}
