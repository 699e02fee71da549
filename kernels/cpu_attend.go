package kernels

import (
	"math"
	"unsafe"
)

func (c *cpu) QKNormRopeWrite(p *QKNormRopeWriteParams) error {
	ck := c.check("QKNormRopeWrite")
	ck.rotate(p)
	if ck.err != nil {
		return ck.err
	}
	a := &c.args.rotate
	a.qkv, a.qNorm, a.kNorm, a.rope = p.QKV.addr, p.QNorm.addr, p.KNorm.addr, p.Rope.addr
	a.positions, a.slots, a.kv, a.eps = p.Positions.addr, p.Slots.addr, argsOf(&p.KV, p.HeadDim), p.Eps
	a.heads, a.kvHeads, a.headDim = int64(p.Heads), int64(p.KVHeads), int64(p.HeadDim)
	c.pool.run(c.set.rotate, &a.queue, p.Rows, grainOf((p.Heads+2*p.KVHeads)*p.HeadDim))
	return nil
}

// argsOf is a layout as the kernels read it.
func argsOf(l *KVLayout, headDim int) kvArgs {
	return kvArgs{
		base:        l.Base.addr,
		bytes:       int64(l.Base.size),
		blockStride: int64(l.BlockStride),
		vOffset:     int64(l.VOffset),
		tokenStride: int64(l.TokenStride),
		headStride:  int64(l.headStride(headDim)),
		blockTokens: int64(l.BlockTokens),
		kind:        int64(l.Type),
	}
}

func (c *cpu) Attend(p *AttendParams) error {
	ck := c.check("Attend")
	tileCount := ck.attend(p)
	if ck.err != nil {
		return ck.err
	}
	rooms, err := c.rooms.get(c.memory, (c.pool.workers+1)*attendRoom)
	if err != nil {
		return err
	}
	a := &c.args.attend
	a.rooms, a.q, a.out, a.positions, a.rope = rooms, p.Q.addr, p.Out.addr, p.Positions.addr, p.Rope.addr
	a.kv, a.ropeLen = argsOf(&p.KV, p.HeadDim), int64(p.Rope.size/4)
	a.qStride, a.heads, a.kvHeads, a.headDim = int64(p.QStride), int64(p.Heads), int64(p.KVHeads), int64(p.HeadDim)
	a.scale = p.Scale
	w := walker{cpu: c, p: p, work: p.Work}
	return w.run(tileCount)
}

// segments demands that the segments lie within the blocks and their turns within the rope table.
func (c *checker) segments(p *AttendParams, positions int) {
	c.buffer("Work.Segments", p.Work.Segments, p.Work.SegmentCount, 5, 4)
	if c.err != nil || c.cuda {
		return
	}
	for i, s := range p.Work.segments() {
		blocks := 0
		if s.Len > 0 && s.Off >= 0 {
			blocks = ceilDiv(int(s.Off)+int(s.Len), p.KV.BlockTokens)
		}
		switch turn := int(s.Pos) - int(s.Stored); {
		case s.Block < 0 || s.Off < 0 || s.Len < 0 || int(s.Block)+blocks > p.Work.BlockCount:
			c.failf("Work.Segments[%d] wants blocks %d to %d of %d", i, s.Block, int(s.Block)+blocks, p.Work.BlockCount)
			return
		case s.Pos < 0 || max(turn, -turn) >= positions:
			c.failf("Work.Segments[%d] is at position %d, stored for %d; Rope has %d", i, s.Pos, s.Stored, positions)
			return
		}
	}
}

// items demands that the items lie within the rows and the segments, and counts their tiles.
func (c *checker) items(p *AttendParams) (tiles int) {
	c.buffer("Work.Items", p.Work.Items, p.Work.ItemCount, 4, 4)
	if c.err != nil || c.cuda {
		return 0
	}
	for i, item := range p.Work.items() {
		if item.Row < 0 || item.Rows < 0 || int(item.Row)+int(item.Rows) > p.Rows {
			c.failf("Work.Items[%d] has rows %d to %d of %d", i, item.Row, int(item.Row)+int(item.Rows), p.Rows)
			return 0
		}
		if item.Segment < 0 || item.Segments < 0 || int(item.Segment)+int(item.Segments) > p.Work.SegmentCount {
			c.failf("Work.Items[%d] has segments %d to %d of %d", i, item.Segment, int(item.Segment)+int(item.Segments), p.Work.SegmentCount)
			return 0
		}
		tiles += ceilDiv(int(item.Rows), attendRows(p.Heads/p.KVHeads))
	}
	return tiles
}

// shared demands that the shared items keep the rules of [Work]. It looks at what a row's shared items walk by its last
// one: it begins where the one before ends, down to position 0.
func (c *checker) shared(p *AttendParams) {
	w := &p.Work
	c.buffer("Work.Shared", w.Shared, w.SharedCount, 4, 4)
	c.ids("Work.SharedRows", w.SharedRows, w.SharedRowCount, p.Rows)
	if c.err != nil || c.cuda || w.SharedCount == 0 {
		return
	}
	segments := w.segments()
	for i, item := range w.shared() {
		switch {
		case item.Row < 0 || item.Rows < 1 || int(item.Row)+int(item.Rows) > w.SharedRowCount:
			c.failf("Work.Shared[%d] has rows %d to %d of the %d listed", i, item.Row, int(item.Row)+int(item.Rows), w.SharedRowCount)
			return
		case item.Segment < 0 || item.Segments < 1 || int(item.Segment)+int(item.Segments) > w.SegmentCount:
			c.failf("Work.Shared[%d] has segments %d to %d of %d", i, item.Segment, int(item.Segment)+int(item.Segments), w.SegmentCount)
			return
		}
		next, end := w.bounds(item)
		for _, s := range segments[item.Segment:][:item.Segments] {
			if s.Pos != next || s.Len < 1 || s.Len > math.MaxInt32-s.Pos {
				c.failf("Work.Shared[%d] has %d tokens at position %d, after those before %d", i, s.Len, s.Pos, next)
				return
			}
			next += s.Len
		}
		if end%ShareTile != 0 {
			c.failf("Work.Shared[%d] ends at position %d, want a multiple of %d", i, end, ShareTile)
			return
		}
		for _, row := range w.rowsOf(item) {
			if p.Positions.int32s()[row] < end {
				c.failf("Work.Shared[%d] ends at position %d, its row %d stands at %d", i, end, row, p.Positions.int32s()[row])
				return
			}
		}
	}
}

// items is the list in device memory.
func (w *Work) items() []WorkItem {
	return unsafe.Slice((*WorkItem)(w.Items.addr), w.ItemCount)
}

// segments is the list in device memory.
func (w *Work) segments() []WorkSegment {
	return unsafe.Slice((*WorkSegment)(w.Segments.addr), w.SegmentCount)
}

// shared is the list in device memory.
func (w *Work) shared() []WorkItem {
	return unsafe.Slice((*WorkItem)(w.Shared.addr), w.SharedCount)
}

// rowsOf is the rows of a shared item.
func (w *Work) rowsOf(item WorkItem) []int32 {
	return w.SharedRows.int32s()[item.Row:][:item.Rows]
}

// bounds are the positions from the first of an item's tokens to after the last; there is at least one segment.
func (w *Work) bounds(item WorkItem) (first, end int32) {
	segments := w.segments()[item.Segment:][:item.Segments]
	last := segments[len(segments)-1]
	return segments[0].Pos, last.Pos + last.Len
}
