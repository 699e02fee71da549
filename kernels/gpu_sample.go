//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"unsafe"

	"github.com/quire-llm/quire/kernels/cuda"
)

// The kernels read and write these as they lie in memory.
var (
	alike [1]struct{}

	_ = alike[unsafe.Sizeof(SampleRow{})-unsafe.Sizeof(cuda.SampleRow{})]
	_ = alike[unsafe.Sizeof(SampleOut{})-unsafe.Sizeof(cuda.SampleOut{})]
	_ = alike[unsafe.Sizeof(SampleFilter{})-unsafe.Sizeof(cuda.SampleFilter{})]
	_ = alike[unsafe.Sizeof(TokenBias{})-unsafe.Sizeof(cuda.TokenBias{})]
	_ = alike[unsafe.Sizeof(TokenCount{})-unsafe.Sizeof(cuda.TokenCount{})]
	_ = alike[unsafe.Sizeof(WorkItem{})-unsafe.Sizeof(cuda.AttendItem{})]
	_ = alike[unsafe.Sizeof(WorkSegment{})-unsafe.Sizeof(cuda.AttendSegment{})]
	_ = alike[maxTopN-cuda.SampleMaxTop]
)

func (g *gpu) Sample(p *SampleParams) error {
	ck := g.check("Sample")
	ck.sample(p)
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	r := rooms{gpu: g}
	k := cuda.SampleParams{
		Logits: address(p.Logits), Params: address(p.Params), Out: address(p.Out), TopTokens: address(p.TopTokens), TopLogits: address(p.TopLogits),
		ChunkRoom: r.get(roomChunks, p.Rows*cuda.SampleChunks(p.Vocab)*cuda.SampleChunkBytes),
		RowsMost:  int32(p.Rows), Vocab: int32(p.Vocab), TopN: int32(p.TopN),
	}
	filtered := !p.Filters.IsZero()
	if filtered {
		k.Filters, k.Biases, k.Counts = address(p.Filters), address(p.Biases), address(p.Counts)
		k.Edited = r.get(roomEdited, 4*p.Rows*p.Vocab)
		k.BinWeights = r.get(roomBinWeights, 8*p.Rows*cuda.SampleBins)
		k.BinCounts = r.get(roomBinCounts, 4*p.Rows*cuda.SampleBins)
	}
	if r.err != nil {
		return r.err
	}
	if err := launch(g, k.Geometry(cuda.SampleScan, g.sms), &k); err != nil {
		return err
	}
	if filtered {
		if err := launch(g, k.Geometry(cuda.SampleWeigh, g.sms), &k); err != nil {
			return err
		}
	}
	if err := launch(g, k.Geometry(cuda.SamplePick, g.sms), &k); err != nil {
		return err
	}
	if p.TopN == 0 {
		return nil
	}
	return launch(g, k.Geometry(cuda.SampleTop, g.sms), &k)
}
