package attention

import (
	"fmt"
	"unsafe"

	"github.com/quire-llm/quire/kernels"
)

// atLeast is the larger of each number.
func (s Sizes) atLeast(t Sizes) Sizes {
	return Sizes{Rows: max(s.Rows, t.Rows), Segments: max(s.Segments, t.Segments), Blocks: max(s.Blocks, t.Blocks), Shared: max(s.Shared, t.Shared)}
}

// Bytes is the device memory that the lists take.
func (s Sizes) Bytes() int {
	return s.Rows*(4+4+itemBytes) + s.Segments*segmentBytes + s.Blocks*4 + s.Shared/2*itemBytes + s.Shared*4
}

const (
	itemBytes    = int(unsafe.Sizeof(kernels.WorkItem{}))
	segmentBytes = int(unsafe.Sizeof(kernels.WorkSegment{}))
)

// Buffers hold a plan on a device. Their addresses and sizes stay the same from step to step, so that a captured graph
// may refer to them; only Reserve may move them.
type Buffers struct {
	Positions kernels.Buffer // [Sizes.Rows] int32
	Slots     kernels.Buffer // [Sizes.Rows] int32

	device   *kernels.Device
	sizes    Sizes
	items    kernels.Buffer // [Sizes.Rows] WorkItem: an item has at least one row
	segments kernels.Buffer // [Sizes.Segments] WorkSegment
	blocks   kernels.Buffer // [Sizes.Blocks] int32
	shared   kernels.Buffer // [Sizes.Shared/2] WorkItem: a shared item has at least two rows
	rows     kernels.Buffer // [Sizes.Shared] int32
}

// NewBuffers allocates room for plans of up to the given sizes. Free gives it back.
func NewBuffers(device *kernels.Device, sizes Sizes) (*Buffers, error) {
	b := &Buffers{device: device}
	if err := b.Reserve(sizes); err != nil {
		return nil, err
	}
	return b, nil
}

// Reserve makes room for larger plans than any before; where there is room it costs four comparisons. It must not be
// called within Device.Do. What was written before is lost.
func (b *Buffers) Reserve(sizes Sizes) error {
	if b.fits(sizes) {
		return nil
	}
	grown := &Buffers{device: b.device, sizes: b.sizes.atLeast(sizes)}
	for _, part := range grown.parts() {
		var err error
		if *part.buffer, err = b.device.Alloc(part.bytes); err != nil {
			grown.Free()
			return fmt.Errorf("attention: making room for %d rows, %d segments and %d blocks, %d rows that share: %w", sizes.Rows, sizes.Segments, sizes.Blocks, sizes.Shared, err)
		}
	}
	b.Free()
	*b = *grown
	return nil
}

func (b *Buffers) fits(s Sizes) bool {
	return s.Rows <= b.sizes.Rows && s.Segments <= b.sizes.Segments && s.Blocks <= b.sizes.Blocks && s.Shared <= b.sizes.Shared
}

// part is one of the buffers and its size.
type part struct {
	buffer *kernels.Buffer
	bytes  int
}

func (b *Buffers) parts() [7]part {
	return [7]part{
		{&b.Positions, 4 * b.sizes.Rows},
		{&b.Slots, 4 * b.sizes.Rows},
		{&b.items, itemBytes * b.sizes.Rows},
		{&b.segments, segmentBytes * b.sizes.Segments},
		{&b.blocks, 4 * b.sizes.Blocks},
		{&b.shared, b.sizes.Shared / 2 * itemBytes},
		{&b.rows, 4 * b.sizes.Shared},
	}
}

// Free gives the memory back. Twice is fine.
func (b *Buffers) Free() {
	for _, part := range b.parts() {
		if !part.buffer.IsZero() {
			b.device.Free(*part.buffer)
			*part.buffer = kernels.Buffer{}
		}
	}
	b.sizes = Sizes{}
}

// Write copies the plan into b and returns the work list as the kernels take it. It fails where the plan is larger than
// what was reserved; nothing has been copied then. It allocates nothing.
func (p *Plan) Write(ops kernels.Ops, b *Buffers) (kernels.Work, error) {
	if size := p.Sizes(); !b.fits(size) {
		return kernels.Work{}, fmt.Errorf("attention: writing a plan of %d rows, %d segments and %d blocks, %d rows that share: room is reserved for %d, %d and %d, %d",
			size.Rows, size.Segments, size.Blocks, size.Shared, b.sizes.Rows, b.sizes.Segments, b.sizes.Blocks, b.sizes.Shared)
	}
	for _, w := range [...]struct {
		dst kernels.Buffer
		src []byte
	}{
		{b.Positions, kernels.AsBytes(p.Positions)},
		{b.Slots, kernels.AsBytes(p.Slots)},
		{b.items, kernels.AsBytes(p.items)},
		{b.segments, kernels.AsBytes(p.segments)},
		{b.blocks, kernels.AsBytes(p.blocks)},
		{b.shared, kernels.AsBytes(p.sharing.items)},
		{b.rows, kernels.AsBytes(p.sharing.rows)},
	} {
		if len(w.src) == 0 {
			continue
		}
		if err := ops.Write(w.dst.Slice(0, len(w.src)), w.src); err != nil {
			return kernels.Work{}, fmt.Errorf("attention: writing the work list: %w", err)
		}
	}
	return kernels.Work{
		Items: b.items, Segments: b.segments, Blocks: b.blocks, Shared: b.shared, SharedRows: b.rows,
		ItemCount: len(p.items), SegmentCount: len(p.segments), BlockCount: len(p.blocks),
		SharedCount: len(p.sharing.items), SharedRowCount: len(p.sharing.rows), Single: p.Single(),
	}, nil
}
