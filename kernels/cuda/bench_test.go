//go:build linux && cgo && (amd64 || arm64)

package cuda

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkLaunch is the host's cost of one launch without the driver's own: the stub only counts. Each step launches 200
// kernels with 96 bytes of arguments and ends with a flush; launches says how many go to the driver in one call.
func BenchmarkLaunch(b *testing.B) {
	type params struct {
		Buffers [8]Ptr
		Sizes   [8]int32
	}
	for _, launches := range []int{1, 4, 16, 32, 200} {
		b.Run(fmt.Sprintf("launches=%d", launches), func(b *testing.B) {
			r := newRig(b)
			s, err := r.context.OpenStream(StreamOptions{Launches: launches})
			require.NoError(b, err)
			m, err := r.context.OpenModule("bench", []byte("STUB gemm:96"))
			require.NoError(b, err)
			f, err := m.Function("gemm")
			require.NoError(b, err)
			r.quiet = 1
			const step = 200
			p := params{}
			shape := Shape{Grid: Dim{X: 132}, Block: Dim{X: 256}, Early: true}
			b.ReportAllocs()
			for b.Loop() {
				for i := range step {
					p.Sizes[0] = int32(i)
					if err := Launch(s, f, shape, &p); err != nil {
						b.Fatal(err)
					}
				}
				if err := s.Flush(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*step), "ns/launch")
			require.Equal(b, int64(0), r.launches%step)
			r.quiet = 0
			require.NoError(b, m.Close())
			require.NoError(b, s.Close())
		})
	}
}

// BenchmarkCall is the host's cost of one call of the driver: what Go and C add to it.
func BenchmarkCall(b *testing.B) {
	r := newRig(b)
	e := r.event(EventOptions{})
	r.quiet = 1
	for b.Loop() {
		if _, err := e.Done(); err != nil {
			b.Fatal(err)
		}
	}
	r.quiet = 0
}
