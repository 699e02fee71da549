package kernels

import "fmt"

// The checks that come before an operation. They allocate only when they fail.

// checker checks the arguments of one operation and keeps the first error.
type checker struct {
	op   string
	act  int  // bytes of an activation
	cuda bool // of CUDA: the host cannot read the buffers
	err  error
}

// failf sets the error if it is the first.
func (c *checker) failf(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("kernels: %s: %s", c.op, fmt.Sprintf(format, args...))
	}
}

// positive demands n > 0.
func (c *checker) positive(name string, n int) {
	if n <= 0 {
		c.failf("%s is %d", name, n)
	}
}

// buffer demands at least rows·cols elements of the given size, aligned to it. For a failed check that went before, rows
// and cols may be anything.
func (c *checker) buffer(name string, b Buffer, rows, cols, size int) {
	if c.err != nil {
		return
	}
	if rows < 0 || cols < 0 || cols > 0 && rows > maxBytes/size/cols {
		c.failf("%s [%d, %d] cannot be", name, rows, cols)
		return
	}
	if b.size < rows*cols*size {
		c.failf("%s has %d elements, want [%d, %d]", name, b.size/size, rows, cols)
		return
	}
	if uintptr(b.addr)%uintptr(min(size, 8)) != 0 {
		c.failf("%s is not aligned to %d bytes", name, min(size, 8))
	}
}

// exact demands n bfloat16, at any address.
func (c *checker) exact(name string, b Buffer, of string, n int) {
	if c.err == nil && b.size != 2*n {
		c.failf("%s %d, %s has %d", of, n, name, b.size/2)
	}
}

// weight demands a well-formed matrix.
func (c *checker) weight(name string, w *Weight) {
	switch {
	case c.err != nil:
		return
	case w.Format != BF16 && w.Format != Int8:
		c.failf("%s.Format is %d, want BF16 or Int8", name, w.Format)
	case w.Format == Int8 && (w.Block < 0 || w.Block > maxInt8Block || w.Block%8 != 0):
		c.failf("%s.Block is %d, want a multiple of 8 up to %d", name, w.Block, maxInt8Block)
	case w.Rows <= 0 || w.Cols <= 0 || w.Rows > maxBytes/2/w.Cols:
		c.failf("%s is [%d, %d]", name, w.Rows, w.Cols)
	}
	rows := 0
	for i := range w.Parts {
		part := &w.Parts[i]
		switch {
		case part.Rows <= 0 || part.Rows > w.Rows-rows:
			c.failf("%s.Parts[%d].Rows is %d, after %d of %d", name, i, part.Rows, rows, w.Rows)
		case part.Data.size != w.bytes(part.Rows):
			c.failf("%s.Parts[%d].Data has %d bytes, want %d for [%d, %d]", name, i, part.Data.size, w.bytes(part.Rows), part.Rows, w.Cols)
		case w.Format == Int8 && uintptr(part.Data.addr)%int8Align != 0:
			c.failf("%s.Parts[%d].Data is not aligned to %d bytes", name, i, int8Align)
		case !part.Bias.IsZero() && part.Bias.size != 2*part.Rows:
			c.failf("%s.Parts[%d].Bias has %d bytes, want %d", name, i, part.Bias.size, 2*part.Rows)
		case !part.Scales.IsZero():
			c.failf("%s.Parts[%d].Scales are given, but the format has none", name, i)
		}
		if c.err != nil {
			return
		}
		rows += part.Rows
	}
	if rows != w.Rows {
		c.failf("%s.Rows is %d, its parts have %d", name, w.Rows, rows)
	}
}

// plainWeight demands a well-formed matrix of bfloat16.
func (c *checker) plainWeight(name string, w *Weight) {
	if c.err == nil && w.Format != BF16 {
		c.failf("%s.Format is %d, want BF16", name, w.Format)
	}
	c.weight(name, w)
}

// ids demands that the n int32 in b lie in [0, limit).
func (c *checker) ids(name string, b Buffer, n, limit int) {
	c.buffer(name, b, n, 1, 4)
	if c.err != nil || c.cuda {
		return
	}
	for i, id := range b.int32s()[:n] {
		if uint(id) >= uint(limit) || id < 0 {
			c.failf("%s[%d] is %d, want 0 to %d", name, i, id, limit-1)
			return
		}
	}
}

// heads demands a geometry that the kernels can do.
func (c *checker) heads(heads, kvHeads, headDim int) {
	switch {
	case headDim <= 0 || headDim > maxHeadDim || headDim%8 != 0:
		c.failf("HeadDim is %d, want a multiple of 8 up to %d", headDim, maxHeadDim)
	case kvHeads <= 0 || heads <= 0 || heads%kvHeads != 0 || heads > maxHeads:
		c.failf("Heads %d, KVHeads %d: want a multiple, up to %d", heads, kvHeads, maxHeads)
	}
}

// The largest shapes that the attention kernels take.
const (
	maxHeadDim = 256
	maxHeads   = 1 << 16
)

// kv demands a layout whose token slots hold kvHeads keys and values, and returns the number of blocks in it.
func (c *checker) kv(l *KVLayout, kvHeads, headDim int) (blocks int) {
	if c.err != nil {
		return 0
	}
	if !l.Type.valid() {
		c.failf("KV.Type is %d", l.Type)
		return 0
	}
	row, heads, align := l.Type.HeadBytes(headDim), l.headStride(headDim), l.Type.align()
	token := (kvHeads-1)*heads + row // from the first byte of a token's keys to the last
	apart := heads > l.TokenStride   // each head's tokens lie together
	if apart {
		token = row
	}
	switch {
	case !l.Type.takenBy(c.cuda):
		c.failf("KV.Type is %v, which this device does not take", l.Type)
	case l.BlockTokens <= 0 || l.BlockTokens > 1<<16:
		c.failf("KV.BlockTokens is %d", l.BlockTokens)
	case heads < row || heads > maxBytes>>20:
		c.failf("KV.HeadStride is %d bytes, a head's key has %d", heads, row)
	case l.TokenStride < token || l.TokenStride > maxBytes>>20:
		c.failf("KV.TokenStride is %d bytes, a token's keys have %d", l.TokenStride, token)
	case l.VOffset < token || l.VOffset > maxBytes>>20:
		c.failf("KV.VOffset is %d bytes, a token's keys have %d", l.VOffset, token)
	case apart && heads < (l.BlockTokens-1)*l.TokenStride+row:
		c.failf("KV.HeadStride is %d bytes, a head's keys in a block have %d", heads, (l.BlockTokens-1)*l.TokenStride+row)
	case l.BlockStride <= 0 || (l.BlockStride|l.TokenStride|heads|l.VOffset|int(uintptr(l.Base.addr)))%align != 0:
		c.failf("KV strides are %d, %d, %d and %d bytes for alignment to %d", l.BlockStride, l.TokenStride, heads, l.VOffset, align)
	}
	if c.err != nil {
		return 0
	}
	// The last byte of a block's last value.
	end := (l.BlockTokens-1)*l.TokenStride + l.VOffset + (kvHeads-1)*heads + row
	if size := l.Type.ScaleBytes(); size > 0 {
		scales := kvHeads * l.BlockTokens * size // of a block's keys
		switch {
		case l.ScaleOffset < end || l.ScaleOffset > maxBytes>>20 || l.ScaleOffset%size != 0:
			c.failf("KV.ScaleOffset is %d bytes, a block's values end at %d", l.ScaleOffset, end)
		case l.VScaleOffset < scales || l.VScaleOffset > maxBytes>>20 || l.VScaleOffset%size != 0:
			c.failf("KV.VScaleOffset is %d bytes, a block's keys have scales of %d", l.VScaleOffset, scales)
		}
		if c.err != nil {
			return 0
		}
		end = l.ScaleOffset + l.VScaleOffset + scales
	}
	if l.Base.size < end {
		c.failf("KV.Base has %d bytes, a block takes %d", l.Base.size, end)
		return 0
	}
	return (l.Base.size-end)/l.BlockStride + 1
}

// rope demands a table of at least one position and returns how many it has.
func (c *checker) rope(b Buffer, headDim int) (positions int) {
	if c.err != nil {
		return 0
	}
	c.buffer("Rope", b, 1, headDim, 4)
	return b.size / (4 * headDim)
}
