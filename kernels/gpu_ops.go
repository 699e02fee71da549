//go:build linux && cgo && (amd64 || arm64)

package kernels

import "github.com/quire-llm/quire/kernels/cuda"

var _ MLPOps = (*gpu)(nil)

func (g *gpu) Embed(p *EmbedParams) error {
	ck := g.check("Embed")
	ck.embed(p)
	ck.parts("Table", &p.Table)
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	k := cuda.EmbedParams{
		Tokens: address(p.Tokens), Out: address(p.Out), Table: partsOf(&p.Table), Rows: int32(p.Rows), Cols: int32(p.Table.Cols),
		Sampled: address(p.Sampled), SampledRows: int32(p.Sampled.size / sizeOf[SampleOut]()), SampledStride: int32(sizeOf[SampleOut]() / 4),
	}
	return launch(g, k.Geometry(), &k)
}

// parts demands a weight of a format and a number of parts that the kernels take.
func (c *checker) parts(name string, w *Weight) {
	switch {
	case w.Format != BF16:
		c.failf("%s.Format is %d, want BF16", name, w.Format)
	case len(w.Parts) > cuda.MaxParts:
		c.failf("%s has %d parts, want %d at most", name, len(w.Parts), cuda.MaxParts)
	}
}

// aligned demands an address that is a multiple of bytes.
func (c *checker) aligned(name string, b Buffer, bytes int) {
	if c.err == nil && address(b)%uint64(bytes) != 0 {
		c.failf("%s is not aligned to %d bytes", name, bytes)
	}
}

// partsOf is a weight as the kernels read it.
func partsOf(w *Weight) (p cuda.WeightParts) {
	end := 0
	for i := range p.Ends {
		if i < len(w.Parts) {
			part := &w.Parts[i]
			end += part.Rows
			p.Data[i], p.Bias[i] = address(part.Data), address(part.Bias)
		}
		p.Ends[i] = int32(end)
	}
	return p
}

// norm puts the rows x[index[i]], normalized, into a room.
func (g *gpu) norm(x, index, norm Buffer, eps float32, rows, cols int) (normed uint64, err error) {
	if normed, err = g.room(roomNormed, 2*rows*cols); err != nil {
		return 0, err
	}
	k := cuda.RMSNormParams{
		X: address(x), Index: address(index), Weight: address(norm), Out: normed, Rows: int32(rows), Cols: int32(cols), Eps: eps,
	}
	return normed, launch(g, k.Geometry(), &k)
}

// few launches a product of few rows. done is false where there is no kernel for it, on devices with little shared memory.
func (g *gpu) few(k *cuda.GemvParams) (done bool, err error) {
	geometry := k.Geometry(g.sms, g.clusters)
	if g.functions[geometry.Kernel].err != nil {
		return false, nil
	}
	return true, launch(g, geometry, k)
}

// matmul multiplies the rows at x with w and does with the sums what store says.
func (g *gpu) matmul(w *Weight, x, out uint64, rows int, store int32) error {
	wide := cuda.WideProduct{X: x, Out: out, W: partsOf(w), Rows: rows, Cols: w.Cols, Outputs: w.Rows, Store: store}
	if done, err := g.leave(&wide); done || err != nil {
		return err
	}
	if rows <= cuda.GemvRows && !(g.wide && rows >= cuda.WideLeastRowsOfMany && w.Rows >= cuda.ManyOutputs) {
		few := cuda.GemvParams{
			X: x, Out: out, W: partsOf(w), XStride: int64(w.Cols), OutStride: int64(w.Rows),
			Rows: int32(rows), Cols: int32(w.Cols), Outputs: int32(w.Rows), Store: store,
		}
		if done, err := g.few(&few); done || err != nil {
			return err
		}
	}
	if done, err := g.wideProduct(&wide); done || err != nil {
		return err
	}
	k := cuda.GemmParams{
		X: x, Out: out, W: partsOf(w), XStride: int64(w.Cols), OutStride: int64(w.Rows),
		Rows: int32(rows), Cols: int32(w.Cols), Outputs: int32(w.Rows), Store: store,
	}
	return launch(g, k.Geometry(g.sms), &k)
}

// normProduct computes out = W · RMSNorm(x), in one launch where there are few rows.
func (g *gpu) normProduct(w *Weight, x, index, norm Buffer, eps float32, out Buffer, rows int, store int32) error {
	if cuda.GemvFits(rows, w.Cols) && !g.leaves(w, address(out), rows, store) {
		few := cuda.GemvParams{
			X: address(x), Index: address(index), Norm: address(norm), Out: address(out), W: partsOf(w),
			XStride: int64(w.Cols), OutStride: int64(w.Rows),
			Rows: int32(rows), Cols: int32(w.Cols), Outputs: int32(w.Rows), Store: store, Eps: eps,
		}
		if done, err := g.few(&few); done || err != nil {
			return err
		}
	}
	normed, err := g.norm(x, index, norm, eps, rows, w.Cols)
	if err != nil {
		return err
	}
	return g.matmul(w, normed, address(out), rows, store)
}

func (g *gpu) NormQKV(p *NormQKVParams) error {
	ck := g.check("NormQKV")
	ck.normProduct(&p.W, p.X, p.Norm, p.Out, p.Rows)
	ck.parts("W", &p.W)
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	return g.normProduct(&p.W, p.X, Buffer{}, p.Norm, p.Eps, p.Out, p.Rows, cuda.StoreBF16)
}

func (g *gpu) NormGateUp(p *NormGateUpParams) error {
	ck := g.check("NormGateUp")
	ck.normProduct(&p.W, p.X, p.Norm, p.Out, p.Rows)
	ck.parts("W", &p.W)
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	return g.normProduct(&p.W, p.X, Buffer{}, p.Norm, p.Eps, p.Out, p.Rows, cuda.StoreBF16)
}

func (g *gpu) ProjAdd(p *ProjAddParams) error {
	ck := g.check("ProjAdd")
	ck.product(&p.W, p.X, p.Out, p.Rows)
	ck.parts("W", &p.W)
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	return g.matmul(&p.W, address(p.X), address(p.Out), p.Rows, cuda.AddBF16)
}

func (g *gpu) SiluDownAdd(p *SiluDownAddParams) error {
	ck := g.check("SiluDownAdd")
	ck.gateDown(p)
	ck.parts("W", &p.W)
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	gated, err := g.gate(address(p.GateUp), p.Rows, p.W.Cols)
	if err != nil {
		return err
	}
	return g.matmul(&p.W, gated, address(p.Out), p.Rows, cuda.AddBF16)
}

// MLP is NormGateUp and SiluDownAdd in one: gate and up stay on the chip where a kernel can keep them.
func (g *gpu) MLP(p *MLPParams) error {
	ck := g.check("MLP")
	ck.mlp(p)
	ck.parts("GateUp", &p.GateUp)
	ck.parts("Down", &p.Down)
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	gated, err := g.normGated(p)
	if err != nil {
		return err
	}
	return g.matmul(&p.Down, gated, address(p.Out), p.Rows, cuda.AddBF16)
}

// normGated puts silu(gate) ⊙ up into a room, for GateUp · RMSNorm(X) = gate, up.
func (g *gpu) normGated(p *MLPParams) (gated uint64, err error) {
	if p.Rows <= cuda.GemvRows && !g.leaves(&p.GateUp, 0, p.Rows, cuda.StoreBF16) {
		if gated, err = g.room(roomGated, 2*p.Rows*p.Down.Cols); err != nil {
			return 0, err
		}
		few := cuda.GemvParams{
			X: address(p.X), Norm: address(p.Norm), Out: gated, W: partsOf(&p.GateUp), XStride: int64(p.GateUp.Cols), OutStride: int64(p.Down.Cols),
			Rows: int32(p.Rows), Cols: int32(p.GateUp.Cols), Outputs: int32(p.Down.Cols), Store: cuda.GateBF16, Eps: p.Eps,
		}
		if !cuda.GemvFits(p.Rows, p.GateUp.Cols) {
			if few.X, err = g.norm(p.X, Buffer{}, p.Norm, p.Eps, p.Rows, p.GateUp.Cols); err != nil {
				return 0, err
			}
			few.Norm = 0
		}
		if done, err := g.few(&few); done || err != nil {
			return gated, err
		}
	}
	normed, err := g.norm(p.X, Buffer{}, p.Norm, p.Eps, p.Rows, p.GateUp.Cols)
	if err != nil {
		return 0, err
	}
	if p.Rows >= cuda.WideLeastRows && !(p.Rows <= cuda.LtMostGated && g.leaves(&p.GateUp, 0, p.Rows, cuda.StoreBF16)) {
		if gated, err = g.room(roomGated, 2*p.Rows*p.Down.Cols); err != nil {
			return 0, err
		}
		wide := cuda.WideProduct{X: normed, Out: gated, W: partsOf(&p.GateUp), Rows: p.Rows, Cols: p.GateUp.Cols, Outputs: p.GateUp.Rows, Gated: true}
		if done, err := g.wideProduct(&wide); done || err != nil {
			return gated, err
		}
	}
	gateUp, err := g.room(roomGateUp, 2*p.Rows*p.GateUp.Rows)
	if err != nil {
		return 0, err
	}
	if err := g.matmul(&p.GateUp, normed, gateUp, p.Rows, cuda.StoreBF16); err != nil {
		return 0, err
	}
	return g.gate(gateUp, p.Rows, p.Down.Cols)
}

// gate puts silu(gate) ⊙ up into a room.
func (g *gpu) gate(gateUp uint64, rows, cols int) (gated uint64, err error) {
	if gated, err = g.room(roomGated, 2*rows*cols); err != nil {
		return 0, err
	}
	k := cuda.SiluMulParams{GateUp: gateUp, Out: gated, Rows: int32(rows), Inner: int32(cols)}
	return gated, launch(g, k.Geometry(), &k)
}

func (g *gpu) Head(p *HeadParams) error {
	ck := g.check("Head")
	ck.head(p)
	ck.parts("W", &p.W)
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	return g.normProduct(&p.W, p.X, p.Index, p.Norm, p.Eps, p.Logits, p.Rows, cuda.StoreF32)
}
