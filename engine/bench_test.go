package engine

import (
	"context"
	"fmt"
	"testing"
)

// BenchmarkDecode is a batch's tokens through the whole engine, with the built-in model.
func BenchmarkDecode(b *testing.B) {
	for _, batch := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			e := openTiny(b, func(o *Options) { o.CheckInvariants = false })
			requests := make([]Request, batch)
			for i := range requests {
				requests[i] = Request{Tokens: []int32{1, 2, 3, int32(i)}, MaxTokens: 128, IgnoreEOS: true}
			}
			for b.Loop() {
				if _, err := e.Batch(context.Background(), requests); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*batch*128)/b.Elapsed().Seconds(), "tok/s")
		})
	}
}
