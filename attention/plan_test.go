package attention

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

func TestAdd(t *testing.T) {
	tests := []struct {
		name        string
		blockTokens int
		views       [][]kvcache.Segment
		rows        []int // of each view

		positions, slots []int32
		items            []kernels.WorkItem
		segments         []kernels.WorkSegment
		blocks           []int32
	}{
		{
			name: "first token", blockTokens: 4,
			views:     [][]kvcache.Segment{{{Blocks: []kvcache.BlockID{3}, Len: 1}}},
			rows:      []int{1},
			positions: []int32{0}, slots: []int32{12},
			items:    []kernels.WorkItem{{Row: 0, Rows: 1, Segment: 0, Segments: 1}},
			segments: []kernels.WorkSegment{{Block: 0, Len: 1}},
			blocks:   []int32{3},
		},
		{
			name: "chunk that begins and ends inside blocks", blockTokens: 4,
			views:     [][]kvcache.Segment{{{Blocks: []kvcache.BlockID{5, 2, 9}, Len: 10}}},
			rows:      []int{5},
			positions: []int32{5, 6, 7, 8, 9}, slots: []int32{9, 10, 11, 36, 37},
			items:    []kernels.WorkItem{{Row: 0, Rows: 5, Segment: 0, Segments: 1}},
			segments: []kernels.WorkSegment{{Block: 0, Len: 10}},
			blocks:   []int32{5, 2, 9},
		},
		{
			name: "blocks beyond the last token are left out", blockTokens: 4,
			views:     [][]kvcache.Segment{{{Blocks: []kvcache.BlockID{5, 2, 9}, Len: 4}}},
			rows:      []int{1},
			positions: []int32{3}, slots: []int32{23},
			items:    []kernels.WorkItem{{Row: 0, Rows: 1, Segment: 0, Segments: 1}},
			segments: []kernels.WorkSegment{{Block: 0, Len: 4}},
			blocks:   []int32{5},
		},
		{
			name: "decode rows, then a prompt", blockTokens: 4,
			views: [][]kvcache.Segment{
				{{Blocks: []kvcache.BlockID{1, 2}, Len: 6}},
				{{Blocks: []kvcache.BlockID{3}, Len: 4}},
				{{Blocks: []kvcache.BlockID{4}, Len: 3}},
			},
			rows:      []int{1, 1, 3},
			positions: []int32{5, 3, 0, 1, 2}, slots: []int32{9, 15, 16, 17, 18},
			items: []kernels.WorkItem{
				{Row: 0, Rows: 1, Segment: 0, Segments: 1},
				{Row: 1, Rows: 1, Segment: 1, Segments: 1},
				{Row: 2, Rows: 3, Segment: 2, Segments: 1},
			},
			segments: []kernels.WorkSegment{{Block: 0, Len: 6}, {Block: 2, Len: 4}, {Block: 3, Len: 3}},
			blocks:   []int32{1, 2, 3, 4},
		},
		{
			name: "shared prefix, chunk from another position, private tail", blockTokens: 4,
			views: [][]kvcache.Segment{{
				{Blocks: []kvcache.BlockID{1, 2}, Len: 7},
				{Blocks: []kvcache.BlockID{6, 7}, Off: 3, Len: 4, Pos: 7, Stored: 103},
				{Blocks: []kvcache.BlockID{8, 9}, Off: 2, Len: 3, Pos: 11, Stored: 11},
			}},
			rows:      []int{2},
			positions: []int32{12, 13}, slots: []int32{35, 36},
			items: []kernels.WorkItem{{Row: 0, Rows: 2, Segment: 0, Segments: 3}},
			segments: []kernels.WorkSegment{
				{Block: 0, Len: 7},
				{Block: 2, Off: 3, Len: 4, Pos: 7, Stored: 103},
				{Block: 4, Off: 2, Len: 3, Pos: 11, Stored: 11},
			},
			blocks: []int32{1, 2, 6, 7, 8, 9},
		},
		{
			name: "own rows in two segments, with a gap in the positions", blockTokens: 4,
			views: [][]kvcache.Segment{{
				{Blocks: []kvcache.BlockID{1}, Len: 3},
				{Blocks: []kvcache.BlockID{2}, Off: 1, Len: 2, Pos: 5, Stored: 5},
			}},
			rows:      []int{4},
			positions: []int32{1, 2, 5, 6}, slots: []int32{5, 6, 9, 10},
			items:    []kernels.WorkItem{{Row: 0, Rows: 4, Segment: 0, Segments: 2}},
			segments: []kernels.WorkSegment{{Block: 0, Len: 3}, {Block: 1, Off: 1, Len: 2, Pos: 5, Stored: 5}},
			blocks:   []int32{1, 2},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Plan
			p.Reset(64)
			require.NoError(t, p.Add([]kvcache.Segment{{Blocks: []kvcache.BlockID{77}, Len: 2}}, 2), "left over from an earlier step")
			p.Reset(tt.blockTokens)
			require.Equal(t, -1, p.MaxPosition())
			for i, view := range tt.views {
				require.NoError(t, p.Add(view, tt.rows[i]))
			}
			require.Equal(t, tt.positions, p.Positions)
			require.Equal(t, tt.slots, p.Slots)
			require.Equal(t, tt.items, p.items)
			require.Equal(t, tt.segments, p.segments)
			require.Equal(t, tt.blocks, p.blocks)
			require.Equal(t, Sizes{Rows: len(tt.positions), Segments: len(tt.segments), Blocks: len(tt.blocks)}, p.Sizes())
			require.Equal(t, len(tt.positions), p.Rows())
			require.Equal(t, tt.blockTokens, p.BlockTokens())
		})
	}
}

func TestAddCutsLongSpansIntoTiles(t *testing.T) {
	var p Plan
	p.Reset(16)
	require.NoError(t, p.Add([]kvcache.Segment{{Blocks: []kvcache.BlockID{1}, Len: 1}}, 1))
	require.NoError(t, p.Add([]kvcache.Segment{{Blocks: []kvcache.BlockID{2, 3, 4}, Len: 48}}, 40))
	require.Equal(t, []kernels.WorkItem{
		{Row: 0, Rows: 1, Segment: 0, Segments: 1},
		{Row: 1, Rows: 16, Segment: 1, Segments: 1},
		{Row: 17, Rows: 16, Segment: 1, Segments: 1},
		{Row: 33, Rows: 8, Segment: 1, Segments: 1},
	}, p.items)
	require.Equal(t, 47, p.MaxPosition())
	require.Equal(t, 4, p.MaxBlock())
}

func TestAddRefuses(t *testing.T) {
	one := []kvcache.BlockID{1}
	const huge = 1 << 31
	tests := []struct {
		name string
		view []kvcache.Segment
		rows int
		want string
	}{
		{"nothing", nil, 1, "got a view of 0 tokens"},
		{"no rows", []kvcache.Segment{{Blocks: one, Len: 1}}, 0, "at least one row"},
		{"more rows than tokens", []kvcache.Segment{{Blocks: one, Len: 2}}, 3, "got a view of 2 tokens"},
		{"empty segment", []kvcache.Segment{{Blocks: one, Len: 1}, {Blocks: one, Pos: 1, Stored: 1}}, 1, "segment 1: got length 0"},
		{"negative length", []kvcache.Segment{{Blocks: one, Len: 3}, {Blocks: one, Len: -1}}, 1, "segment 1: got length -1"},
		{"offset beyond the block", []kvcache.Segment{{Blocks: one, Off: 4, Len: 1}}, 1, "got offset 4"},
		{"negative offset", []kvcache.Segment{{Blocks: one, Off: -1, Len: 1}}, 1, "got offset -1"},
		{"too few blocks", []kvcache.Segment{{Blocks: one, Off: 1, Len: 4}}, 1, "got 1 blocks, want 2 for 4 tokens from offset 1"},
		{"null block", []kvcache.Segment{{Blocks: []kvcache.BlockID{1, 0}, Len: 5}}, 1, "got block 0"},
		{"negative block", []kvcache.Segment{{Blocks: []kvcache.BlockID{-1}, Len: 1}}, 1, "got block -1"},
		{"slot beyond 31 bits", []kvcache.Segment{{Blocks: []kvcache.BlockID{1 << 29}, Len: 1}}, 1, "got block 536870912"},
		{"negative position", []kvcache.Segment{{Blocks: one, Len: 1, Pos: -1, Stored: -1}}, 1, "got position -1"},
		{"positions that go back", []kvcache.Segment{{Blocks: one, Len: 2}, {Blocks: one, Len: 1, Pos: 1, Stored: 1}}, 1, "segment 1: got position 1, want at least 2"},
		{"position beyond 31 bits", []kvcache.Segment{{Blocks: one, Len: 1, Pos: huge, Stored: huge}}, 1, "want 31 bits"},
		{"length beyond 31 bits", []kvcache.Segment{{Blocks: one, Len: huge}}, 1, "want 31 bits"},
		{"own rows stored elsewhere", []kvcache.Segment{{Blocks: one, Len: 2, Pos: 2, Stored: 0}}, 1, "got position 2, stored 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Plan
			p.Reset(4)
			require.NoError(t, p.Add([]kvcache.Segment{{Blocks: []kvcache.BlockID{6}, Len: 2}}, 1))
			before := p.Sizes()
			require.ErrorContains(t, p.Add(tt.view, tt.rows), tt.want)
			require.Equal(t, before, p.Sizes(), "an error changes nothing")
			require.Equal(t, 6, p.MaxBlock())
		})
	}
	var unset Plan
	require.ErrorContains(t, unset.Add([]kvcache.Segment{{Blocks: one, Len: 1}}, 1), "not reset")
}

// TestAddWalksEveryToken compares random plans with a walk over the tokens one by one.
func TestAddWalksEveryToken(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	var p Plan
	for range 500 {
		blockTokens := []int{1, 4, 16, 64}[r.IntN(4)]
		p.Reset(blockTokens)
		var positions, slots []int32
		for range 1 + r.IntN(4) {
			view := randomView(r, blockTokens)
			var pos, slot []int32
			for _, s := range view {
				for i := range s.Len {
					pos = append(pos, int32(s.Pos+i))
					slot = append(slot, int32(int(s.Blocks[(s.Off+i)/blockTokens])*blockTokens+(s.Off+i)%blockTokens))
				}
			}
			rows := 1 + r.IntN(len(pos))
			require.NoError(t, p.Add(view, rows))
			positions = append(positions, pos[len(pos)-rows:]...)
			slots = append(slots, slot[len(slot)-rows:]...)
		}
		require.Equal(t, positions, p.Positions)
		require.Equal(t, slots, p.Slots)
		row := int32(0)
		for _, item := range p.items { // every row is in exactly one item
			require.Equal(t, row, item.Row)
			require.LessOrEqual(t, item.Rows, int32(tileRows))
			row += item.Rows
		}
		require.Equal(t, len(p.Positions), int(row))
	}
}

func randomView(r *rand.Rand, blockTokens int) []kvcache.Segment {
	view := make([]kvcache.Segment, 1+r.IntN(3))
	pos := 0
	for i := range view {
		pos += r.IntN(3)
		s := kvcache.Segment{Off: r.IntN(blockTokens), Len: 1 + r.IntN(50), Pos: pos, Stored: pos}
		for range blocksOf(s, blockTokens) + r.IntN(2) {
			s.Blocks = append(s.Blocks, kvcache.BlockID(1+r.IntN(1000)))
		}
		view[i] = s
		pos += s.Len
	}
	return view
}

func TestAddAllocatesNothing(t *testing.T) {
	var p Plan
	view := []kvcache.Segment{{Blocks: []kvcache.BlockID{1, 2, 3, 4}, Len: 60}}
	step := func() {
		p.Reset(16)
		for range 8 {
			if err := p.Add(view, 30); err != nil {
				t.Fatal(err)
			}
		}
	}
	step()
	require.Zero(t, testing.AllocsPerRun(100, step))
}
