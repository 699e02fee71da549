package kernels

// The checks of whole operations. Every device makes them; one whose memory the host cannot read leaves out the contents.

// embed checks the parameters of Embed.
func (c *checker) embed(p *EmbedParams) {
	c.plainWeight("Table", &p.Table)
	c.buffer("Out", p.Out, p.Rows, p.Table.Cols, c.act)
	if p.Sampled.IsZero() || c.cuda {
		c.ids("Tokens", p.Tokens, p.Rows, p.Table.Rows)
		return
	}
	c.buffer("Tokens", p.Tokens, p.Rows, 1, 4)
	if c.err != nil {
		return
	}
	for i := range p.Rows {
		if t := p.token(i); t < 0 || int(t) >= p.Table.Rows {
			c.failf("Tokens[%d] is %d, token %d, want 0 to %d", i, p.Tokens.int32s()[i], t, p.Table.Rows-1)
			return
		}
	}
}

// token is the one of row i, in memory that the host can read; -1 if it lies outside Sampled.
func (p *EmbedParams) token(i int) int32 {
	t := p.Tokens.int32s()[i]
	at, each := -1-int(t), sizeOf[SampleOut]()/4
	switch {
	case t >= 0:
		return t
	case at >= p.Sampled.size/sizeOf[SampleOut]():
		return -1
	}
	return p.Sampled.int32s()[at*each]
}

// product demands X [rows, W.Cols] and Out [rows, W.Rows].
func (c *checker) product(w *Weight, x, out Buffer, rows int) {
	c.weight("W", w)
	c.buffer("X", x, rows, w.Cols, c.act)
	c.buffer("Out", out, rows, w.Rows, c.act)
}

// normProduct checks the parameters of NormQKV and NormGateUp.
func (c *checker) normProduct(w *Weight, x, norm, out Buffer, rows int) {
	c.product(w, x, out, rows)
	c.exact("Norm", norm, "W.Cols", w.Cols)
}

// rotate checks the parameters of QKNormRopeWrite.
func (c *checker) rotate(p *QKNormRopeWriteParams) {
	c.heads(p.Heads, p.KVHeads, p.HeadDim)
	c.buffer("QKV", p.QKV, p.Rows, (p.Heads+2*p.KVHeads)*p.HeadDim, c.act)
	if !p.QNorm.IsZero() {
		c.exact("QNorm", p.QNorm, "HeadDim", p.HeadDim)
	}
	if !p.KNorm.IsZero() {
		c.exact("KNorm", p.KNorm, "HeadDim", p.HeadDim)
	}
	c.ids("Positions", p.Positions, p.Rows, c.rope(p.Rope, p.HeadDim))
	c.ids("Slots", p.Slots, p.Rows, c.kv(&p.KV, p.KVHeads, p.HeadDim)*p.KV.BlockTokens)
}

// attend checks the parameters of Attend. tiles is how many the CPU makes of the items.
func (c *checker) attend(p *AttendParams) (tiles int) {
	c.heads(p.Heads, p.KVHeads, p.HeadDim)
	if c.err == nil && p.QStride < p.Heads*p.HeadDim {
		c.failf("QStride is %d, the query has %d", p.QStride, p.Heads*p.HeadDim)
	}
	if p.Rows > 0 { // the last row may end with its query
		c.buffer("Q", p.Q, 1, (p.Rows-1)*p.QStride+p.Heads*p.HeadDim, c.act)
	}
	c.buffer("Out", p.Out, p.Rows, p.Heads*p.HeadDim, c.act)
	positions := c.rope(p.Rope, p.HeadDim)
	c.ids("Positions", p.Positions, p.Rows, positions)
	kvBlocks := c.kv(&p.KV, p.KVHeads, p.HeadDim)
	c.ids("Work.Blocks", p.Work.Blocks, p.Work.BlockCount, kvBlocks)
	c.segments(p, positions)
	tiles = c.items(p)
	c.shared(p)
	return tiles
}

// gateDown checks the parameters of SiluDownAdd.
func (c *checker) gateDown(p *SiluDownAddParams) {
	c.weight("W", &p.W)
	c.buffer("GateUp", p.GateUp, p.Rows, 2*p.W.Cols, c.act)
	c.buffer("Out", p.Out, p.Rows, p.W.Rows, c.act)
}

// mlp checks the parameters of MLP.
func (c *checker) mlp(p *MLPParams) {
	c.weight("GateUp", &p.GateUp)
	c.weight("Down", &p.Down)
	if c.err == nil && (p.GateUp.Rows != 2*p.Down.Cols || p.Down.Rows != p.GateUp.Cols) {
		c.failf("GateUp is [%d, %d], Down [%d, %d]", p.GateUp.Rows, p.GateUp.Cols, p.Down.Rows, p.Down.Cols)
	}
	c.buffer("X", p.X, p.Rows, p.GateUp.Cols, c.act)
	c.buffer("Out", p.Out, p.Rows, p.GateUp.Cols, c.act)
	c.exact("Norm", p.Norm, "GateUp.Cols", p.GateUp.Cols)
}

// head checks the parameters of Head.
func (c *checker) head(p *HeadParams) {
	c.weight("W", &p.W)
	c.buffer("X", p.X, 1, p.W.Cols, c.act)
	c.exact("Norm", p.Norm, "W.Cols", p.W.Cols)
	c.buffer("Logits", p.Logits, p.Rows, p.W.Rows, 4)
	if c.err == nil {
		c.ids("Index", p.Index, p.Rows, p.X.size/(c.act*p.W.Cols))
	}
}

// sample checks the parameters of Sample.
func (c *checker) sample(p *SampleParams) {
	c.positive("Vocab", p.Vocab)
	c.buffer("Logits", p.Logits, p.Rows, p.Vocab, 4)
	c.buffer("Params", p.Params, p.Rows, sizeOf[SampleRow]()/8, 8)
	c.buffer("Out", p.Out, p.Rows, sizeOf[SampleOut]()/4, 4)
	if p.TopN < 0 || p.TopN > min(maxTopN, p.Vocab) {
		c.failf("TopN is %d, want 0 to %d", p.TopN, min(maxTopN, p.Vocab))
	}
	c.buffer("TopTokens", p.TopTokens, p.Rows, p.TopN, 4)
	c.buffer("TopLogits", p.TopLogits, p.Rows, p.TopN, 4)
	c.sampleRows(p)
	c.sampleFilters(p)
}

// sameSize demands that a copy's two sides have as many bytes.
func (c *checker) sameSize(dst, src int) {
	if dst != src {
		c.failf("dst has %d bytes, src %d", dst, src)
	}
}
