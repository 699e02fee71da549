package model

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestArena(t *testing.T) {
	var a arena
	var all [][]byte
	for i, n := range []int{0, 1, 63, 64, 65, 1000, 3 << 20, arenaRegionBytes - 64, arenaRegionBytes, arenaRegionBytes + 1, 7} {
		b, err := a.alloc(n)
		require.NoError(t, err)
		require.Len(t, b, n)
		require.Equal(t, n, cap(b))
		if n > 0 {
			require.Zero(t, uintptr(unsafe.Pointer(&b[0]))%arenaAlignBytes)
			require.Zero(t, b[0]|b[n-1], "not zeroed, or another's")
			b[0], b[n-1] = byte(i+1), byte(i+1)
		}
		all = append(all, b)
	}
	for i, b := range all {
		if len(b) > 0 {
			require.Equal(t, []byte{byte(i + 1), byte(i + 1)}, []byte{b[0], b[len(b)-1]}, "allocation %d was overwritten", i)
		}
	}
	require.NoError(t, a.release())
	require.NoError(t, a.release())
	b, err := a.alloc(8) // usable again
	require.NoError(t, err)
	require.Len(t, b, 8)
	require.NoError(t, a.release())
}
