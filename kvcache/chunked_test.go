package kvcache

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Exact chunks are shared to their last token, after the same chunks, and nowhere else.
func TestChunkedExactSharesWholeChunks(t *testing.T) {
	m := newManager(t, Chunked{}, 64, 512)
	system, one, two := tokens(1, 20), tokens(2, 5), tokens(3, 40)
	require.Equal(t, 0, admit(t, m, 1, system, one, two, tokens(4, 3)))
	require.Equal(t, 65, admit(t, m, 2, system, one, two, tokens(5, 3)))
	require.Equal(t, 20, admit(t, m, 3, system, two, one, tokens(4, 3)), "another order is another context")
	require.Equal(t, 0, admit(t, m, 4, one, system, tokens(4, 3)))
	require.Equal(t, 20, admit(t, m, 5, system, one), "the last chunk is private")
	require.Equal(t, []int{68, 3, 48, 28, 5}, step(t, m, 1, 2, 3, 4, 5))
	require.Equal(t, "[1 2]+0:20@0 [3]+0:5@20 [4 5 6]+0:40@25 [7]+0:4@65 ", segments(t, m, 1))
	require.Equal(t, "[1 2]+0:20@0 [3]+0:5@20 [4 5 6]+0:40@25 [8]+0:4@65 ", segments(t, m, 2))
}

// view shows what a sequence's next span sees: first block, offset, length, position and stored position of each segment.
func view(t testing.TB, m Manager, id SeqID) (all [][5]int) {
	t.Helper()
	spans := m.Next(nil, id, 1<<20)
	require.NotEmpty(t, spans)
	last := spans[len(spans)-1]
	for _, s := range m.View(nil, last) {
		all = append(all, [5]int{int(s.Blocks[0]), s.Off, s.Len, s.Pos, s.Stored})
	}
	for _, s := range spans {
		m.Wrote(s)
	}
	require.NoError(t, m.Check())
	return all
}

// Independent chunks are stored once and stand anywhere, in any order, also twice in one prompt.
func TestChunkedIndependentMovesChunks(t *testing.T) {
	m := newManager(t, Chunked{Mode: Independent}, 64, 512)
	one, two := tokens(1, 20), tokens(2, 5)
	require.Equal(t, 0, admit(t, m, 1, one, two, tokens(4, 3)))
	require.Equal(t, [][5]int{{1, 0, 20, 0, 0}, {3, 0, 5, 20, 0}, {4, 0, 3, 25, 25}}, view(t, m, 1))
	require.Equal(t, 45, admit(t, m, 2, two, one, one, tokens(5, 3)))
	require.Equal(t, [][5]int{{3, 0, 5, 0, 0}, {1, 0, 20, 5, 0}, {1, 0, 20, 25, 0}, {5, 0, 3, 45, 45}}, view(t, m, 2))
	require.Equal(t, 4, admit(t, m, 3, tokens(7, 4), tokens(7, 4), one[:1]), "stored once, too")
	require.Equal(t, 5, m.Stats().BlocksUsed-2)
}

// A chunk that is read after the head belongs to that head.
func TestChunkedIndependentAfterTheHead(t *testing.T) {
	m := newManager(t, Chunked{Mode: Independent, AfterHead: true, HeadGap: NoHeadGap}, 64, 512)
	head, one, two := tokens(1, 20), tokens(2, 5), tokens(3, 16)
	require.Equal(t, 0, admit(t, m, 1, head, one, two, tokens(4, 3)))
	spans := m.Next(nil, 1, 1<<20)
	require.Equal(t, []Span{{1, 0, 20}, {1, 20, 5}, {1, 25, 16}, {1, 41, 3}}, spans)
	require.Equal(t, []Segment{
		{Blocks: []BlockID{1, 2}, Len: 20}, {Blocks: []BlockID{4}, Len: 16, Pos: 20, Stored: 20},
	}, m.View(nil, spans[2]), "read right after the head, wherever it stands")
	for _, s := range spans {
		m.Wrote(s)
	}
	require.Equal(t, 41, admit(t, m, 2, head, two, one, tokens(4, 3)))
	require.Equal(t, [][5]int{{1, 0, 20, 0, 0}, {4, 0, 16, 20, 20}, {3, 0, 5, 36, 20}, {6, 0, 3, 41, 41}}, view(t, m, 2))
	require.Equal(t, 0, admit(t, m, 3, tokens(9, 20), two, one, tokens(4, 3)), "after another head")
}

// Read at a distance from the head, no chunk is taken for the first one, and none of another distance is found.
func TestChunkedIndependentAwayFromTheHead(t *testing.T) {
	m := newManager(t, Chunked{Mode: Independent, AfterHead: true, HeadGap: 100}, 64, 512)
	head, one, two := tokens(1, 20), tokens(2, 5), tokens(3, 16)
	require.Equal(t, 0, admit(t, m, 1, head, one, two, tokens(4, 3)))
	spans := m.Next(nil, 1, 1<<20)
	require.Equal(t, []Span{{1, 0, 20}, {1, 20, 5}, {1, 25, 16}, {1, 41, 3}}, spans)
	for _, i := range []int{1, 2} {
		view := m.View(nil, spans[i])
		require.Equal(t, Segment{Blocks: []BlockID{1, 2}, Len: 20}, view[0])
		require.Equal(t, Segment{Blocks: []BlockID{BlockID(i + 2)}, Len: spans[i].Len, Pos: 120, Stored: 120}, view[1])
	}
	for _, s := range spans {
		m.Wrote(s)
	}
	require.Equal(t, 41, admit(t, m, 2, head, two, one, tokens(4, 3)), "the first chunk is found like the others")
	require.Equal(t, [][5]int{{1, 0, 20, 0, 0}, {4, 0, 16, 20, 120}, {3, 0, 5, 36, 120}, {6, 0, 3, 41, 41}}, view(t, m, 2))
	require.Equal(t, 0, admit(t, m, 3, tokens(9, 20), two, tokens(4, 3)), "after another head")

	// A chunk that would end beyond the context is read as far away as there is room.
	long := tokens(5, 400)
	require.Equal(t, 20, admit(t, m, 4, head, long, tokens(4, 3)))
	require.Equal(t, [][5]int{{1, 0, 20, 0, 0}, {11, 0, 400, 20, 112}, {36, 0, 3, 420, 420}}, view(t, m, 4)[:3])
	m.Remove(4)
	require.Equal(t, 20, admit(t, m, 5, head, tokens(5, 492)))
}

// The distance is part of a chunk's key: also of a registered one's, and so of its file in another tier.
func TestChunkedHeadGapIsInTheKey(t *testing.T) {
	head, one := tokens(1, 20), tokens(2, 40)
	seen := map[Key]int{}
	for _, gap := range []int{NoHeadGap, 0, 1, 100, 101} {
		c := Chunked{Mode: Independent, AfterHead: true, HeadGap: gap}
		r := newRegistry(t, Reuse{Over: c}, 64)
		id := mustRegister(t, r, ChunkText{Tokens: one, After: mustRegister(t, r, ChunkText{Tokens: head})})
		serve(t, r, 1, head, tokens(3, 5), one, tokens(4, 3))
		info, err := r.Chunk(id)
		require.NoError(t, err)
		require.Equal(t, 40, info.HeldTokens, "gap %d: what is registered is what requests find", gap)
		require.NotContains(t, seen, id, "gap %d and %d", gap, seen[id])
		seen[id] = gap
	}
}

// A chunk that stands as far from the head as it was read, after chunks that are computed in their context, is approximate all
// the same.
func TestChunkedAtItsOwnPlaceIsApproximate(t *testing.T) {
	m := newManager(t, Chunked{Mode: Independent, AfterHead: true, HeadGap: 4, RecomputeFirst: 4}, 64, 512)
	head, short, one := tokens(1, 20), tokens(2, 4), tokens(3, 16)
	ask := func(id SeqID, parts ...[]int32) bool {
		var p Prompt
		for _, part := range parts {
			p.Tokens = append(p.Tokens, part...)
			p.Chunks = append(p.Chunks, len(p.Tokens))
		}
		a, err := m.Admit(id, p)
		require.NoError(t, err)
		return a.Approximate
	}
	require.True(t, ask(1, head, one, tokens(4, 3)))
	step(t, m, 1)
	require.True(t, ask(2, head, short, one, tokens(4, 3)))
	require.False(t, ask(3, head, short, tokens(4, 3)))
	require.False(t, ask(4, head, tokens(4, 3)))
}

// The first tokens of a chunk are computed again in their context, for each sequence, after the chunk itself.
func TestChunkedRecomputesTheFirstTokens(t *testing.T) {
	m := newManager(t, Chunked{Mode: Independent, RecomputeFirst: 4}, 64, 512)
	head, one := tokens(1, 16), tokens(2, 20)
	require.Equal(t, 0, admit(t, m, 1, head, one, tokens(4, 3)))
	require.Equal(t, []int{16 + 20}, step(t, m, 1), "everything by itself")
	require.Equal(t, [][5]int{{1, 0, 20, 0, 0}, {3, 4, 16, 20, 4}, {5, 0, 3, 36, 36}}, view(t, m, 1), "what nobody shares yet is one segment")
	require.Equal(t, 16+16, admit(t, m, 2, head, one, tokens(4, 3)))
	require.Equal(t, []int{4 + 3}, step(t, m, 2))
	require.Equal(t, 16, admit(t, m, 3, head, one[:4], one[:3], tokens(4, 3)), "short chunks are computed in their context only")
	require.Equal(t, []int{4 + 3 + 3}, step(t, m, 3))
}

func TestChunkedRefuses(t *testing.T) {
	p, err := NewPool(8, 16)
	require.NoError(t, err)
	fixed := Geometry{BlockTokens: 16, MaxTokens: 64}
	for _, c := range []struct {
		chunked Chunked
		want    string
	}{
		{Chunked{Mode: Independent}, "the model's keys cannot be moved"},
		{Chunked{Mode: 7}, "no mode 7"},
		{Chunked{AfterHead: true}, "are for independent chunks"},
		{Chunked{RecomputeFirst: 1}, "are for independent chunks"},
		{Chunked{Mode: Independent, RecomputeFirst: -1}, "RecomputeFirst is -1"},
		{Chunked{Mode: Independent, AfterHead: true, HeadGap: -2}, "HeadGap is -2, want NoHeadGap or more"},
		{Chunked{Mode: Independent, HeadGap: 1}, "0 without AfterHead"},
		{Chunked{Auto: Auto{Tokens: -1}}, "Auto.Tokens is -1"},
		{Chunked{Auto: Auto{ByContent: true}}, "at least 2 to cut by content"},
	} {
		_, err := c.chunked.NewManager(p, fixed)
		require.ErrorContains(t, err, c.want)
		_, err = Reuse{Over: c.chunked}.NewManager(p, fixed)
		require.ErrorContains(t, err, c.want)
	}
	_, err = Chunked{Mode: Independent}.NewManager(p, fixed)
	require.True(t, errors.Is(err, errors.ErrUnsupported))

	m := newManager(t, Chunked{}, 8, 64)
	for _, chunks := range [][]int{{5, 3}, {-1}, {9}} {
		_, err := m.Admit(1, Prompt{Tokens: tokens(1, 8), Chunks: chunks})
		require.ErrorContains(t, err, "ends at token")
	}
	_, err = m.Admit(1, Prompt{Tokens: tokens(1, 8), Chunks: []int{0, 3, 3, 8}})
	require.NoError(t, err, "an empty chunk is none")
	require.Equal(t, 2, m.pool.Used())
}

func TestAutoCut(t *testing.T) {
	require.Equal(t, []int{4, 8}, Auto{Tokens: 4}.Cut(nil, tokens(1, 12)))
	require.Equal(t, []int{4, 8, 12}, Auto{Tokens: 4}.Cut(nil, tokens(1, 13)))
	require.Empty(t, Auto{}.Cut(nil, tokens(1, 13)))

	a := Auto{Tokens: 64, ByContent: true}
	text := make([]int32, 20_000)
	for i := range text {
		text[i] = int32(gear(int32(i)) % 50_000)
	}
	ends := a.Cut(nil, text)
	require.InDelta(t, len(text)/a.Tokens, len(ends), 120, "about as many as were asked for")
	start := 0
	for _, end := range ends {
		require.True(t, end-start >= 16 && end-start <= 256, "%d to %d", start, end)
		start = end
	}
	changed := slices.Concat(text[:9000], tokens(7, 3), text[9000:])
	same := 0
	for _, end := range a.Cut(nil, changed) {
		if end < 9000 && slices.Contains(ends, end) || slices.Contains(ends, end-3) {
			same++
		}
	}
	require.Greater(t, same, len(ends)-10, "three tokens put in change the chunks around them")
}

func TestChunkedCutsByItself(t *testing.T) {
	m := newManager(t, Chunked{Auto: Auto{Tokens: 16}}, 64, 512)
	_, err := m.Admit(1, Prompt{Tokens: tokens(1, 40)})
	require.NoError(t, err)
	a, err := m.Admit(2, Prompt{Tokens: tokens(1, 40)})
	require.NoError(t, err)
	require.Equal(t, 32, a.Cached)
	a, err = m.Admit(3, Prompt{Tokens: tokens(1, 40), Chunks: []int{}})
	require.NoError(t, err)
	require.Zero(t, a.Cached, "a request that says that it has no chunks")
}
