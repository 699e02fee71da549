package kernels

import (
	"iter"
	"slices"
	"unsafe"
)

// walker cuts the work of one Attend into tiles and runs them. Its lists lie outside the Go heap.
//
// Rows that share nothing, and that are units enough for the threads, walk their whole past in one run. Otherwise there
// are slots, one for each row and stretch of its past: shared items and the stretches of long walks are summed into them,
// a stretch at a time, and then merged, or taken over by the row's own walk. All ways give the same bits: a stretch is
// summed in order, whoever does it, and stretches are merged in order.
//
//	position     0          512        1024       1216     1300
//	shared by    |====== 16 rows ======|= 5 rows =|         the 5 rows' own tokens follow, from 1216 on
//	slots        0          1          2                    of each row: the other 11 have two
//	last run     merges 0 and 1 ...    goes on with 2, to the end, merges that and puts out
//
// Had the 16 rows' part ended at 960, the 5 rows' would begin with what is in slot 1, and so run in the next round.
type walker struct {
	*cpu
	p     *AttendParams
	work  Work
	tiles []attendTile // of the items

	// Where there are slots.
	ends   []int32      // [rows] positions before it are shared
	bases  []int32      // [rows] a row's slot of stretch 0
	depths []int32      // [rows] round of the row's latest shared walk
	rounds []int32      // [SharedCount] round of an item's first walk; the others are of round 0
	walks  []attendTile // room for one run's stretches
}

// maxSlotBytes is the memory that slots may take to keep more threads busy. What needs more is enough for every thread.
const maxSlotBytes = 8 << 20

// run computes all items, of so many tiles. An error has run nothing.
func (w *walker) run(tileCount int) error {
	a, shared := &w.args.attend, w.work.SharedCount > 0
	a.mode, a.rows, a.slots, a.bases = attendWhole, nil, nil, nil
	cuts := w.cuts(tileCount)
	tables := 0
	if shared || cuts {
		tables = 3*w.p.Rows + w.work.SharedCount
	}
	lists, err := w.lists.get(w.memory, tileCount*sizeOf[attendTile]()+4*tables)
	if err != nil {
		return err
	}
	w.tiles = unsafe.Slice((*attendTile)(lists), tileCount)
	if tables > 0 {
		table, rows := unsafe.Slice((*int32)(unsafe.Add(lists, tileCount*sizeOf[attendTile]())), tables), w.p.Rows
		w.ends, w.bases, w.depths, w.rounds = table[:rows], table[rows:2*rows], table[2*rows:3*rows], table[3*rows:]
		if err := w.findEnds(); err != nil {
			return err
		}
	}
	if shared && !w.set.stretches {
		if err := w.unshare(); err != nil {
			return err
		}
		shared = false
	}
	a.segments, a.blocks, a.blockCount = w.work.Segments.addr, w.work.Blocks.addr, int64(w.work.BlockCount)
	w.listTiles()
	if shared || cuts {
		if cuts, err = w.makeSlots(cuts); err != nil {
			return err
		}
	}
	if shared {
		w.runShared()
	}
	if cuts {
		w.runStretches()
	}
	w.runTiles(w.tiles)
	return nil
}

// runTiles runs the kernel over a list, in the mode that is set.
func (w *walker) runTiles(tiles []attendTile) {
	a := &w.args.attend
	a.tiles, a.taken = unsafe.Pointer(unsafe.SliceData(tiles)), 0
	w.pool.run(w.set.attend, &a.queue, len(tiles)*w.p.KVHeads, 1)
}

// listTiles lists the tiles of all items. Those of the last rows, which see most, come first: the threads then end
// together.
func (w *walker) listTiles() {
	most := int32(attendRows(w.p.Heads / w.p.KVHeads))
	at := len(w.tiles)
	for _, item := range w.work.items() {
		for row := int32(0); row < item.Rows; row += most {
			at--
			w.tiles[at] = attendTile{
				row:      item.Row + row,
				rows:     min(most, item.Rows-row),
				segment:  item.Segment,
				segments: item.Segments,
			}
		}
	}
}

// cuts says whether there are too few walks for the threads. Only walks whose positions rise can be cut by position.
func (w *walker) cuts(tiles int) bool {
	if !w.set.stretches || w.pool.workers == 0 || tiles*w.p.KVHeads >= 4*(w.pool.workers+1) {
		return false
	}
	segments := w.work.segments()
	for _, item := range w.work.items() {
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

// findEnds sets ends, and demands what the checks could not see without it: a row's shared items go on from each other,
// and the rows of an item, which has the rest, share the same.
func (w *walker) findEnds() error {
	ck := w.check("Attend")
	clear(w.ends)
	for i, item := range w.work.shared() {
		first, end := w.work.bounds(item)
		for _, row := range w.work.rowsOf(item) {
			if w.ends[row] != first {
				ck.failf("Work.Shared[%d] begins at position %d, what its row %d shared before ends at %d", i, first, row, w.ends[row])
			}
			w.ends[row] = end
		}
	}
	for i, item := range w.work.items() {
		if item.Rows == 0 {
			continue
		}
		end := w.ends[item.Row]
		for _, other := range w.ends[item.Row:][:item.Rows] {
			if other != end {
				ck.failf("Work.Items[%d] has rows that share the tokens before %d and before %d", i, end, other)
			}
		}
		if item.Segments > 0 && w.work.segments()[item.Segment].Pos < end {
			ck.failf("Work.Items[%d] begins at position %d, its rows share the tokens before %d", i, w.work.segments()[item.Segment].Pos, end)
		}
	}
	return ck.err
}

// makeSlots sets where tiles go on from and which stretch is their last, and gives each row its slots. It says whether the
// tiles' walks are cut: not if that gives no more units, or takes too many slots.
func (w *walker) makeSlots(cuts bool) (bool, error) {
	positions := w.p.Positions.int32s()
	count, slots := 0, 0 // of cut walks
	for i := range w.tiles {
		t := &w.tiles[i]
		t.from = w.ends[t.row]
		t.stretch = t.from / stretchTokens
		for _, pos := range positions[t.row:][:t.rows] {
			t.stretch = max(t.stretch, pos/stretchTokens)
		}
		count += int(t.stretch-t.from/stretchTokens) + 1
		slots += (int(t.stretch) + 1) * int(t.rows)
	}
	slotBytes := partialHead + 4*ceilDiv(w.p.HeadDim, 32)*32
	cuts = cuts && count > len(w.tiles) && slots*w.p.Heads*slotBytes <= maxSlotBytes

	for row, end := range w.ends {
		w.bases[row] = (end + stretchTokens - 1) / stretchTokens // how many it needs
	}
	walks := 0
	if cuts {
		walks = count
		for _, t := range w.tiles {
			for row := t.row; row < t.row+t.rows; row++ {
				w.bases[row] = t.stretch + 1
			}
		}
	}
	slots = 0
	for row, n := range w.bases {
		w.bases[row] = int32(slots)
		slots += int(n)
	}
	sharedWalks := 0
	for _, item := range w.work.shared() {
		first, end := w.work.bounds(item)
		sharedWalks += w.tilesOf(item) * int((end-1)/stretchTokens-first/stretchTokens+1)
	}
	walks = max(walks, sharedWalks)

	bytes := slots * w.p.Heads * slotBytes
	addr, err := w.hidden.get(w.memory, bytes+walks*sizeOf[attendTile]())
	if err != nil {
		return false, err
	}
	w.walks = unsafe.Slice((*attendTile)(unsafe.Add(addr, bytes)), walks)[:0]
	a := &w.args.attend
	a.slots, a.slotBytes, a.bases = addr, int64(slotBytes), unsafe.Pointer(unsafe.SliceData(w.bases))
	return cuts, nil
}

// tilesOf is how many tiles a shared item is cut into.
func (w *walker) tilesOf(item WorkItem) int {
	return ceilDiv(int(item.Rows), attendRows(w.p.Heads/w.p.KVHeads))
}

// runShared walks the shared items' stretches. One that begins within a stretch waits for what its rows shared before.
func (w *walker) runShared() {
	a := &w.args.attend
	a.mode, a.rows = attendStretch, w.work.SharedRows.addr
	clear(w.depths)
	last := int32(0)
	for i, item := range w.work.shared() {
		first, end := w.work.bounds(item)
		round := int32(0)
		if first%stretchTokens != 0 {
			for _, row := range w.work.rowsOf(item) {
				round = max(round, w.depths[row]+1)
			}
		}
		w.rounds[i], last = round, max(last, round)
		if first/stretchTokens != (end-1)/stretchTokens {
			round = 0
		}
		for _, row := range w.work.rowsOf(item) {
			w.depths[row] = round
		}
	}
	for round := int32(0); round <= last; round++ {
		w.walks = w.walks[:0]
		for i, item := range w.work.shared() {
			w.addShared(item, round, w.rounds[i])
		}
		w.runTiles(w.walks)
	}
	a.mode, a.rows = attendWhole, nil
}

// addShared adds the walks of a shared item that run in a round, in tiles of about the same size.
func (w *walker) addShared(item WorkItem, round, ofFirst int32) {
	from, end := w.work.bounds(item)
	n := int32(w.tilesOf(item))
	for stretch := from / stretchTokens; stretch <= (end-1)/stretchTokens; stretch++ {
		if ofFirst == round {
			for i := range n {
				row, next := item.Rows*i/n, item.Rows*(i+1)/n
				w.walks = append(w.walks, attendTile{
					row: item.Row + row, rows: next - row, segment: item.Segment, segments: item.Segments, stretch: stretch, from: from,
				})
			}
		}
		ofFirst = 0
	}
}

// runStretches walks each stretch of the tiles as a unit of its own. What is left to do with the tiles is to merge.
func (w *walker) runStretches() {
	a := &w.args.attend
	a.mode = attendStretch
	w.walks = w.walks[:0]
	for _, t := range w.tiles {
		for ; t.stretch >= t.from/stretchTokens; t.stretch-- {
			w.walks = append(w.walks, t)
		}
	}
	w.runTiles(w.walks)
	a.mode = attendMerge
}

// unshare gives each item the segments that its rows share, in front of its own, for a set that walks rows whole.
func (w *walker) unshare() error {
	items, segments := w.work.items(), 0
	for _, item := range items {
		segments += int(item.Segments)
		for _, shared := range w.sharedBy(item) {
			segments += int(shared.Segments)
		}
	}
	addr, err := w.hidden.get(w.memory, len(items)*sizeOf[WorkItem]()+segments*sizeOf[WorkSegment]())
	if err != nil {
		return err
	}
	lists := unsafe.Slice((*WorkItem)(addr), len(items))
	list := unsafe.Slice((*WorkSegment)(unsafe.Add(addr, len(items)*sizeOf[WorkItem]())), segments)[:0]
	for i, item := range items {
		first := len(list)
		for _, shared := range w.sharedBy(item) {
			list = append(list, w.work.segments()[shared.Segment:][:shared.Segments]...)
		}
		list = append(list, w.work.segments()[item.Segment:][:item.Segments]...)
		lists[i] = WorkItem{Row: item.Row, Rows: item.Rows, Segment: int32(first), Segments: int32(len(list) - first)}
	}
	w.work.Items, w.work.Segments = bufferOf(AsBytes(lists)), bufferOf(AsBytes(list))
	w.work.SegmentCount, w.work.SharedCount = len(list), 0
	return nil
}

// sharedBy walks over the shared items of an item's rows.
func (w *walker) sharedBy(item WorkItem) iter.Seq2[int, WorkItem] {
	return func(yield func(int, WorkItem) bool) {
		for i, shared := range w.work.shared() {
			if item.Rows > 0 && slices.Contains(w.work.rowsOf(shared), item.Row) && !yield(i, shared) {
				return
			}
		}
	}
}
