package kernels

import (
	"github.com/quire-llm/quire/kernels/ref"
)

func (c *cpu) Embed(p *EmbedParams) error {
	ck := checker{op: "Embed"}
	ck.plainWeight("Table", &p.Table)
	ck.buffer("Out", p.Out, p.Rows, p.Table.Cols, 4)
	ck.ids("Tokens", p.Tokens, p.Rows, p.Table.Rows)
	if ck.err != nil {
		return ck.err
	}
	cols := p.Table.Cols
	out := p.Out.float32s()
	for r, token := range p.Tokens.int32s()[:p.Rows] {
		row := int(token)
		for i := range p.Table.Parts {
			part := &p.Table.Parts[i]
			if row < part.Rows {
				ref.Embed(out[r*cols:(r+1)*cols], part.Data.bytes(), row)
				break
			}
			row -= part.Rows
		}
	}
	return nil
}

func (c *cpu) NormQKV(p *NormQKVParams) error {
	ck := checker{op: "NormQKV"}
	ck.product(&p.W, p.X, p.Out, p.Rows)
	ck.exact("Norm", p.Norm, "W.Cols", p.W.Cols)
	return c.normProduct(&ck, p.X, p.Norm, p.Eps, &p.W, p.Out, p.Rows)
}

func (c *cpu) NormGateUp(p *NormGateUpParams) error {
	ck := checker{op: "NormGateUp"}
	ck.product(&p.W, p.X, p.Out, p.Rows)
	ck.exact("Norm", p.Norm, "W.Cols", p.W.Cols)
	return c.normProduct(&ck, p.X, p.Norm, p.Eps, &p.W, p.Out, p.Rows)
}

// product demands X [rows, W.Cols] and Out [rows, W.Rows].
func (c *checker) product(w *Weight, x, out Buffer, rows int) {
	c.weight("W", w)
	c.buffer("X", x, rows, w.Cols, 4)
	c.buffer("Out", out, rows, w.Rows, 4)
}

// normProduct sets out = W · RMSNorm(x).
func (c *cpu) normProduct(ck *checker, x, norm Buffer, eps float32, w *Weight, out Buffer, rows int) error {
	if ck.err != nil || rows == 0 {
		return ck.err
	}
	if err := c.normalize(w, x, Buffer{}, norm, eps, rows); err != nil {
		return err
	}
	return c.matmul(w, out, rows, false)
}

func (c *cpu) ProjAdd(p *ProjAddParams) error {
	ck := checker{op: "ProjAdd"}
	ck.product(&p.W, p.X, p.Out, p.Rows)
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	if err := c.normalize(&p.W, p.X, Buffer{}, Buffer{}, 0, p.Rows); err != nil {
		return err
	}
	return c.matmul(&p.W, p.Out, p.Rows, true)
}

func (c *cpu) SiluDownAdd(p *SiluDownAddParams) error {
	ck := checker{op: "SiluDownAdd"}
	ck.weight("W", &p.W)
	ck.buffer("GateUp", p.GateUp, p.Rows, 2*p.W.Cols, 4)
	ck.buffer("Out", p.Out, p.Rows, p.W.Rows, 4)
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	if err := c.gate(&p.W, p.GateUp, p.Rows); err != nil {
		return err
	}
	return c.matmul(&p.W, p.Out, p.Rows, true)
}

func (c *cpu) Head(p *HeadParams) error {
	ck := checker{op: "Head"}
	ck.weight("W", &p.W)
	ck.buffer("X", p.X, 1, p.W.Cols, 4)
	ck.exact("Norm", p.Norm, "W.Cols", p.W.Cols)
	ck.buffer("Logits", p.Logits, p.Rows, p.W.Rows, 4)
	if ck.err == nil {
		ck.ids("Index", p.Index, p.Rows, p.X.size/(4*p.W.Cols))
	}
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	if err := c.normalize(&p.W, p.X, p.Index, p.Norm, p.Eps, p.Rows); err != nil {
		return err
	}
	return c.matmul(&p.W, p.Logits, p.Rows, false)
}

func (c *cpu) Write(dst Buffer, src []byte) error {
	if dst.size != len(src) {
		ck := checker{op: "Write"}
		ck.failf("dst has %d bytes, src %d", dst.size, len(src))
		return ck.err
	}
	copy(dst.bytes(), src)
	return nil
}

func (c *cpu) Read(dst []byte, src Buffer) error {
	if len(dst) != src.size {
		ck := checker{op: "Read"}
		ck.failf("dst has %d bytes, src %d", len(dst), src.size)
		return ck.err
	}
	copy(dst, src.bytes())
	return nil
}

func (c *cpu) Copy(dst, src Buffer) error {
	if dst.size != src.size {
		ck := checker{op: "Copy"}
		ck.failf("dst has %d bytes, src %d", dst.size, src.size)
		return ck.err
	}
	copy(dst.bytes(), src.bytes())
	return nil
}
