package kernels

import (
	"fmt"
	"math"
	"testing"
)

// The products of Qwen3-0.6B, whose weights together are read once for a token: (rows of W, cols) and how many there are.
var qwenShapes = []struct {
	name       string
	rows, cols int
}{
	{name: "qkv", rows: 4096, cols: 1024},
	{name: "out", rows: 1024, cols: 2048},
	{name: "gateup", rows: 6144, cols: 1024},
	{name: "down", rows: 1024, cols: 3072},
	{name: "head", rows: 151936, cols: 1024},
}

// BenchmarkProduct walks a gigabyte of weights, as a model does, so that they come from memory and not from a cache.
func BenchmarkProduct(b *testing.B) {
	for _, set := range kernelSets() {
		for _, threads := range []int{1, 2} {
			for _, s := range qwenShapes {
				for _, rows := range []int{1, 8, 512} {
					if s.rows > 10000 && rows > 8 || set.name == "go" && rows > 8 {
						continue
					}
					for _, format := range []Format{BF16, Int8} {
						b.Run(fmt.Sprintf("set=%s/threads=%d/weights=%s/shape=%s/rows=%d", set.name, threads, format, s.name, rows), func(b *testing.B) {
							benchmarkProduct(b, format, set.name, threads, s.rows, s.cols, rows)
						})
					}
				}
			}
		}
	}
}

func benchmarkProduct(b *testing.B, format Format, set string, threads, rows, cols, batch int) {
	r := newRig(b, set, threads)
	const gigabyte = 1 << 30
	w := Weight{Format: format, Rows: rows, Cols: cols, Parts: make([]Part, 1)}
	bytes := w.bytes(rows)
	copies := max(1, gigabyte/bytes)
	if batch > 64 {
		copies = min(copies, 4)
	}
	data := r.alloc(copies * bytes)
	for i := range data.int32s() {
		data.int32s()[i] = 0x3c003c00
	}
	p := &ProjAddParams{X: r.floats(batch * cols), Out: r.floats(batch * rows), Rows: batch, W: w}
	run := func(o Ops) error { return o.ProjAdd(p) }
	i := 0
	for b.Loop() {
		p.W.Parts[0] = Part{Rows: rows, Data: data.Slice(i%copies*bytes, bytes)}
		i++
		r.do(run)
	}
	seconds := b.Elapsed().Seconds()
	b.ReportMetric(float64(i*bytes)/seconds/1e9, "GB/s")
	b.ReportMetric(2*float64(i)*float64(rows*cols*batch)/seconds/1e9, "GFLOP/s")
}

// BenchmarkAttend is one layer of Qwen3-0.6B: decoding after so many tokens, and a whole prompt.
func BenchmarkAttend(b *testing.B) {
	for _, set := range kernelSets() {
		for _, kv := range []KVType{KVBF16, KVI8} {
			for _, c := range []struct{ tokens, rows int }{{128, 1}, {1024, 1}, {4096, 1}, {512, 512}, {2048, 2048}} {
				if set.name == "go" && c.rows > 1 {
					continue
				}
				b.Run(fmt.Sprintf("set=%s/kv=%v/tokens=%d/rows=%d", set.name, kv, c.tokens, c.rows), func(b *testing.B) {
					benchmarkAttend(b, set.name, kv, c.tokens, c.rows)
				})
			}
		}
	}
}

// benchmarkAttend has each head's tokens together, as a model's cache on the CPU.
func benchmarkAttend(b *testing.B, set string, kv KVType, tokens, rows int) {
	r := newRig(b, set, 2)
	const layers = 28 // each with its own cache, as in a model
	row := kv.RowBytes(128)
	l := KVLayout{Type: kv, BlockTokens: 16, TokenStride: row, HeadStride: 16 * row, VOffset: 8 * 16 * row, BlockStride: 2 * 8 * 16 * row}
	var caches []KVLayout
	for range layers {
		l.Base = r.alloc(tokens / 16 * l.BlockStride)
		for i := range l.Base.int32s() {
			l.Base.int32s()[i] = 0x3c003c00
		}
		caches = append(caches, l)
	}
	blocks, places := make([]int32, tokens/16), make([]int32, rows)
	for i := range blocks {
		blocks[i] = int32(i)
	}
	for i := range places {
		places[i] = int32(tokens - rows + i)
	}
	p := &AttendParams{
		Q: r.floats(rows * 4096), QStride: 4096, Out: r.floats(rows * 2048), Positions: r.ints(places...),
		Rope: r.ropeTable(tokens, 128, 1), Scale: float32(1 / math.Sqrt(128)), Heads: 16, KVHeads: 8, HeadDim: 128, Rows: rows,
		Work: Work{
			Items: write(r, []WorkItem{{Rows: int32(rows), Segments: 1}}), ItemCount: 1,
			Segments: write(r, []WorkSegment{{Len: int32(tokens)}}), SegmentCount: 1,
			Blocks: r.ints(blocks...), BlockCount: len(blocks),
		},
	}
	run := func(o Ops) error { return o.Attend(p) }
	i := 0
	for b.Loop() {
		p.KV = caches[i%layers]
		i++
		r.do(run)
	}
	seconds := b.Elapsed().Seconds()
	if rows == 1 {
		b.ReportMetric(float64(i*tokens*2*8*row)/seconds/1e9, "GB/s")
	}
	seen := float64(rows) * float64(2*tokens-rows+1) / 2 // pairs of a row and a token
	b.ReportMetric(4*float64(i)*seen*16*128/seconds/1e9, "GFLOP/s")
}

// BenchmarkSample is a row of Qwen3's vocabulary.
func BenchmarkSample(b *testing.B) {
	for _, set := range kernelSets() {
		for _, temperature := range []float32{0, 0.7} {
			b.Run(fmt.Sprintf("set=%s/temperature=%v", set.name, temperature), func(b *testing.B) {
				r := newRig(b, set.name, 2)
				const vocab = 151936
				p := &SampleParams{
					Logits: r.floats(vocab), Params: write(r, []SampleRow{{Temperature: temperature, Want: -1}}),
					Out: r.alloc(sizeOf[SampleOut]()), Vocab: vocab, Rows: 1,
				}
				run := func(o Ops) error { return o.Sample(p) }
				for b.Loop() {
					r.do(run)
				}
			})
		}
	}
}
