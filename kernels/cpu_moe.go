package kernels

import (
	"unsafe"

	"github.com/quire-llm/quire/kernels/ref"
)

// MoE computes one expert after the other, in ascending order, each for the rows that chose it. So a row's sum has an
// order of its own.
func (c *cpu) MoE(p *MoEParams) error {
	ck := c.check("MoE")
	inner := ck.moe(p)
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	s, err := c.moeScratch(p, inner)
	if err != nil {
		return err
	}
	if err := c.normalize(&p.Router, p.X, Buffer{}, p.Norm, p.Eps, p.Rows); err != nil {
		return err
	}
	if err := c.matmul(&p.Router, s.logits, p.Rows, false); err != nil {
		return err
	}
	logits := s.logits.float32s()
	for r := range p.Rows {
		ref.Route(s.experts[r*p.TopK:][:p.TopK], s.weights[r*p.TopK:][:p.TopK],
			logits[r*p.Router.Rows:][:p.Router.Rows], p.NormTopK)
	}
	clear(s.sums)
	for e := range p.Router.Rows {
		if err := c.expert(p, &s, int32(e)); err != nil {
			return err
		}
	}
	out := p.Out.float32s()
	for i, sum := range s.sums {
		out[i] += sum
	}
	return nil
}

// moe demands well-formed experts and returns their inner size.
func (c *checker) moe(p *MoEParams) (inner int) {
	c.weight("Router", &p.Router)
	hidden := p.Router.Cols
	c.buffer("X", p.X, p.Rows, hidden, c.act)
	c.buffer("Out", p.Out, p.Rows, hidden, c.act)
	c.exact("Norm", p.Norm, "Router.Cols", hidden)
	if p.TopK <= 0 || p.TopK > p.Router.Rows {
		c.failf("TopK is %d of %d experts", p.TopK, p.Router.Rows)
	}
	if len(p.GateUp) != p.Router.Rows || len(p.Down) != p.Router.Rows {
		c.failf("GateUp has %d experts, Down %d, Router %d", len(p.GateUp), len(p.Down), p.Router.Rows)
	}
	if c.err != nil {
		return 0
	}
	inner = p.Down[0].Cols
	for e := range p.GateUp {
		gateUp, down := &p.GateUp[e], &p.Down[e]
		c.weight("GateUp", gateUp)
		c.weight("Down", down)
		if gateUp.Cols != hidden || gateUp.Rows != 2*inner || down.Rows != hidden || down.Cols != inner {
			c.failf("expert %d has GateUp [%d, %d] and Down [%d, %d], hidden size %d", e,
				gateUp.Rows, gateUp.Cols, down.Rows, down.Cols, hidden)
		}
		if c.err != nil {
			return 0
		}
	}
	return inner
}

// moeScratch is where MoE keeps what lies between its products.
type moeScratch struct {
	logits  Buffer    // [Rows, Experts]
	gateUp  Buffer    // [Rows, 2·inner]
	down    Buffer    // [Rows, Hidden]
	sums    []float32 // [Rows, Hidden]
	weights []float32 // [Rows, TopK]
	experts []int32   // [Rows, TopK], ascending
	rows    []int32   // [Rows] that chose the expert
}

// moeScratch lays it out in one run of memory.
func (c *cpu) moeScratch(p *MoEParams, inner int) (s moeScratch, err error) {
	hidden := p.Router.Cols
	sizes := [...]int{p.Router.Rows, 2 * inner, hidden, hidden, p.TopK, p.TopK, 1}
	total := 0
	for _, n := range sizes {
		total += 4 * p.Rows * n
	}
	addr, err := c.hidden.get(c.memory, total)
	if err != nil {
		return s, err
	}
	var buffers [len(sizes)]Buffer
	for i, n := range sizes {
		buffers[i] = Buffer{addr: addr, size: 4 * p.Rows * n}
		addr = unsafe.Add(addr, buffers[i].size)
	}
	return moeScratch{
		logits:  buffers[0],
		gateUp:  buffers[1],
		down:    buffers[2],
		sums:    buffers[3].float32s(),
		weights: buffers[4].float32s(),
		experts: buffers[5].int32s(),
		rows:    buffers[6].int32s(),
	}, nil
}

// expert adds expert e's output to the sums of the rows that chose it.
func (c *cpu) expert(p *MoEParams, s *moeScratch, e int32) error {
	n := 0
	for i, chosen := range s.experts {
		if chosen == e {
			s.rows[n] = int32(i / p.TopK)
			n++
		}
	}
	if n == 0 {
		return nil
	}
	// The panel was used since: normalizing the rows again is cheaper than keeping them.
	index := Buffer{addr: unsafe.Pointer(&s.rows[0]), size: 4 * n}
	gateUp, down := &p.GateUp[e], &p.Down[e]
	if err := c.normalize(gateUp, p.X, index, p.Norm, p.Eps, n); err != nil {
		return err
	}
	if err := c.matmul(gateUp, s.gateUp, n, false); err != nil {
		return err
	}
	if err := c.gate(down, s.gateUp, n); err != nil {
		return err
	}
	if err := c.matmul(down, s.down, n, false); err != nil {
		return err
	}
	out := s.down.float32s()
	for i, r := range s.rows[:n] {
		weight := float32(0)
		for k, chosen := range s.experts[int(r)*p.TopK:][:p.TopK] {
			if chosen == e {
				weight = s.weights[int(r)*p.TopK+k]
			}
		}
		sums := s.sums[int(r)*down.Rows:][:down.Rows]
		for j, v := range out[i*down.Rows:][:down.Rows] {
			sums[j] += float32(weight * v)
		}
	}
	return nil
}
