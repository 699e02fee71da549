package kernels

import "unsafe"

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
	tiles, err := c.tiles(p, tileCount)
	if err != nil {
		return err
	}
	rooms, err := c.rooms.get(c.memory, (c.pool.workers+1)*attendRoom)
	if err != nil {
		return err
	}
	a := &c.args.attend
	a.rooms, a.taken = rooms, 0
	a.q, a.out, a.positions, a.rope, a.tiles = p.Q.addr, p.Out.addr, p.Positions.addr, p.Rope.addr, tiles
	a.segments, a.blocks, a.kv = p.Work.Segments.addr, p.Work.Blocks.addr, argsOf(&p.KV, p.HeadDim)
	a.ropeLen, a.blockCount = int64(p.Rope.size/4), int64(p.Work.BlockCount)
	a.qStride, a.heads, a.kvHeads, a.headDim = int64(p.QStride), int64(p.Heads), int64(p.KVHeads), int64(p.HeadDim)
	a.scale = p.Scale
	a.partials, a.merge = nil, 0
	if c.splits(p, tileCount) {
		return c.attendStretches(p, unsafe.Slice((*attendTile)(tiles), tileCount))
	}
	c.pool.run(c.set.attend, &a.queue, tileCount*p.KVHeads, 1)
	return nil
}

// splits says whether there are too few walks for the threads. Only walks whose positions rise can be cut by position.
func (c *cpu) splits(p *AttendParams, tiles int) bool {
	if !c.set.stretches || c.pool.workers == 0 || tiles*p.KVHeads >= 4*(c.pool.workers+1) || p.Heads/p.KVHeads > attendRows(1) {
		return false
	}
	segments := p.Work.segments()
	for _, item := range p.Work.items() {
		end := int32(0)
		for _, s := range segments[item.Segment:][:item.Segments] {
			if s.Pos < end {
				return false
			}
			end = s.Pos + s.Len
		}
	}
	return true
}

// maxPartials is the memory that partials may take, in bytes. More of them than that keep every thread busy anyway.
const maxPartials = 8 << 20

// attendStretches walks each stretch of the tiles' pasts as a unit of its own, then merges them.
func (c *cpu) attendStretches(p *AttendParams, tiles []attendTile) error {
	a := &c.args.attend
	positions := p.Positions.int32s()
	count, partials := 0, 0
	for i := range tiles {
		t := &tiles[i]
		t.stretch, t.partial = 0, int32(partials)
		for _, pos := range positions[t.row:][:t.rows] {
			t.stretch = max(t.stretch, pos/stretchTokens)
		}
		count += int(t.stretch) + 1
		partials += (int(t.stretch) + 1) * int(t.rows) * p.Heads
	}
	if count == len(tiles) || partials*attendPartial > maxPartials {
		c.pool.run(c.set.attend, &a.queue, len(tiles)*p.KVHeads, 1)
		return nil
	}
	addr, err := c.hidden.get(c.memory, partials*attendPartial+count*sizeOf[attendTile]())
	if err != nil {
		return err
	}
	walks := unsafe.Slice((*attendTile)(unsafe.Add(addr, partials*attendPartial)), count)[:0]
	for _, t := range tiles {
		for ; t.stretch >= 0; t.stretch-- {
			walks = append(walks, t)
		}
	}
	merged := a.tiles
	a.partials, a.tiles = addr, unsafe.Pointer(&walks[0])
	c.pool.run(c.set.attend, &a.queue, count*p.KVHeads, 1)
	a.tiles, a.taken, a.merge = merged, 0, 1
	c.pool.run(c.set.attend, &a.queue, len(tiles)*p.KVHeads, 1)
	return nil
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

// tiles lists the tiles of all items. Those of the last rows, which see most, come first: the threads then end together.
func (c *cpu) tiles(p *AttendParams, count int) (unsafe.Pointer, error) {
	addr, err := c.lists.get(c.memory, count*sizeOf[attendTile]())
	if err != nil {
		return nil, err
	}
	tiles := unsafe.Slice((*attendTile)(addr), count)
	most := int32(attendRows(p.Heads / p.KVHeads))
	for _, item := range p.Work.items() {
		for row := int32(0); row < item.Rows; row += most {
			count--
			tiles[count] = attendTile{
				row:      item.Row + row,
				rows:     min(most, item.Rows-row),
				segment:  item.Segment,
				segments: item.Segments,
			}
		}
	}
	return addr, nil
}

// items is the list in device memory.
func (w *Work) items() []WorkItem {
	return unsafe.Slice((*WorkItem)(w.Items.addr), w.ItemCount)
}

// segments is the list in device memory.
func (w *Work) segments() []WorkSegment {
	return unsafe.Slice((*WorkSegment)(w.Segments.addr), w.SegmentCount)
}
