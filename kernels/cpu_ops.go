package kernels

import (
	"github.com/quire-llm/quire/kernels/ref"
)

// check begins the checks of an operation.
func (c *cpu) check(op string) checker { return checker{op: op, act: 4} }

func (c *cpu) Embed(p *EmbedParams) error {
	ck := c.check("Embed")
	ck.embed(p)
	if ck.err != nil {
		return ck.err
	}
	cols := p.Table.Cols
	out := p.Out.float32s()
	for r := range p.Rows {
		row := int(p.token(r))
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
	ck := c.check("NormQKV")
	ck.normProduct(&p.W, p.X, p.Norm, p.Out, p.Rows)
	return c.normProduct(&ck, p.X, p.Norm, p.Eps, &p.W, p.Out, p.Rows)
}

func (c *cpu) NormGateUp(p *NormGateUpParams) error {
	ck := c.check("NormGateUp")
	ck.normProduct(&p.W, p.X, p.Norm, p.Out, p.Rows)
	return c.normProduct(&ck, p.X, p.Norm, p.Eps, &p.W, p.Out, p.Rows)
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
	ck := c.check("ProjAdd")
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
	ck := c.check("SiluDownAdd")
	ck.gateDown(p)
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	if err := c.gate(&p.W, p.GateUp, p.Rows); err != nil {
		return err
	}
	return c.matmul(&p.W, p.Out, p.Rows, true)
}

func (c *cpu) Head(p *HeadParams) error {
	ck := c.check("Head")
	ck.head(p)
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	if err := c.normalize(&p.W, p.X, p.Index, p.Norm, p.Eps, p.Rows); err != nil {
		return err
	}
	return c.matmul(&p.W, p.Logits, p.Rows, false)
}

func (c *cpu) Write(dst Buffer, src []byte) error {
	ck := c.check("Write")
	if ck.sameSize(dst.size, len(src)); ck.err != nil {
		return ck.err
	}
	copy(dst.bytes(), src)
	return nil
}

func (c *cpu) Read(dst []byte, src Buffer) error {
	ck := c.check("Read")
	if ck.sameSize(len(dst), src.size); ck.err != nil {
		return ck.err
	}
	copy(dst, src.bytes())
	return nil
}

func (c *cpu) Copy(dst, src Buffer) error {
	ck := c.check("Copy")
	if ck.sameSize(dst.size, src.size); ck.err != nil {
		return ck.err
	}
	copy(dst.bytes(), src.bytes())
	return nil
}
