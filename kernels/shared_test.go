package kernels

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// family is sequences in a step. All see the first tokens of one prefix, some of them more of it.
type family struct {
	name  string
	ends  []int32 // rising: positions that levels of sharing end at
	count []int   // of each level: sequences, the first ones, that share it
	own   []int32 // of each sequence: tokens after what it shares, of which the last rows are its rows
	rows  []int32 // of each sequence
	far   bool    // parts of the prefix are stored for other positions
}

func families() []family {
	var all []family
	for _, end := range []int32{64, 448, 511, 512, 513, 575, 576, 1024, 1100} {
		all = append(all, family{name: fmt.Sprintf("end=%d", end), ends: []int32{end}, count: []int{3}, own: []int32{64, 1, 700, 9}, rows: []int32{1, 1, 1, 1}})
	}
	return append(all,
		family{name: "two rows", ends: []int32{640}, count: []int{2}, own: []int32{5, 70}, rows: []int32{1, 1}},
		family{name: "prompts among rows", ends: []int32{600}, count: []int{4}, own: []int32{20, 1, 1, 33}, rows: []int32{20, 1, 1, 33}},
		family{name: "more rows than a tile", ends: []int32{320}, count: []int{2}, own: []int32{40, 90}, rows: []int32{40, 90}},
		family{name: "levels within a stretch", ends: []int32{100, 300, 505}, count: []int{5, 4, 2}, own: []int32{3, 30, 1, 8, 600}, rows: []int32{1, 1, 1, 1, 1}},
		family{name: "levels over stretches", ends: []int32{700, 1290, 1300, 2100}, count: []int{4, 3, 3, 2}, own: []int32{3, 30, 1, 8}, rows: []int32{1, 2, 1, 1}},
		family{name: "stored elsewhere", ends: []int32{600, 1300}, count: []int{3, 2}, own: []int32{3, 30, 1}, rows: []int32{1, 2, 1}, far: true},
	)
}

// step is the family's work without shared items, and with them.
func (r *rig) step(g geometry, f family) (p *AttendParams, ordinary, shared Work) {
	const blocks = 40
	heads := g.kvHeads * g.group
	var ids []int32
	run := func(pos, n int32) WorkSegment {
		s := WorkSegment{Block: int32(len(ids)), Off: int32(r.rng.IntN(g.blockTokens)), Len: n, Pos: pos, Stored: pos}
		for range ceilDiv(int(s.Off+n), g.blockTokens) {
			ids = append(ids, int32(r.rng.IntN(blocks)))
		}
		return s
	}
	var prefix []WorkSegment
	start := int32(0)
	for i, end := range f.ends {
		s := run(start, end-start)
		if f.far && i%2 == 0 {
			s.Stored += 17
		}
		prefix, start = append(prefix, s), end
	}
	var items, trimmed, groups []WorkItem
	var segments, places, rowLists = []WorkSegment{}, []int32{}, make([][]int32, len(f.ends))
	for _, i := range r.rng.Perm(len(f.own)) { // the rows of a group need not be neighbours
		var view []WorkSegment
		shares := int32(0)
		for level, end := range f.ends {
			if i < f.count[level] {
				view, shares = append(view, prefix[level]), end
				for row := range f.rows[i] {
					rowLists[level] = append(rowLists[level], int32(len(places))+row)
				}
			}
		}
		view = append(view, run(shares, f.own[i]))
		items = append(items, WorkItem{Row: int32(len(places)), Rows: f.rows[i], Segment: int32(len(segments)), Segments: int32(len(view))})
		segments = append(segments, view...)
		rest := between(view, shares/ShareTile*ShareTile, math.MaxInt32, g.blockTokens)
		trimmed = append(trimmed, WorkItem{Row: int32(len(places)), Rows: f.rows[i], Segment: int32(len(segments)), Segments: int32(len(rest))})
		segments = append(segments, rest...)
		for row := range f.rows[i] {
			places = append(places, shares+f.own[i]-f.rows[i]+row)
		}
	}
	var sharedRows []int32
	start = 0
	for level, end := range f.ends {
		end = end / ShareTile * ShareTile
		if start == end {
			continue
		}
		part := between(prefix, start, end, g.blockTokens)
		groups = append(groups, WorkItem{Row: int32(len(sharedRows)), Rows: int32(len(rowLists[level])), Segment: int32(len(segments)), Segments: int32(len(part))})
		segments, sharedRows, start = append(segments, part...), append(sharedRows, rowLists[level]...), end
	}
	p = &AttendParams{
		Q: r.floats(len(places) * (heads*g.headDim + 5)), QStride: heads*g.headDim + 5, Out: r.alloc(4 * len(places) * heads * g.headDim),
		Positions: r.ints(places...), Rope: r.ropeTable(3000, g.headDim, 1), KV: r.cache(g, blocks), Scale: 0.1,
		Heads: heads, KVHeads: g.kvHeads, HeadDim: g.headDim, Rows: len(places),
	}
	ordinary = Work{
		Items: write(r, items), Segments: write(r, segments), Blocks: r.ints(ids...),
		ItemCount: len(items), SegmentCount: len(segments), BlockCount: len(ids),
	}
	shared = ordinary
	shared.Items, shared.Shared, shared.SharedRows = write(r, trimmed), write(r, groups), r.ints(sharedRows...)
	shared.SharedCount, shared.SharedRowCount = len(groups), len(sharedRows)
	return p, ordinary, shared
}

// between is the tokens of segments at positions from first on and before end.
func between(segments []WorkSegment, first, end int32, blockTokens int) (part []WorkSegment) {
	for _, s := range segments {
		lo, hi := max(first, s.Pos), min(int64(end), int64(s.Pos+s.Len))
		if int64(lo) >= hi {
			continue
		}
		at := s.Off + lo - s.Pos
		part = append(part, WorkSegment{
			Block: s.Block + at/int32(blockTokens), Off: at % int32(blockTokens), Len: int32(hi) - lo, Pos: lo, Stored: s.Stored + lo - s.Pos,
		})
	}
	return part
}

// TestShared attends with shared items and without: the same bits on every kernel set, whatever the number of threads.
func TestShared(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		var rigs []*rig
		for _, threads := range []int{1, 2, 7} {
			rigs = append(rigs, newRig(t, set, threads))
		}
		r := rigs[0]
		for i, f := range families() {
			for _, g := range []geometry{
				{kvHeads: 1 + i%2, group: 2, headDim: 64, blockTokens: 16 << (i % 3), kv: KVBF16, apart: true},
				{kvHeads: 1, group: 1 + i%5, headDim: 40, blockTokens: 16, kv: KVF32},
				{kvHeads: 1, group: 2, headDim: 32, blockTokens: 16, kv: KVI8},
			} {
				t.Run(f.name+"/"+g.String(), func(t *testing.T) {
					p, ordinary, shared := r.step(g, f)
					p.Work = ordinary
					r.do(func(o Ops) error { return o.Attend(p) })
					want := bits(p.Out)
					requireClose(t, r.tolerance("attend"), p.Out.float32s(), wantAttend(p))
					for _, r := range rigs {
						for _, work := range []Work{ordinary, shared} {
							clear(p.Out.float32s())
							p.Work = work
							r.do(func(o Ops) error { return o.Attend(p) })
							require.Equal(t, want, bits(p.Out), "%d threads, %d shared items", r.dev.Info().Threads, work.SharedCount)
						}
					}
				})
			}
		}
	})
}

// TestSharedWideGroup has more queries of one row than pass over the keys together.
func TestSharedWideGroup(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 3)
		g := geometry{kvHeads: 1, group: 70, headDim: 16, blockTokens: 16}
		p, ordinary, shared := r.step(g, family{ends: []int32{600}, count: []int{3}, own: []int32{3, 4, 5}, rows: []int32{1, 1, 2}})
		p.Work = ordinary
		r.do(func(o Ops) error { return o.Attend(p) })
		want := bits(p.Out)
		p.Work = shared
		r.do(func(o Ops) error { return o.Attend(p) })
		require.Equal(t, want, bits(p.Out))
	})
}

// TestSharedAllocatesNothing runs shared items in the steady state.
func TestSharedAllocatesNothing(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 2)
		p, _, shared := r.step(geometry{kvHeads: 2, group: 2, headDim: 64, blockTokens: 16}, families()[9])
		p.Work = shared
		run := func(o Ops) error { return o.Attend(p) }
		require.Zero(t, testing.AllocsPerRun(100, func() { r.do(run) }))
	})
}

// TestSharedChecks breaks one rule of shared items at a time.
func TestSharedChecks(t *testing.T) {
	cases := []struct {
		change func(p *AttendParams)
		want   string
	}{
		{func(p *AttendParams) { p.Work.SharedCount = 3 }, "Work.Shared has 8 elements, want [3, 4]"},
		{func(p *AttendParams) { p.Work.SharedRowCount = -1 }, "Work.SharedRows [-1, 1] cannot be"},
		{func(p *AttendParams) { p.Work.SharedRows.int32s()[1] = 4 }, "Work.SharedRows[1] is 4, want 0 to 3"},
		{func(p *AttendParams) { p.Work.shared()[1].Row = -1 }, "Work.Shared[1] has rows -1 to 1 of the 5 listed"},
		{func(p *AttendParams) { p.Work.shared()[0].Rows = 6 }, "Work.Shared[0] has rows 0 to 6 of the 5 listed"},
		{func(p *AttendParams) { p.Work.shared()[0].Rows = 0 }, "Work.Shared[0] has rows 0 to 0 of the 5 listed"},
		{func(p *AttendParams) { p.Work.shared()[0].Segments = 0 }, "Work.Shared[0] has segments"},
		{func(p *AttendParams) { p.Work.shared()[1].Segments = 100 }, "Work.Shared[1] has segments"},
		{func(p *AttendParams) { p.Work.segments()[p.Work.shared()[0].Segment].Len -= 3 }, "Work.Shared[0] ends at position 573, want a multiple of 64"},
		{func(p *AttendParams) { p.Work.segments()[p.Work.shared()[1].Segment].Pos++ }, "Work.Shared[1] has"},
		{func(p *AttendParams) { p.Work.segments()[p.Work.shared()[0].Segment].Len = 0 }, "Work.Shared[0] has 0 tokens at position 0"},
		{func(p *AttendParams) { p.Positions.int32s()[p.Work.SharedRows.int32s()[0]] = 575 }, "Work.Shared[0] ends at position 576, its row"},
		{func(p *AttendParams) { p.Work.shared()[0] = p.Work.shared()[1] }, "Work.Shared[0] begins at position 576, what its row"},
		{func(p *AttendParams) { p.Work.items()[0].Rows, p.Work.items()[1].Rows = 0, 0 }, ""},
		{func(p *AttendParams) { p.Work.items()[0].Rows = 0; p.Work.items()[1] = WorkItem{Rows: 4} }, "Work.Items[1] has rows that share the tokens before"},
		{func(p *AttendParams) { p.Work.segments()[p.Work.items()[0].Segment].Pos = 3 }, "Work.Items[0] begins at position 3, its rows share the tokens before"},
	}
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 2)
		for _, c := range cases {
			t.Run(c.want, func(t *testing.T) {
				p, _, shared := r.step(geometry{kvHeads: 1, group: 2, headDim: 16, blockTokens: 16},
					family{ends: []int32{600, 1000}, count: []int{3, 2}, own: []int32{3, 4, 5}, rows: []int32{1, 1, 1}})
				p.Work = shared
				grown := append(slices.Clone(p.Positions.int32s()), 2000) // a row that shares nothing and is in no item
				p.Positions, p.Rows = r.ints(grown...), 4
				p.Q, p.Out = r.floats(4*p.QStride), r.alloc(4*4*2*16)
				c.change(p)
				err := r.dev.Do(context.Background(), func(o Ops) error { return o.Attend(p) })
				if c.want == "" {
					require.NoError(t, err)
					return
				}
				require.ErrorContains(t, err, "kernels: Attend: "+c.want)
				require.Equal(t, make([]float32, len(p.Out.float32s())), p.Out.float32s())
			})
		}
	})
}
