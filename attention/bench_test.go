package attention

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

// qwen is a layer of Qwen3-0.6B over a bfloat16 cache.
var qwen = Shape{Heads: 16, KVHeads: 8, HeadDim: 128, TokenBytes: 4096}

// BenchmarkShared is one layer of Qwen3-0.6B for spans of sequences that share tokens and have 64 of their own, over the
// same blocks: each iteration attends once ordinarily and once with shared items, with the caches of 28 layers in turn.
// best-ratio is of the fastest of each, for a machine that others use.
func BenchmarkShared(b *testing.B) {
	for _, c := range []struct{ sequences, shared, rows int }{
		{16, 1024, 1}, {16, 4096, 1}, {2, 64, 1}, {2, 128, 1}, {2, 1024, 1}, {16, 64, 1}, {16, 128, 1},
		{64, 1024, 1}, {16, 1024, 4}, {16, 1024, 16}, {8, 1024, 64},
	} {
		if c.sequences == 16 && c.shared >= 1024 && c.rows == 1 {
			b.Run(fmt.Sprintf("sequences=%d/shared=%d/rows=1/against=copies", c.sequences, c.shared), func(b *testing.B) {
				benchmarkShared(b, c.sequences, c.shared, 1, true)
			})
		}
		b.Run(fmt.Sprintf("sequences=%d/shared=%d/rows=%d", c.sequences, c.shared, c.rows), func(b *testing.B) {
			benchmarkShared(b, c.sequences, c.shared, c.rows, false)
		})
	}
}

// benchmarkShared takes turns. With copies, what is not shared is not even the same memory, as if the strategy were standard.
func benchmarkShared(b *testing.B, sequences, shared, rows int, copies bool) {
	const own, blockTokens = 64, 16
	layers, prefixes := 28, 1
	if copies {
		layers, prefixes = 2, sequences // far more than the caches hold
	}
	d, err := kernels.Open(kernels.Options{Device: "cpu"})
	require.NoError(b, err)
	defer d.Close()
	alloc := func(bytes int) kernels.Buffer {
		buffer, err := d.Alloc(bytes)
		require.NoError(b, err)
		return buffer
	}
	blocks := 1 + (prefixes*shared+sequences*own)/blockTokens
	row := kernels.KVBF16.RowBytes(qwen.HeadDim)
	kv := kernels.KVLayout{
		BlockTokens: blockTokens, TokenStride: row, HeadStride: blockTokens * row,
		VOffset: 8 * blockTokens * row, BlockStride: 2 * 8 * blockTokens * row,
	}
	var caches []kernels.Buffer
	numbers := make([]byte, blocks*kv.BlockStride)
	for i := range numbers {
		numbers[i] = 0x3c
	}
	for range layers {
		caches = append(caches, alloc(len(numbers)))
	}

	var works [2]kernels.Work
	var plans [2]Plan
	var positions kernels.Buffer
	for i, mode := range []Mode{Ordinary, Shared} {
		p := &plans[i]
		p.Reset(blockTokens)
		for s := range sequences {
			prefix := 1
			if mode == Ordinary {
				prefix += s % prefixes * shared / blockTokens
			}
			require.NoError(b, p.Add([]kvcache.Segment{
				{Blocks: blockRun(prefix, shared/blockTokens), Len: shared},
				{Blocks: blockRun(1+(prefixes*shared+s*own)/blockTokens, own/blockTokens), Len: own, Pos: shared, Stored: shared},
			}, rows))
		}
		p.Share(mode, qwen)
		lists, err := NewBuffers(d, p.Sizes())
		require.NoError(b, err)
		positions = lists.Positions
		require.NoError(b, d.Do(context.Background(), func(ops kernels.Ops) (err error) {
			works[i], err = p.Write(ops, lists)
			return err
		}))
	}
	n := sequences * rows
	p := &kernels.AttendParams{
		Q: alloc(n * 2048 * 4), QStride: 2048, Out: alloc(n * 2048 * 4), Positions: positions, Rope: alloc((shared + own) * 128 * 4),
		KV: kv, Scale: float32(1 / math.Sqrt(128)), Heads: 16, KVHeads: 8, HeadDim: 128, Rows: n,
	}
	require.NoError(b, d.Do(context.Background(), func(ops kernels.Ops) error {
		for _, c := range caches {
			if err := ops.Write(c, numbers); err != nil {
				return err
			}
		}
		return nil
	}))
	var spent, best [2]time.Duration
	run := func(ops kernels.Ops) error { return ops.Attend(p) }
	i := 0
	for b.Loop() {
		p.KV.Base = caches[i%layers]
		for k := range works {
			p.Work = works[k]
			start := time.Now()
			if err := d.Do(context.Background(), run); err != nil {
				b.Fatal(err)
			}
			took := time.Since(start)
			spent[k] += took
			if best[k] == 0 || took < best[k] {
				best[k] = took
			}
		}
		i++
	}
	b.ReportMetric(float64(spent[0].Microseconds())/float64(i), "ordinary-µs")
	b.ReportMetric(float64(spent[1].Microseconds())/float64(i), "shared-µs")
	b.ReportMetric(float64(best[0])/float64(best[1]), "best-ratio")
	b.ReportMetric(float64(spent[0])/float64(spent[1]), "ratio")
}

// blockRun is so many blocks from first on.
func blockRun(first, n int) []kvcache.BlockID {
	blocks := make([]kvcache.BlockID, n)
	for i := range blocks {
		blocks[i] = kvcache.BlockID(first + i)
	}
	return blocks
}

// BenchmarkPlan is the planning of a step of decode rows: of sequences that share nothing, and of some that share tokens.
func BenchmarkPlan(b *testing.B) {
	for _, c := range []struct{ sequences, shared int }{{16, 0}, {64, 0}, {256, 0}, {16, 1024}, {64, 8192}, {256, 1024}} {
		for _, mode := range []Mode{Ordinary, Auto} {
			b.Run(fmt.Sprintf("sequences=%d/shared=%d/mode=%v", c.sequences, c.shared, mode), func(b *testing.B) {
				var views [][]kvcache.Segment
				for s := range c.sequences {
					var view []kvcache.Segment
					if c.shared > 0 {
						view = append(view, kvcache.Segment{Blocks: blockRun(1, c.shared/16), Len: c.shared})
					}
					own := kvcache.Segment{Blocks: blockRun(10000+100*s, 40), Len: 640, Pos: c.shared, Stored: c.shared}
					views = append(views, append(view, own))
				}
				var p Plan
				for b.Loop() {
					p.Reset(16)
					for _, view := range views {
						if err := p.Add(view, 1); err != nil {
							b.Fatal(err)
						}
					}
					p.Share(mode, qwen)
				}
			})
		}
	}
}
