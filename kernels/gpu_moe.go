//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"github.com/quire-llm/quire/kernels/cuda"
)

// MoE sorts the pairs of (row, expert) by expert, on the device, and computes all experts in one launch for each matrix.
func (g *gpu) MoE(p *MoEParams) error {
	ck := g.check("MoE")
	inner := ck.moe(p)
	ck.experts(p)
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	hidden, experts, pairs := p.Router.Cols, p.Router.Rows, p.Rows*p.TopK
	tables, err := g.expertsOf(p)
	if err != nil {
		return err
	}
	tiles := cuda.MoETiles(pairs, experts)
	r := rooms{gpu: g}
	logits := r.get(roomRouter, 4*p.Rows*experts)
	chosen, weights := r.get(roomChosen, 4*pairs), r.get(roomWeights, 4*pairs)
	source, place := r.get(roomSource, 4*pairs), r.get(roomPlace, 4*pairs)
	tileList, tileCount := r.get(roomTiles, tiles*sizeOf[cuda.MoETile]()), r.get(roomTileCount, 4)
	gateUp, down := r.get(roomGateUp, 2*pairs*2*inner), r.get(roomDown, 4*pairs*hidden)
	if r.err != nil {
		return r.err
	}
	normed, err := g.norm(p.X, Buffer{}, p.Norm, p.Eps, p.Rows, hidden)
	if err != nil {
		return err
	}
	if err := g.matmul(&p.Router, normed, logits, p.Rows, cuda.StoreF32); err != nil {
		return err
	}
	route := cuda.MoERouteParams{
		Logits: logits, Chosen: chosen, Weights: weights, Rows: int32(p.Rows), Experts: int32(experts), TopK: int32(p.TopK),
	}
	if p.NormTopK {
		route.Normalize = 1
	}
	if err := launch(g, route.Geometry(), &route); err != nil {
		return err
	}
	sort := cuda.MoESortParams{
		Chosen: chosen, Source: source, Place: place, Tiles: tileList, TileCount: tileCount,
		Rows: int32(p.Rows), Experts: int32(experts), TopK: int32(p.TopK),
	}
	if err := launch(g, sort.Geometry(), &sort); err != nil {
		return err
	}
	gemm := cuda.MoEGemmParams{
		X: normed, Index: source, Out: gateUp, Experts: tables.gateUp, Tiles: tileList, TileCount: tileCount,
		MaxTiles: int32(tiles), Cols: int32(hidden), Outputs: int32(2 * inner), Store: cuda.StoreBF16,
	}
	if err := launch(g, gemm.Geometry(), &gemm); err != nil {
		return err
	}
	gated, err := g.gate(gateUp, pairs, inner)
	if err != nil {
		return err
	}
	gemm.X, gemm.Index, gemm.Out, gemm.Experts = gated, 0, down, tables.down
	gemm.Cols, gemm.Outputs, gemm.Store = int32(inner), int32(hidden), cuda.StoreF32
	if err := launch(g, gemm.Geometry(), &gemm); err != nil {
		return err
	}
	combine := cuda.MoECombineParams{
		Down: down, Weights: weights, Place: place, Out: address(p.Out), Rows: int32(p.Rows), Cols: int32(hidden), TopK: int32(p.TopK),
	}
	return launch(g, combine.Geometry(), &combine)
}

// experts demands what the kernels take of a mixture of experts.
func (c *checker) experts(p *MoEParams) {
	if c.err != nil {
		return
	}
	c.parts("Router", &p.Router)
	for e := range p.GateUp {
		c.parts("GateUp", &p.GateUp[e])
		c.parts("Down", &p.Down[e])
	}
	if p.Router.Rows > cuda.MaxExperts || p.TopK > cuda.MaxTopK {
		c.failf("%d of %d experts, want %d of %d at most", p.TopK, p.Router.Rows, cuda.MaxTopK, cuda.MaxExperts)
	}
}

// expertTable is where the matrices of a layer's experts lie, in device memory.
type expertTable struct {
	gateUp, down uint64 // [experts] cuda.WeightParts
	sum          uint64 // of the addresses
}

// expertTables are those of the layers that were seen since memory was given back last.
type expertTables struct {
	tables map[*Weight]expertTable // by the first expert
	frees  uint64                  // gpuMemory.frees then
	host   []cuda.WeightParts
}

// expertsOf is the table of the experts, which is made once.
func (g *gpu) expertsOf(p *MoEParams) (expertTable, error) {
	x, key, sum := &g.experts, &p.GateUp[0], sumOf(p.GateUp)+3*sumOf(p.Down)
	if x.frees != g.memory.frees.Load() {
		if g.graphs.capturing {
			return expertTable{}, errCapturing
		}
		if err := g.forgetExperts(); err != nil {
			return expertTable{}, err
		}
	}
	if t, ok := x.tables[key]; ok && t.sum == sum {
		return t, nil
	}
	bytes := len(p.GateUp) * sizeOf[cuda.WeightParts]()
	var memory cuda.Ptr
	err := g.memory.use(func() (err error) {
		memory, err = g.memory.take(2 * bytes)
		return err
	})
	if err != nil {
		return expertTable{}, g.fail(err)
	}
	x.host = x.host[:0]
	for _, weights := range [][]Weight{p.GateUp, p.Down} {
		for e := range weights {
			x.host = append(x.host, partsOf(&weights[e]))
		}
	}
	if err := g.Write(deviceBuffer(memory, 2*bytes), AsBytes(x.host)); err != nil {
		return expertTable{}, err
	}
	t := expertTable{gateUp: uint64(memory), down: uint64(memory) + uint64(bytes), sum: sum}
	if x.tables == nil {
		x.tables = map[*Weight]expertTable{}
	}
	x.tables[key] = t
	return t, nil
}

// forgetExperts gives all tables back.
func (g *gpu) forgetExperts() error {
	x := &g.experts
	if len(x.tables) > 0 {
		if err := g.stream.Sync(); err != nil {
			return g.fail(err)
		}
	}
	err := g.memory.use(func() error {
		for _, t := range x.tables {
			g.memory.give(cuda.Ptr(t.gateUp))
		}
		clear(x.tables)
		x.frees = g.memory.frees.Load()
		return nil
	})
	return g.fail(err)
}

// sumOf tells weights apart that lie elsewhere.
func sumOf(weights []Weight) (sum uint64) {
	for e := range weights {
		for i := range weights[e].Parts {
			part := &weights[e].Parts[i]
			sum = sum*31 + address(part.Data) + 7*address(part.Bias)
		}
	}
	return sum
}
