package attention

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
)

// run is a segment of blocks that follow each other.
func run(block kvcache.BlockID, pos, n int) kvcache.Segment {
	return kvcache.Segment{Blocks: blockRun(int(block), (n+15)/16), Len: n, Pos: pos, Stored: pos}
}

// group is a shared item in plain words.
type group struct {
	rows      []int32
	from, end int
}

// groups reads the shared items of a plan.
func groups(p *Plan) (all []group) {
	for _, item := range p.sharing.items {
		segments := p.segments[item.Segment:][:item.Segments]
		last := segments[len(segments)-1]
		all = append(all, group{p.sharing.rows[item.Row:][:item.Rows], int(segments[0].Pos), int(last.Pos + last.Len)})
	}
	return all
}

func TestShare(t *testing.T) {
	prefix := func(n int) kvcache.Segment { return run(100, 0, n) }
	tests := []struct {
		name  string
		views [][]kvcache.Segment
		rows  []int // of each view; nil: one each
		auto  bool
		want  []group
		rest  []int // of each view: position that its items begin at
	}{
		{
			name:  "nothing shared",
			views: [][]kvcache.Segment{{run(1, 0, 200)}, {run(50, 0, 200)}},
			rest:  []int{0, 0},
		},
		{
			name:  "one span",
			views: [][]kvcache.Segment{{prefix(600), run(1, 600, 9)}},
			rest:  []int{0},
		},
		{
			name:  "rows that are not neighbours",
			views: [][]kvcache.Segment{{prefix(640), run(1, 640, 9)}, {run(60, 0, 700)}, {prefix(640), run(2, 640, 1)}},
			want:  []group{{[]int32{0, 2}, 0, 640}},
			rest:  []int{640, 0, 640},
		},
		{
			name:  "511 tokens",
			views: [][]kvcache.Segment{{prefix(511), run(1, 511, 9)}, {prefix(511), run(2, 511, 1)}},
			want:  []group{{[]int32{0, 1}, 0, 448}},
			rest:  []int{448, 448},
		},
		{
			name:  "512 tokens",
			views: [][]kvcache.Segment{{prefix(512), run(1, 512, 9)}, {prefix(512), run(2, 512, 1)}},
			want:  []group{{[]int32{0, 1}, 0, 512}},
			rest:  []int{512, 512},
		},
		{
			name:  "513 tokens",
			views: [][]kvcache.Segment{{prefix(513), run(1, 513, 9)}, {prefix(513), run(2, 513, 1)}},
			want:  []group{{[]int32{0, 1}, 0, 512}},
			rest:  []int{512, 512},
		},
		{
			name:  "63 tokens are no tile",
			views: [][]kvcache.Segment{{prefix(63), run(1, 63, 9)}, {prefix(63), run(2, 63, 9)}},
			rest:  []int{0, 0},
		},
		{
			name: "two levels, and one that ends within the first",
			views: [][]kvcache.Segment{
				{prefix(300), run(40, 300, 500), run(1, 800, 5)},
				{prefix(300), run(2, 300, 50)},
				{prefix(300), run(40, 300, 500), run(3, 800, 80)},
				{prefix(150), run(9, 150, 5)},
			},
			want: []group{{[]int32{0, 1, 2, 3}, 0, 128}, {[]int32{0, 1, 2}, 128, 256}, {[]int32{0, 2}, 256, 768}},
			rest: []int{768, 256, 768, 128},
		},
		{
			name: "the same blocks in other segments",
			views: [][]kvcache.Segment{
				{run(100, 0, 320), run(1, 320, 5)},
				{run(100, 0, 112), run(107, 112, 208), run(2, 320, 5)},
				{{Blocks: blockRun(100, 20), Len: 100}, {Blocks: blockRun(106, 14), Off: 4, Len: 220, Pos: 100, Stored: 100}, run(3, 320, 5)},
			},
			want: []group{{[]int32{0, 1, 2}, 0, 320}},
			rest: []int{320, 320, 320},
		},
		{
			name:  "shared and private blocks in one segment",
			views: [][]kvcache.Segment{{{Blocks: append(blockRun(100, 8), 1, 2), Len: 150}}, {{Blocks: append(blockRun(100, 8), 3), Len: 140}}},
			want:  []group{{[]int32{0, 1}, 0, 128}},
			rest:  []int{128, 128},
		},
		{
			name:  "prompts that follow a prefix, and a row",
			views: [][]kvcache.Segment{{prefix(256), run(1, 256, 40)}, {prefix(256), run(9, 256, 1)}},
			rows:  []int{40, 1},
			want:  []group{{append(sequence(0, 40), 40), 0, 256}},
			rest:  []int{256, 256},
		},
		{
			name: "a span that others read in the same step", // its own rows see a part of themselves
			views: [][]kvcache.Segment{
				{prefix(200)},
				{prefix(200), run(9, 200, 1)},
				{prefix(200), run(8, 200, 2)},
			},
			rows: []int{72, 1, 2},
			want: []group{{append(sequence(0, 72), 72, 73, 74), 0, 128}, {[]int32{72, 73, 74}, 128, 192}},
			rest: []int{128, 192, 192},
		},
		{
			name: "stored elsewhere, alike and not",
			views: [][]kvcache.Segment{
				{prefix(64), {Blocks: blockRun(40, 8), Len: 128, Pos: 64, Stored: 500}, run(1, 192, 1)},
				{prefix(64), {Blocks: blockRun(40, 8), Len: 128, Pos: 64, Stored: 500}, run(2, 192, 1)},
				{prefix(64), {Blocks: blockRun(40, 8), Len: 128, Pos: 64, Stored: 64}, run(3, 192, 1)},
			},
			want: []group{{[]int32{0, 1, 2}, 0, 64}, {[]int32{0, 1}, 64, 192}},
			rest: []int{192, 192, 64},
		},
		{
			name: "other positions, gaps and offsets share nothing",
			views: [][]kvcache.Segment{
				{run(100, 0, 128), run(1, 128, 1)},
				{run(100, 3, 128), run(2, 131, 1)},
				{{Blocks: blockRun(100, 9), Off: 1, Len: 128}, run(3, 128, 1)},
			},
			rest: []int{0, 3, 0},
		},
		{
			name: "a gap ends what is shared",
			views: [][]kvcache.Segment{
				{run(100, 0, 128), run(40, 130, 128), run(1, 258, 1)},
				{run(100, 0, 128), run(40, 130, 128), run(2, 258, 1)},
			},
			want: []group{{[]int32{0, 1}, 0, 128}},
			rest: []int{130, 130},
		},
		{
			name: "two groups",
			views: [][]kvcache.Segment{
				{prefix(64), run(1, 64, 1)}, {run(200, 0, 128), run(2, 128, 1)}, {prefix(64), run(3, 64, 1)}, {run(200, 0, 128), run(4, 128, 1)},
			},
			want: []group{{[]int32{0, 2}, 0, 64}, {[]int32{1, 3}, 0, 128}},
			rest: []int{64, 128, 64, 128},
		},
		{
			name: "auto: rows, but not a long prompt",
			views: [][]kvcache.Segment{
				{prefix(1024), run(1, 1024, 1)}, {prefix(1024), run(2, 1024, 100)}, {prefix(1024), run(9, 1024, 70)},
			},
			rows: []int{1, 100, 1}, auto: true,
			want: []group{{[]int32{0, 101}, 0, 1024}},
			rest: []int{1024, 0, 1024},
		},
		{
			name:  "auto: too little",
			views: [][]kvcache.Segment{{prefix(64), run(1, 64, 1)}, {prefix(64), run(2, 64, 1)}}, auto: true,
			rest: []int{0, 0},
		},
		{
			name: "auto: a level that is too short goes with the next",
			views: [][]kvcache.Segment{
				{prefix(640), run(1, 640, 1)}, {prefix(640), run(2, 640, 1)}, {prefix(64), run(3, 64, 1)},
			},
			auto: true,
			want: []group{{[]int32{0, 1}, 0, 640}},
			rest: []int{640, 640, 0},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p, ordinary Plan
			for _, plan := range []*Plan{&p, &ordinary} {
				plan.Reset(16)
				for i, view := range tt.views {
					rows := 1
					if tt.rows != nil {
						rows = tt.rows[i]
					}
					require.NoError(t, plan.Add(view, rows))
				}
			}
			mode := Shared
			if tt.auto {
				mode = Auto
			}
			before := p.Sizes()
			p.Share(mode, qwen)
			require.Equal(t, tt.want, groups(&p))
			saved := 0
			for _, g := range tt.want {
				saved += (g.end - g.from) * (len(g.rows) - 1)
			}
			require.Equal(t, saved, p.SavedReads())
			for i, sp := range p.sharing.spans {
				for _, item := range p.items[sp.item:][:sp.items] {
					require.Equal(t, tt.rest[i], int(p.segments[item.Segment].Pos), "view %d", i)
				}
			}
			require.Equal(t, ordinary.Positions, p.Positions)
			require.Equal(t, ordinary.Slots, p.Slots)
			if len(tt.want) == 0 {
				require.Equal(t, before, p.Sizes())
				require.Equal(t, ordinary.items, p.items)
				require.Equal(t, ordinary.segments, p.segments)
			}
			for row := range p.Rows() {
				require.Equal(t, walk(&ordinary, row), walk(&p, row), "what row %d reads", row)
			}

			ordinary.Share(Ordinary, qwen)
			require.Empty(t, groups(&ordinary))
			p.Reset(16)
			require.NoError(t, p.Add(tt.views[0], 1))
			p.Share(Shared, qwen)
			require.Empty(t, groups(&p), "members leave")
		})
	}
}

func sequence(first, end int32) (all []int32) {
	for i := first; i < end; i++ {
		all = append(all, i)
	}
	return all
}

// read is one token that a row reads.
type read struct{ slot, pos, stored int32 }

// walk is all that a row reads, in order: its shared items', then its own item's.
func walk(p *Plan, row int) (all []read) {
	add := func(segments []kernels.WorkSegment) {
		for _, s := range segments {
			for i := range s.Len {
				at := int(s.Off + i)
				slot := p.blocks[int(s.Block)+at/p.blockTokens]*int32(p.blockTokens) + int32(at%p.blockTokens)
				all = append(all, read{slot, s.Pos + i, s.Stored + i})
			}
		}
	}
	for _, item := range p.sharing.items {
		for _, r := range p.sharing.rows[item.Row:][:item.Rows] {
			if int(r) == row {
				add(p.segments[item.Segment:][:item.Segments])
			}
		}
	}
	for _, item := range p.items {
		if row >= int(item.Row) && row < int(item.Row+item.Rows) {
			add(p.segments[item.Segment:][:item.Segments])
		}
	}
	return all
}

// family adds the spans of a random tree of sequences: each has a prefix of another before it, or nothing.
func family(t *testing.T, r *rand.Rand, plans ...*Plan) {
	next := 1
	fresh := func(pos, n int) kvcache.Segment {
		s := run(kvcache.BlockID(next), pos, n)
		next += len(s.Blocks)
		return s
	}
	var prefixes [][]kvcache.Segment
	for range 2 + r.IntN(8) {
		var view []kvcache.Segment
		if len(prefixes) > 0 && r.IntN(4) > 0 {
			from := prefixes[r.IntN(len(prefixes))]
			view = append(view, from[:1+r.IntN(len(from))]...)
		}
		pos := tokens(view)
		for range r.IntN(3) {
			view = append(view, fresh(pos, 1+r.IntN(400)))
			pos = tokens(view)
		}
		if len(view) > 0 {
			prefixes = append(prefixes, view)
		}
		own := 1 + r.IntN(40)
		view = append(append([]kvcache.Segment(nil), view...), fresh(pos, own))
		rows := 1
		if r.IntN(3) == 0 {
			rows = 1 + r.IntN(own)
		}
		for _, p := range plans {
			require.NoError(t, p.Add(view, rows))
		}
	}
}

// TestShareReadsTheSame plans random trees: every row reads the same tokens in the same order, however they are shared.
func TestShareReadsTheSame(t *testing.T) {
	seed := rand.Uint64()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	r := rand.New(rand.NewPCG(seed, 0))
	saved := 0
	var ordinary, p Plan
	for i := range 300 {
		ordinary.Reset(16)
		p.Reset(16)
		family(t, r, &ordinary, &p)
		p.Share([]Mode{Shared, Auto}[i%2], qwen)
		saved += p.SavedReads()
		for row := range p.Rows() {
			require.Equal(t, walk(&ordinary, row), walk(&p, row))
		}
		require.LessOrEqual(t, 2*len(p.sharing.items), len(p.sharing.rows), "room that Sizes counts on")
	}
	require.Positive(t, saved)
}

// TestShareGivesTheSameBits attends random trees on the CPU.
func TestShareGivesTheSameBits(t *testing.T) {
	seed := rand.Uint64()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	r := rand.New(rand.NewPCG(seed, 0))
	const heads, kvHeads, dim, blocks = 4, 2, 64, 2000
	d := openDevice(t)
	alloc := func(floats int) kernels.Buffer {
		b, err := d.Alloc(4 * floats)
		require.NoError(t, err)
		numbers := make([]float32, floats)
		for i := range numbers {
			numbers[i] = float32(r.NormFloat64())
		}
		require.NoError(t, d.Do(context.Background(), func(ops kernels.Ops) error { return ops.Write(b, kernels.AsBytes(numbers)) }))
		return b
	}
	kv := kernels.KVLayout{
		Base: alloc(blocks * 16 * kvHeads * 2 * dim), Type: kernels.KVF32, BlockTokens: 16, TokenStride: kvHeads * 2 * dim * 4,
		VOffset: kvHeads * dim * 4, BlockStride: 16 * kvHeads * 2 * dim * 4,
	}
	rope := alloc(8000 * dim)
	lists, err := NewBuffers(d, Sizes{})
	require.NoError(t, err)
	defer lists.Free()
	attend := func(p *Plan, q kernels.Buffer) []float32 {
		require.NoError(t, lists.Reserve(p.Sizes()))
		out, n := alloc(p.Rows()*heads*dim), make([]float32, p.Rows()*heads*dim)
		require.NoError(t, d.Do(context.Background(), func(ops kernels.Ops) error {
			work, err := p.Write(ops, lists)
			if err != nil {
				return err
			}
			if err := ops.Attend(&kernels.AttendParams{
				Q: q, QStride: heads * dim, Out: out, Positions: lists.Positions, Rope: rope, KV: kv, Work: work,
				Scale: 0.125, Heads: heads, KVHeads: kvHeads, HeadDim: dim, Rows: p.Rows(),
			}); err != nil {
				return err
			}
			return ops.Read(kernels.AsBytes(n), out)
		}))
		return n
	}
	var ordinary, p Plan
	for range 20 {
		ordinary.Reset(16)
		p.Reset(16)
		family(t, r, &ordinary, &p)
		p.Share(Shared, qwen)
		q := alloc(p.Rows() * heads * dim)
		require.Equal(t, attend(&ordinary, q), attend(&p, q))
	}
}

func TestShareAllocatesNothing(t *testing.T) {
	var p Plan
	view := []kvcache.Segment{run(100, 0, 640), run(1, 640, 9)}
	step := func() {
		p.Reset(16)
		for range 8 {
			if err := p.Add(view, 1); err != nil {
				t.Fatal(err)
			}
		}
		p.Share(Auto, qwen)
	}
	step()
	require.NotEmpty(t, groups(&p))
	require.Zero(t, testing.AllocsPerRun(100, step))
}
