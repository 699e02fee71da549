package kernels

import (
	"fmt"
	"testing"
	"unsafe"
)

// BenchmarkPool is what it costs to start an operation that has nothing to compute, on one thread and on two.
func BenchmarkPool(b *testing.B) {
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			p := newPool(threads)
			defer p.close()
			q := new(queue)
			claimAll := func(args unsafe.Pointer) {
				for lo, hi := q.claim(); lo < hi; lo, hi = q.claim() {
				}
			}
			for b.Loop() {
				p.run(kernel{compute: claimAll}, q, 64, 1)
			}
		})
	}
}
