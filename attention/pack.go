package attention

import (
	"github.com/quire-llm/quire/kernels"
)

// Packer lays lists side by side for one copy to the device. Where a list lies depends only on the room that it and those
// before it were given, so that a recorded step finds them there again.
type Packer struct {
	Memory kernels.Buffer // on the device
	Host   []byte         // as many bytes, on their way there
	// Poison fills what is left of the room of lists: entries that nobody may read. Zero but in tests.
	Poison byte

	used int
}

const packAlign = 64

// Reset empties the packer.
func (p *Packer) Reset() { p.used = 0 }

// Packed is what was placed, on the device and on the host.
func (p *Packer) Packed() (kernels.Buffer, []byte) { return p.Memory.Slice(0, p.used), p.Host[:p.used] }

// Place adds data and zeros up to room bytes, and says where they will lie. It panics where there is no room left.
func (p *Packer) Place(data []byte, room int) kernels.Buffer { return p.place(data, room, 0) }

func (p *Packer) place(data []byte, room int, rest byte) kernels.Buffer {
	to := p.Host[p.used:][:room]
	left := to[copy(to, data):]
	for i := range left {
		left[i] = rest
	}
	b := p.Memory.Slice(p.used, room)
	p.used = min((p.used+room+packAlign-1)/packAlign*packAlign, len(p.Host))
	return b
}

// Room is how many entries the lists of a step of so many rows have room for when they are packed.
type Room struct {
	Rows     int
	Segments int
	Items    int // shared ones
	Shared   int // rows of them
}

// RoomFor is the room of a step of so many rows, each of a sequence of its own.
func RoomFor(rows int, shared bool) Room {
	if shared {
		return Room{Rows: rows, Segments: 4 * rows, Items: rows, Shared: 4 * rows}
	}
	return Room{Rows: rows, Segments: 2 * rows}
}

// Bytes is the most that the lists of a step take, with so many entries in the list of blocks.
func (r Room) Bytes(blocks int) int {
	lists := 32 + r.Rows*(4+4+itemBytes) + r.Segments*segmentBytes + r.Items*itemBytes + r.Shared*4 + blocks*4
	return lists + 8*packAlign
}

// Single says whether every span of the plan is one row.
func (p *Plan) Single() bool { return len(p.sharing.spans) == len(p.Positions) }

// Shares says whether Share has found anything to share.
func (p *Plan) Shares() bool { return len(p.sharing.items) > 0 }

// Fits says whether the plan's lists have room, with rows to spare for padding.
func (p *Plan) Fits(r Room) bool {
	return len(p.Positions) <= r.Rows && len(p.segments) <= r.Segments && len(p.sharing.items) <= r.Items && len(p.sharing.rows) <= r.Shared
}

// Pack places the plan, which fits, and returns where its parts will lie. Rows that only fill the room up stand at position
// 0, write to the null block and have no item. The list of blocks comes last: it may have any length up to blocks.
func (p *Plan) Pack(to *Packer, r Room, blocks int) (positions, slots kernels.Buffer, work kernels.Work) {
	counts := [5]int32{
		int32(len(p.items)), int32(len(p.segments)), int32(len(p.blocks)), int32(len(p.sharing.items)), int32(len(p.sharing.rows)),
	}
	work = kernels.Work{
		ItemCount: r.Rows, SegmentCount: r.Segments, BlockCount: blocks, SharedCount: r.Items, SharedRowCount: r.Shared,
		Single: p.Single(),
	}
	work.Counts = to.Place(kernels.AsBytes(counts[:]), 4*len(counts))
	positions = to.Place(kernels.AsBytes(p.Positions), 4*r.Rows)
	slots = to.Place(kernels.AsBytes(p.Slots), 4*r.Rows)
	work.Items = to.place(kernels.AsBytes(p.items), itemBytes*r.Rows, to.Poison)
	work.Segments = to.place(kernels.AsBytes(p.segments), segmentBytes*r.Segments, to.Poison)
	work.Shared = to.place(kernels.AsBytes(p.sharing.items), itemBytes*r.Items, to.Poison)
	work.SharedRows = to.place(kernels.AsBytes(p.sharing.rows), 4*r.Shared, to.Poison)
	work.Blocks = to.Memory.Slice(to.used, 4*blocks)
	to.place(kernels.AsBytes(p.blocks), 4*len(p.blocks), 0)
	return positions, slots, work
}
