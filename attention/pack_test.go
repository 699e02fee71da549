package attention

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

// TestPack packs plans of different sizes into the same room: their lists lie in the same places, hold what the plan holds,
// and beyond it zeros where rows read them and poison where nobody may.
func TestPack(t *testing.T) {
	d := openDevice(t)
	const rows, blocks = 6, 40
	for _, shared := range []bool{false, true} {
		room := RoomFor(rows, shared)
		memory, err := d.Alloc(room.Bytes(blocks) + 128)
		require.NoError(t, err)
		defer d.Free(memory)
		p := &Packer{Memory: memory, Host: make([]byte, memory.Bytes()), Poison: 0x7b}
		var first kernels.Work
		for _, n := range []int{6, 1, 4} {
			plan := &Plan{}
			plan.Reset(16)
			for i := range n {
				require.NoError(t, plan.Add([]kvcache.Segment{
					{Blocks: []kvcache.BlockID{1, 2, 3, 4}, Len: 64}, {Blocks: []kvcache.BlockID{kvcache.BlockID(5 + i)}, Len: 3, Pos: 64, Stored: 64},
				}, 1))
			}
			if shared {
				plan.Share(Shared, Shape{})
			}
			require.True(t, plan.Single())
			require.Equal(t, shared && n > 1, plan.Shares())
			require.True(t, plan.Fits(room))
			p.Reset()
			own := p.Place([]byte{1, 2, 3}, 8)
			positions, slots, work := plan.Pack(p, room, blocks)
			require.NoError(t, d.Do(context.Background(), func(ops kernels.Ops) error {
				device, host := p.Packed()
				return ops.Write(device, host)
			}))
			if first.ItemCount == 0 {
				first = work
			}
			require.Equal(t, first, work, "what a recording sees")
			require.Equal(t, []byte{1, 2, 3, 0, 0, 0, 0, 0}, readBack[byte](t, d, own, 8))
			items, segments := len(plan.items), len(plan.segments)
			require.Equal(t, []int32{int32(items), int32(segments), int32(5 * n), int32(len(plan.sharing.items)), int32(len(plan.sharing.rows))},
				readBack[int32](t, d, work.Counts, 5))
			require.Equal(t, append(plan.Positions, make([]int32, rows-n)...), readBack[int32](t, d, positions, rows))
			require.Equal(t, append(plan.Slots, make([]int32, rows-n)...), readBack[int32](t, d, slots, rows))
			require.Equal(t, plan.items, readBack[kernels.WorkItem](t, d, work.Items, items))
			require.Equal(t, plan.segments, readBack[kernels.WorkSegment](t, d, work.Segments, segments))
			require.Equal(t, plan.blocks, readBack[int32](t, d, work.Blocks, 5*n))
			rest := readBack[byte](t, d, work.Items, work.Items.Bytes())[items*itemBytes:]
			require.Equal(t, bytes.Repeat([]byte{0x7b}, len(rest)), rest)
			if shared && n > 1 {
				require.Equal(t, plan.sharing.items, readBack[kernels.WorkItem](t, d, work.Shared, len(plan.sharing.items)))
				require.Equal(t, plan.sharing.rows, readBack[int32](t, d, work.SharedRows, n))
			}
		}
		large := &Plan{}
		large.Reset(16)
		for range rows + 1 {
			require.NoError(t, large.Add([]kvcache.Segment{{Blocks: []kvcache.BlockID{1}, Len: 2}}, 1))
		}
		require.False(t, large.Fits(room))
		require.NoError(t, large.Add([]kvcache.Segment{{Blocks: []kvcache.BlockID{1}, Len: 2}}, 2))
		require.False(t, large.Single())
	}
}
