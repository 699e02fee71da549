package kvcache

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// newManager makes a manager over a pool of its own.
func newManager(t testing.TB, s Strategy, blocks, maxTokens int) *sharing {
	t.Helper()
	p, err := NewPool(blocks, 16)
	require.NoError(t, err)
	m, err := s.NewManager(p, Geometry{BlockTokens: 16, BytesPerToken: 8, MaxTokens: maxTokens, AnyPosition: true})
	require.NoError(t, err)
	if r, ok := m.(chunkRegistry); ok {
		return r.sharing
	}
	return m.(*sharing)
}

// tokens are n tokens that no other seed has.
func tokens(seed, n int) []int32 {
	list := make([]int32, n)
	for i := range list {
		list[i] = int32(seed*10_000 + i)
	}
	return list
}

// admit takes in a prompt of parts one after the other, and returns how many tokens are cached.
func admit(t testing.TB, m Manager, id SeqID, parts ...[]int32) int {
	t.Helper()
	var p Prompt
	for _, part := range parts {
		p.Tokens = append(p.Tokens, part...)
		p.Chunks = append(p.Chunks, len(p.Tokens))
	}
	a, err := m.Admit(id, p)
	require.NoError(t, err)
	return a.Cached
}

// step computes all that sequences give, in one step, and returns for each how many tokens that were.
func step(t testing.TB, m Manager, ids ...SeqID) []int {
	t.Helper()
	move(m)
	var spans []Span
	computed := make([]int, len(ids))
	for i, id := range ids {
		before := len(spans)
		spans = m.Next(spans, id, 1<<20)
		for _, s := range spans[before:] {
			computed[i] += s.Len
			require.NotEmpty(t, m.View(nil, s))
		}
	}
	move(m)
	for _, s := range spans {
		m.Wrote(s)
	}
	require.NoError(t, m.Check())
	return computed
}

func move(m Manager) {
	for _, mv := range m.Moves(nil) {
		m.Moved(mv, nil)
	}
}

// segments shows what a sequence's next token sees: blocks and lengths.
func segments(t testing.TB, m Manager, id SeqID) string {
	t.Helper()
	require.NoError(t, m.Extend(id, 1))
	spans := m.Next(nil, id, 1)
	require.Len(t, spans, 1)
	text := ""
	for _, s := range m.View(nil, spans[0]) {
		text += fmt.Sprintf("%v+%d:%d@%d ", s.Blocks, s.Off, s.Len, s.Pos)
	}
	m.Wrote(spans[0])
	return text
}

// Three levels: all four share one block, two of them two more, and two others one; each goes on alone.
func TestCascadeCutsWhereTheGroupsDiffer(t *testing.T) {
	m := newManager(t, Cascade{}, 64, 512)
	all, left, right := tokens(1, 16), tokens(2, 32), tokens(3, 16)
	require.Equal(t, 0, admit(t, m, 1, all, left, tokens(4, 5)))
	require.Equal(t, 48, admit(t, m, 2, all, left, tokens(5, 20)))
	require.Equal(t, 16, admit(t, m, 3, all, right, tokens(6, 1)))
	require.Equal(t, 32, admit(t, m, 4, all, right, tokens(7, 2)))
	require.Equal(t, []int{53, 20, 17, 2}, step(t, m, 1, 2, 3, 4), "computed in one step")

	require.Equal(t, "[1]+0:16@0 [2 3]+0:32@16 [4]+0:6@48 ", segments(t, m, 1))
	require.Equal(t, "[1]+0:16@0 [2 3]+0:32@16 [5 6]+0:21@48 ", segments(t, m, 2))
	require.Equal(t, "[1]+0:16@0 [7]+0:16@16 [8]+0:2@32 ", segments(t, m, 3))
	require.Equal(t, "[1]+0:16@0 [7]+0:16@16 [9]+0:3@32 ", segments(t, m, 4))

	m.Remove(2)
	require.Equal(t, "[1]+0:16@0 [2 3 4]+0:39@16 ", segments(t, m, 1), "its level has gone")
	m.Remove(3)
	m.Remove(4)
	require.Equal(t, "[1 2 3 4]+0:56@0 ", segments(t, m, 1), "alone: one segment, as with nothing shared")
	m.Remove(1)
	require.Equal(t, 64, m.pool.Free())
}

// What is computed of the second of two equal prompts, which comes in the same step, in the next one, and after the first is
// gone.
func TestCascadeComputesOneTokenOfAFullHit(t *testing.T) {
	for n, want := range map[int]int{31: 15, 32: 1, 33: 1} { // k·B-1, k·B, k·B+1
		t.Run(fmt.Sprintf("tokens=%d", n), func(t *testing.T) {
			m := newManager(t, Cascade{}, 64, 512)
			admit(t, m, 1, tokens(1, n))
			require.Equal(t, n-want, admit(t, m, 2, tokens(1, n)))
			computed := step(t, m, 1, 2)[1] + step(t, m, 1, 2)[1]
			require.Equal(t, want, computed, "in the same step, or in the next one after a copy")
			require.Equal(t, n-want, admit(t, m, 3, tokens(1, n)))
			require.Equal(t, want, step(t, m, 3)[0])
			for id := range SeqID(4) {
				m.Remove(id)
			}
			require.Equal(t, 64, m.pool.Free())
			require.Equal(t, 0, admit(t, m, 4, tokens(1, n)), "nothing outlives the sequences")
		})
	}
}

// Who waits to copy a block that its writer never finishes computes it.
func TestCascadeCopyOfABlockThatIsNeverWritten(t *testing.T) {
	m := newManager(t, Cascade{}, 64, 512)
	admit(t, m, 1, tokens(1, 32))
	require.Equal(t, 31, admit(t, m, 2, tokens(1, 32)))
	require.Equal(t, 31, admit(t, m, 3, tokens(1, 32)))
	require.Equal(t, 2, m.Stats().WaitingSpans)
	m.Remove(3)
	m.Remove(1)
	require.Equal(t, []int{32}, step(t, m, 2))
	require.Zero(t, m.Stats().PendingMoves)
}

// Published while it is computed, a token's ids make the difference where keys are equal.
func TestFindComparesTokens(t *testing.T) {
	m := newManager(t, Cascade{}, 64, 512)
	admit(t, m, 1, tokens(1, 33))
	key, _ := m.pool.Key(1)
	for _, c := range []struct {
		name   string
		parent BlockID
		tokens []int32
		ok     bool
	}{
		{"the same", 0, tokens(1, 16), true},
		{"other tokens", 0, tokens(2, 16), false},
		{"fewer tokens", 0, tokens(1, 15), false},
		{"after another block", 2, tokens(1, 16), false},
	} {
		_, ok := m.find(key, c.parent, c.tokens)
		require.Equal(t, c.ok, ok, c.name)
	}
}

// A steady decode step with a shared beginning allocates nothing, and neither do sequences that come and go.
func TestCascadeAllocatesNothing(t *testing.T) {
	m := newManager(t, Cascade{}, 4096, 8192)
	prompt := Prompt{Tokens: tokens(1, 100)}
	_, err := m.Admit(1, prompt)
	require.NoError(t, err)
	step(t, m, 1)
	id := SeqID(1)
	var spans []Span
	var view []Segment
	cycle := func() {
		id++
		if _, err := m.Admit(id, prompt); err != nil {
			t.Fatal(err)
		}
		for range 40 {
			spans = m.Next(spans[:0], id, 100)
			view = m.View(view[:0], spans[0])
			m.Wrote(spans[0])
			if err := m.Extend(id, 1); err != nil {
				t.Fatal(err)
			}
		}
		m.Remove(id)
	}
	cycle()
	require.Zero(t, testing.AllocsPerRun(2, func() {
		for range 100 {
			cycle()
		}
	}))
}

// Each case damages the books in a way that only the walk can see.
func TestSharingCheckSeesDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(m *sharing)
		want   string
	}{
		{"a block that was freed", func(m *sharing) { m.pool.Unref(5) }, "block 5: has 0 references"},
		{"a holder too many", func(m *sharing) { m.nodes[1].holders++ }, "block 1: has 2 references"},
		{"a block too few", func(m *sharing) { s := m.sequences[1]; s.blocks = s.blocks[:2] }, "2 blocks for 40 tokens"},
		{"written before it was given", func(m *sharing) { m.nodes[1].given = 0 }, "wrote 16, gave 0"},
		{"an owner that is gone", func(m *sharing) { m.nodes[3].owner = 7 }, "nobody computes what block 3 lacks"},
		{"taken for written", func(m *sharing) { m.sequences[2].done = 3 }, "is taken for written"},
		{"a parent that does not know it", func(m *sharing) { m.nodes[2].parent = 4 }, "has child 2, which does not know it"},
		{"a key that is lost", func(m *sharing) { m.pool.Forget(2) }, "is shared and has no key"},
		{"a run out of place", func(m *sharing) { m.sequences[1].runs[0].start = 1 }, "run 0 begins"},
		{"a pool that is not sound", func(m *sharing) { m.pool.used++ }, "checking the pool"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newManager(t, Cascade{}, 16, 256)
			admit(t, m, 1, tokens(1, 40))
			m.Wrote(m.Next(nil, 1, 36)[0])
			admit(t, m, 2, tokens(1, 32), tokens(2, 20))
			require.NoError(t, m.Check())
			c.damage(m)
			require.ErrorContains(t, m.Check(), c.want)
		})
	}
}

// BenchmarkAdmit takes in a prompt that is held already, and one that is not: its keys, look-ups and blocks.
func BenchmarkAdmit(b *testing.B) {
	const n = 50_000
	for _, c := range []struct {
		name string
		held bool
	}{{"held", true}, {"new", false}} {
		b.Run(fmt.Sprintf("%s/tokens=%d", c.name, n), func(b *testing.B) {
			m := newManager(b, Cascade{}, 8192, 2*n)
			if c.held {
				admit(b, m, 0, tokens(1, n))
			}
			prompt := Prompt{Tokens: tokens(1, n)}
			b.ReportAllocs()
			for id := SeqID(1); b.Loop(); id++ {
				if _, err := m.Admit(id, prompt); err != nil {
					b.Fatal(err)
				}
				m.Remove(id)
			}
		})
	}
}
