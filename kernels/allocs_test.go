package kernels

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNoAllocations runs each operation, through Do, in the steady state: one row, and enough to wake the workers.
func TestNoAllocations(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		for _, rows := range []int{1, 40} {
			r := newRig(t, set, 2)
			operations := r.fixture(rows).operations()
			for name, run := range r.int8Operations(rows) {
				operations[name+"/int8"] = run
			}
			from, to, host := r.floats(100), r.floats(100), make([]byte, 400)
			operations["Write"] = func(o Ops) error { return o.Write(to, host) }
			operations["Read"] = func(o Ops) error { return o.Read(host, from) }
			operations["Copy"] = func(o Ops) error { return o.Copy(to, from) }
			for name, run := range operations {
				t.Run(fmt.Sprintf("%s/rows=%d", name, rows), func(t *testing.T) {
					var err error
					ctx := context.Background()
					// Enough runs that the Go runtime's own allocations, when it starts a thread, are less than one each.
					got := testing.AllocsPerRun(100, func() {
						if e := r.dev.Do(ctx, run); e != nil {
							err = e
						}
					})
					require.NoError(t, err)
					require.Zero(t, got, "allocations of one call")
				})
			}
		}
	})
}
