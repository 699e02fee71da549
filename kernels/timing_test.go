package kernels

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is measured runs once more than it is measured, on the device's goroutine, and an error ends it.
func TestTime(t *testing.T) {
	d, err := Open(Options{Device: "cpu", Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	calls := 0
	took, err := d.Time(t.Context(), 3, func(ops Ops) error {
		require.NotNil(t, ops)
		calls++
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 4, calls)
	require.Len(t, took, 3)
	for _, one := range took {
		require.Positive(t, one)
	}

	broken := errors.New("broken")
	_, err = d.Time(t.Context(), 3, func(Ops) error { return broken })
	require.ErrorIs(t, err, broken)
	_, err = d.Time(t.Context(), 0, func(Ops) error { return nil })
	require.EqualError(t, err, "kernels: measuring operations: 0 runs, want at least 1")
}
