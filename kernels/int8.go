package kernels

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	// Int8Block is how many columns of a row of Int8 share a scale, where a Weight does not say.
	Int8Block = 128

	maxInt8Block = 512 // the sum of a block's products must fit in 31 bits
	int8Group    = 16  // rows that lie together
	int8Align    = 64  // bytes
)

// Int8Bytes is the size of a part of a Weight in Int8 with the given rows and columns, for blocks of Int8Block columns.
func Int8Bytes(rows, cols int) int {
	w := Weight{Format: Int8, Cols: cols}
	return w.bytes(rows)
}

// block is the columns that share a scale.
func (w *Weight) block() int {
	if w.Block == 0 {
		return Int8Block
	}
	return w.Block
}

// groupBytes is the size of a group of rows in Int8.
func (w *Weight) groupBytes() int {
	return int8Group * (4*ceilDiv(w.Cols, w.block()) + (w.Cols+7)&^7)
}

// bytes is the size of so many rows.
func (w *Weight) bytes(rows int) int {
	if w.Format == Int8 {
		return ceilDiv(rows, int8Group) * w.groupBytes()
	}
	return 2 * rows * w.Cols
}

// QuantizeInt8 writes the matrix src, [rows, cols] bfloat16, to dst in Int8, with several goroutines. dst has Int8Bytes and
// is aligned to 64 bytes. A block's scale is its largest magnitude / 127, so the largest number is kept and the others are
// off by half a scale at most. A block with a number that is not finite has a scale that is not finite either.
//
// The layout is made to be read in one stream: groups of 16 rows, with zeros for rows that are missing; in a group the blocks
// of columns, one after the other; in a block the scales of the 16 rows as float32, then the columns by pairs: the two int8 of
// row 0, those of row 1, and so on. The columns are filled up with zeros to a multiple of 8.
func QuantizeInt8(dst, src []byte, rows, cols int) error {
	return quantizeInt8(dst, src, rows, cols, Int8Block, 127)
}

// quantizeInt8 takes the columns of a block, and the largest number of the grid: 7 makes int4 of it, stored as int8.
func quantizeInt8(dst, src []byte, rows, cols, block, most int) error {
	w := Weight{Format: Int8, Cols: cols, Block: block}
	if rows <= 0 || cols <= 0 || rows > maxBytes/2/cols || len(src) != 2*rows*cols || len(dst) != w.bytes(rows) {
		return fmt.Errorf("kernels: quantizing [%d, %d]: %d bytes from %d", rows, cols, len(dst), len(src))
	}
	groups, size := ceilDiv(rows, int8Group), w.groupBytes()
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(groups, runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for {
				g := int(next.Add(1)) - 1
				if g >= groups {
					return
				}
				row := g * int8Group
				quantizeGroup(dst[g*size:][:size], src[2*row*cols:], min(int8Group, rows-row), cols, block, most)
			}
		})
	}
	all.Wait()
	return nil
}

// quantizeGroup writes a group of which so many rows are there.
func quantizeGroup(dst, src []byte, rows, cols, block, most int) {
	clear(dst)
	for first := 0; first < cols; first += block {
		n := min(block, cols-first)
		size := int8Group * (4 + (n+7)&^7)
		for r := range rows {
			quantizeBlock(dst[:size], src[2*(r*cols+first):][:2*n], r, most)
		}
		dst = dst[size:]
	}
}

// quantizeBlock writes row r of a block of a group.
func quantizeBlock(dst, src []byte, r, most int) {
	largest := uint16(0) // as bits: of positive numbers the larger has the larger bits
	for i := 0; i+1 < len(src); i += 2 {
		largest = max(largest, binary.LittleEndian.Uint16(src[i:])&0x7fff)
	}
	top := math.Float32frombits(uint32(largest) << 16)
	scale := top / float32(most)
	binary.LittleEndian.PutUint32(dst[4*r:], math.Float32bits(scale))
	if scale < 1e-30 || !(top < math.MaxFloat32) {
		return // nothing, or nothing that could be saved
	}
	inverse := float32(most) / top
	dst = dst[4*int8Group+2*r:]
	for i := 0; i+1 < len(src); i += 2 {
		x := math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[i:])) << 16)
		// Adding 1.5 · 2^23 leaves no bits for fractions: the low bits are the nearest whole number, of ties the even one.
		dst[i/4*2*int8Group+i/2&1] = byte(math.Float32bits(float32(x*inverse) + 12582912))
	}
}

// int8ScaleAt is where the scale lies in a row of cols int16, in bytes. The float32 that they were made from lay before it.
func int8ScaleAt(cols int) int { return 4 * ((cols + 63) &^ 63) }

// int8Stride is the distance between rows of int16, in bytes: not a power of two, so that the rows of a tile do not all lie
// in the same places of the first-level cache.
func int8Stride(cols int) int { return int8ScaleAt(cols) + 64 }

// int8Panel makes room for an operation's input.
func (c *cpu) int8Panel(rows, cols int) (unsafe.Pointer, error) {
	return c.panel.get(c.memory, rows*int8Stride(cols))
}

// int8Normalize is normalize for weights in Int8.
func (c *cpu) int8Normalize(x, index, norm Buffer, eps float32, rows, cols int) error {
	out, err := c.int8Panel(rows, cols)
	if err != nil {
		return err
	}
	a := &c.args.norm
	a.x, a.index, a.norm, a.out = x.addr, index.addr, norm.addr, out
	a.cols, a.outStride, a.eps = int64(cols), int64(int8Stride(cols)), eps
	c.pool.run(c.set.int8Norm, &a.queue, rows, grainOf(cols))
	return nil
}

// int8Gate is gate for weights in Int8.
func (c *cpu) int8Gate(gateUp Buffer, rows, cols int) error {
	out, err := c.int8Panel(rows, cols)
	if err != nil {
		return err
	}
	a := &c.args.gate
	a.in, a.out, a.cols, a.outStride = gateUp.addr, out, int64(cols), int64(int8Stride(cols))
	c.pool.run(c.set.int8Gate, &a.queue, rows, grainOf(2*cols))
	return nil
}

// Sizes of a unit of int8Matmul. A chunk of rows of x stays in the second-level cache while the groups of W pass by.
const (
	int8BlockGroups = 4
	int8TileRows    = 12 // rows of x, a multiple of every tile's
)

// int8Matmul is matmul for weights in Int8.
func (c *cpu) int8Matmul(w *Weight, y Buffer, rows int, add bool) error {
	parts, err := c.lists.get(c.memory, len(w.Parts)*sizeOf[matmulPart]())
	if err != nil {
		return err
	}
	list, groups := unsafe.Slice((*matmulPart)(parts), len(w.Parts)), 0
	for i := range w.Parts {
		p := &w.Parts[i]
		list[i] = matmulPart{data: p.Data.addr, bias: p.Bias.addr, rows: int64(p.Rows)}
		groups += ceilDiv(p.Rows, int8Group)
	}
	chunkRows := min(rows, max(int8TileRows, chunkBytes/(2*w.Cols)/int8TileRows*int8TileRows))
	blocks := ceilDiv(groups, int8BlockGroups)
	a := &c.args.int8
	a.x, a.y, a.parts, a.partCount = c.panel.buffer.addr, y.addr, parts, int64(len(w.Parts))
	a.rows, a.cols, a.xStride, a.yCols = int64(rows), int64(w.Cols), int64(int8Stride(w.Cols)), int64(w.Rows)
	a.chunkRows, a.blockGroups, a.blocks, a.add = int64(chunkRows), int8BlockGroups, int64(blocks), 0
	a.block, a.groupBytes = int64(w.block()), int64(w.groupBytes())
	if add {
		a.add = 1
	}
	c.pool.run(c.set.int8Matmul, &a.queue, ceilDiv(rows, chunkRows)*blocks, grainOf(chunkRows*int8BlockGroups*int8Group*w.Cols))
	return nil
}
