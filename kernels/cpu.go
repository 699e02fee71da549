package kernels

import (
	"unsafe"
)

// cpu is the operations on the CPU: it checks shapes, lays out scratch memory and runs the kernels of its set over the
// pool. Only the goroutine that owns the device uses it.
type cpu struct {
	set    kernelSet
	pool   *pool
	memory *memory
	args   *cpuArgs // outside the Go heap

	panel  scratch // an operation's input, normalized or gated
	hidden scratch // what lies between two products
	lists  scratch // parts, tiles, chunks
	rooms  scratch // of the threads that filter or attend
}

// sampleChunk is the number of logits that the sampler sums as one. It fixes the order of its sums.
const sampleChunk = 4096

// cpuArgs is one of each kernel's arguments.
type cpuArgs struct {
	norm   normArgs
	gate   gateArgs
	matmul matmulArgs
	rotate rotateArgs
	attend attendArgs
	sample sampleArgs
	filter filterWork
	int8   int8Args
}

// newCPU starts the pool.
func newCPU(set kernelSet, threads int, m *memory) (*cpu, error) {
	b, err := m.alloc(sizeOf[cpuArgs]())
	if err != nil {
		return nil, err
	}
	return &cpu{set: set, pool: newPool(threads), memory: m, args: (*cpuArgs)(b.addr)}, nil
}

// scratch is memory that grows to the largest size that was asked for.
type scratch struct{ buffer Buffer }

// get makes room for bytes; what was in it before is lost if it had to grow.
func (s *scratch) get(m *memory, bytes int) (unsafe.Pointer, error) {
	if bytes > s.buffer.size {
		b, err := m.alloc(bytes)
		if err != nil {
			return nil, err
		}
		m.free(s.buffer)
		s.buffer = b
	}
	return s.buffer.addr, nil
}

// panelStride is the elements that a row of a panel with cols columns takes.
func panelStride(cols int) int { return (cols + 63) &^ 63 }

// panelRows is a multiple of the rows that lie together in any set's panels.
const panelRows = 8

// fillPanel is room for a panel.
func (c *cpu) fillPanel(rows, cols int) (unsafe.Pointer, error) {
	return c.panel.get(c.memory, ceilDiv(rows, panelRows)*panelRows*panelStride(cols)*c.set.panelBytes)
}

// smallWork is about how many elements a thread should have before another is woken for more.
const smallWork = 16 << 10

// grainOf is how many units of so many elements make smallWork.
func grainOf(elements int) int { return max(1, smallWork/max(elements, 1)) }

// normalize fills the panel for w with the rows x[index[i]], normalized where there is a norm.
func (c *cpu) normalize(w *Weight, x, index, norm Buffer, eps float32, rows int) error {
	if w.Format == Int8 {
		return c.int8Normalize(x, index, norm, eps, rows, w.Cols)
	}
	cols := w.Cols
	out, err := c.fillPanel(rows, cols)
	if err != nil {
		return err
	}
	a := &c.args.norm
	a.x, a.index, a.norm, a.out = x.addr, index.addr, norm.addr, out
	a.cols, a.outStride, a.eps = int64(cols), int64(panelStride(cols)), eps
	c.pool.run(c.set.norm, &a.queue, rows, grainOf(cols))
	return nil
}

// gate fills the panel for w with silu(gate) ⊙ up.
func (c *cpu) gate(w *Weight, gateUp Buffer, rows int) error {
	if w.Format == Int8 {
		return c.int8Gate(gateUp, rows, w.Cols)
	}
	cols := w.Cols
	out, err := c.fillPanel(rows, cols)
	if err != nil {
		return err
	}
	a := &c.args.gate
	a.in, a.out, a.cols, a.outStride = gateUp.addr, out, int64(cols), int64(panelStride(cols))
	c.pool.run(c.set.gate, &a.queue, rows, grainOf(2*cols))
	return nil
}

// Sizes of a matmul's units: a chunk of rows of x stays in the second-level cache while the blocks of W pass by.
const (
	chunkBytes = 512 << 10
	blockRows  = 48 // rows of W, a multiple of every tile's
	tileRows   = 24 // rows of x, likewise

	// Of few rows of x a block of W is fetched while the one before is multiplied: both stay in the second-level cache.
	fewRows    = 32
	fetchBytes = 144 << 10 // from 96: down, whose rows have 3,072 columns, 24 to 26 GB/s with eight rows of x
	fetchRows  = 12
)

// matmul multiplies the panel by w into y, or adds to it.
func (c *cpu) matmul(w *Weight, y Buffer, rows int, add bool) error {
	if w.Format == Int8 {
		return c.int8Matmul(w, y, rows, add)
	}
	parts, err := c.lists.get(c.memory, len(w.Parts)*sizeOf[matmulPart]())
	if err != nil {
		return err
	}
	list := unsafe.Slice((*matmulPart)(parts), len(w.Parts))
	for i := range w.Parts {
		p := &w.Parts[i]
		list[i] = matmulPart{data: p.Data.addr, bias: p.Bias.addr, rows: int64(p.Rows)}
	}
	stride := panelStride(w.Cols)
	chunkRows := min(rows, max(tileRows, chunkBytes/(c.set.panelBytes*stride)/tileRows*tileRows))
	block := blockRows
	if rows <= fewRows {
		block = min(block, max(fetchRows, fetchBytes/(2*w.Cols)/fetchRows*fetchRows))
	}
	chunks, blocks := ceilDiv(rows, chunkRows), ceilDiv(w.Rows, block)
	chunkRows = ceilDiv(ceilDiv(rows, chunks), tileRows) * tileRows // about the same in each
	chunks = ceilDiv(rows, chunkRows)
	a := &c.args.matmul
	a.x, a.y, a.parts, a.partCount = c.panel.buffer.addr, y.addr, parts, int64(len(w.Parts))
	a.rows, a.cols, a.xStride, a.yCols = int64(rows), int64(w.Cols), int64(stride), int64(w.Rows)
	a.chunkRows, a.blockRows, a.blocks, a.add = int64(chunkRows), int64(block), int64(blocks), 0
	if add {
		a.add = 1
	}
	c.pool.run(c.set.matmul, &a.queue, chunks*blocks, grainOf(chunkRows*block*w.Cols))
	return nil
}

// ceilDiv is a/b, rounded up.
func ceilDiv(a, b int) int { return (a + b - 1) / b }

// sizeOf is the bytes of a T.
func sizeOf[T any]() int {
	var t T
	return int(unsafe.Sizeof(t))
}
