//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGPUTime: what is measured is captured once, and replayed between events; nothing is left of it, also after an error.
func TestGPUTime(t *testing.T) {
	s, d := openStub(t)
	r := newRig(t, "go", 1)
	f := r.gpuFixture(3)
	took, err := d.Time(t.Context(), 2, func(ops Ops) error { return ops.NormQKV(&f.NormQKV) })
	require.NoError(t, err)
	require.Len(t, took, 2)
	var kinds []string
	for _, line := range s.lines() {
		kind, rest, _ := strings.Cut(line, " ")
		switch {
		case kind == "event" && strings.Contains(rest, "on stream"), kind == "capture", kind == "upload", kind == "graph" && strings.HasPrefix(rest, "exec"):
			kinds = append(kinds, kind)
		}
	}
	require.Equal(t, []string{"capture", "upload", "graph", "event", "graph", "event", "event", "graph", "event"}, kinds)

	broken, calls := errors.New("broken"), 0
	_, err = d.Time(t.Context(), 2, func(Ops) error {
		if calls++; calls == 2 { // while it is captured
			return broken
		}
		return nil
	})
	require.ErrorIs(t, err, broken)
}
