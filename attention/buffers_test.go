package attention

import (
	"context"
	"errors"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

func openDevice(t *testing.T) *kernels.Device {
	d, err := kernels.Open(kernels.Options{Device: "cpu"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// readBack is the first n entries of a device's list.
func readBack[T any](t *testing.T, d *kernels.Device, b kernels.Buffer, n int) []T {
	list := make([]T, n)
	src := b.Slice(0, n*int(unsafe.Sizeof(list[0])))
	require.NoError(t, d.Do(context.Background(), func(ops kernels.Ops) error { return ops.Read(kernels.AsBytes(list), src) }))
	return list
}

func TestWrite(t *testing.T) {
	d := openDevice(t)
	b, err := NewBuffers(d, Sizes{Rows: 64, Segments: 4, Blocks: 8})
	require.NoError(t, err)
	defer b.Free()
	var p Plan
	for _, spans := range []int{2, 1} { // the second plan is shorter and lies over the first
		p.Reset(16)
		for i := range spans {
			require.NoError(t, p.Add([]kvcache.Segment{
				{Blocks: []kvcache.BlockID{5, 6}, Off: i, Len: 20, Pos: 3, Stored: 9},
				{Blocks: []kvcache.BlockID{7}, Len: 16, Pos: 23, Stored: 23},
			}, 16))
		}
		var work kernels.Work
		require.NoError(t, d.Do(context.Background(), func(ops kernels.Ops) (err error) {
			work, err = p.Write(ops, b)
			return err
		}))
		require.Equal(t, spans, work.ItemCount)
		require.Equal(t, 2*spans, work.SegmentCount)
		require.Equal(t, 3*spans, work.BlockCount)
		require.Equal(t, p.items, readBack[kernels.WorkItem](t, d, work.Items, work.ItemCount))
		require.Equal(t, p.segments, readBack[kernels.WorkSegment](t, d, work.Segments, work.SegmentCount))
		require.Equal(t, p.blocks, readBack[int32](t, d, work.Blocks, work.BlockCount))
		require.Equal(t, p.Positions, readBack[int32](t, d, b.Positions, p.Rows()))
		require.Equal(t, p.Slots, readBack[int32](t, d, b.Slots, p.Rows()))
	}
}

func TestWriteAndReserve(t *testing.T) {
	d := openDevice(t)
	one := func(rows int) *Plan {
		p := &Plan{}
		p.Reset(16)
		for range rows {
			require.NoError(t, p.Add([]kvcache.Segment{{Blocks: []kvcache.BlockID{1, 2}, Len: 20}}, 1))
		}
		return p
	}
	write := func(p *Plan, b *Buffers) error {
		return d.Do(context.Background(), func(ops kernels.Ops) error {
			_, err := p.Write(ops, b)
			return err
		})
	}
	b, err := NewBuffers(d, Sizes{Rows: 3, Segments: 3, Blocks: 6})
	require.NoError(t, err)
	require.NoError(t, write(one(3), b))
	require.ErrorContains(t, write(one(4), b), "writing a plan of 4 rows, 4 segments and 8 blocks, 0 rows that share: room is reserved for 3, 3 and 6, 0")

	kept := b.Positions
	require.NoError(t, b.Reserve(Sizes{Rows: 2, Segments: 3, Blocks: 1}))
	require.Equal(t, kept, b.Positions, "there was room: nothing moves")
	require.NoError(t, b.Reserve(Sizes{Blocks: 8}))
	require.ErrorContains(t, write(one(4), b), "room is reserved for 3, 3 and 8", "sizes never shrink")
	require.NoError(t, b.Reserve(one(4).Sizes()))
	require.NoError(t, write(one(4), b))
	require.NoError(t, write(one(1), b))

	require.ErrorIs(t, b.Reserve(Sizes{Rows: 1 << 50}), kernels.ErrNoMemory)
	require.NoError(t, write(one(4), b), "an error has changed nothing")
	b.Free()
	b.Free()
	require.ErrorContains(t, write(one(1), b), "room is reserved for 0, 0 and 0")
	_, err = NewBuffers(d, Sizes{Rows: 1 << 50})
	require.True(t, errors.Is(err, kernels.ErrNoMemory), "got %v", err)
}

func TestSizesBytes(t *testing.T) {
	require.Equal(t, 10*(4+4+16)+3*20+7*4+2*16+5*4, Sizes{Rows: 10, Segments: 3, Blocks: 7, Shared: 5}.Bytes())
}

func TestWriteAllocatesNothing(t *testing.T) {
	d := openDevice(t)
	b, err := NewBuffers(d, Sizes{Rows: 64, Segments: 64, Blocks: 64})
	require.NoError(t, err)
	defer b.Free()
	var p Plan
	view := []kvcache.Segment{{Blocks: []kvcache.BlockID{1, 2, 3}, Len: 40}}
	write := func(ops kernels.Ops) error {
		_, err := p.Write(ops, b)
		return err
	}
	step := func() {
		p.Reset(16)
		for range 3 {
			if err := p.Add(view, 20); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Reserve(p.Sizes()); err != nil {
			t.Fatal(err)
		}
		if err := d.Do(context.Background(), write); err != nil {
			t.Fatal(err)
		}
	}
	step()
	require.Zero(t, testing.AllocsPerRun(100, step))
}
