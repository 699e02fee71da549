package kvcache

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// serve takes in a prompt, computes it and removes it. It returns how many tokens were computed.
func serve(t testing.TB, m Manager, id SeqID, parts ...[]int32) int {
	t.Helper()
	admit(t, m, id, parts...)
	computed := step(t, m, id)[0]
	for again := step(t, m, id)[0]; again > 0; again = step(t, m, id)[0] {
		computed += again
	}
	m.Remove(id)
	move(m)
	require.NoError(t, m.Check())
	return computed
}

func TestReuseOutlivesSequences(t *testing.T) {
	m := newManager(t, Reuse{}, 64, 512)
	require.Equal(t, "reuse", Reuse{}.Name())
	require.Equal(t, "chunked-reuse", Reuse{Over: Chunked{}}.Name())
	for id, c := range []struct{ tokens, want int }{{47, 47}, {47, 15}, {48, 16}, {48, 1}, {49, 1}} {
		require.Equal(t, c.want, serve(t, m, SeqID(id), tokens(1, c.tokens)), "%d tokens", c.tokens)
	}
	_, err := m.Admit(9, Prompt{Tokens: tokens(1, 49), Salt: "tenant"})
	require.NoError(t, err)
	require.Equal(t, []int{49}, step(t, m, 9))
}

// Preempted, a sequence finds again what it had computed, and what it had generated.
func TestReuseFindsWhatWasGenerated(t *testing.T) {
	m := newManager(t, Reuse{}, 64, 512)
	text := tokens(1, 100)
	admit(t, m, 1, text[:20])
	for n := 20; n < 60; n++ {
		step(t, m, 1)
		require.NoError(t, m.Extend(1, 1))
		m.Learn(1, text[n:n+1])
	}
	m.Remove(1) // the last token is not computed
	require.NoError(t, m.Check())
	require.Equal(t, 48, admit(t, m, 2, text[:60]))
	require.Equal(t, []int{12}, step(t, m, 2))
	m.Learn(7, text) // no sequence
}

// Two sequences that generate the same keep their own blocks; the first one's are found.
func TestReuseOfEqualAnswers(t *testing.T) {
	m := newManager(t, Reuse{}, 64, 512)
	text := tokens(1, 100)
	for id := range SeqID(2) {
		admit(t, m, id, text[:20])
	}
	for n := 20; n < 60; n++ {
		step(t, m, 0, 1)
		for id := range SeqID(2) {
			require.NoError(t, m.Extend(id, 1))
			m.Learn(id, text[n:n+1])
		}
	}
	m.Remove(1)
	m.Remove(0)
	require.NoError(t, m.Check())
	require.Equal(t, 3, m.pool.Cached())
	require.Equal(t, 48, admit(t, m, 2, text[:60]))
}

// kept are the prompts whose first block is still held, of several runs of 3 blocks each.
func kept(m *sharing, runs ...int) (found []int) {
	for _, r := range runs {
		if _, ok := m.pool.Lookup(m.chain.Next(m.chain.Root(""), tokens(r, 16))); ok {
			found = append(found, r)
		}
	}
	return found
}

func TestReuseEvictsTheLeastRecentlyUsed(t *testing.T) {
	m := newManager(t, Reuse{Evict: EvictLRU}, 12, 512)
	for i, r := range []int{1, 2, 3, 1} {
		serve(t, m, SeqID(i), tokens(r, 49))
	}
	require.Equal(t, 9, m.pool.Cached())
	serve(t, m, 10, tokens(4, 49)) // 3 free blocks for 4
	require.Equal(t, []int{1, 2, 3, 4}, kept(m, 1, 2, 3, 4), "leaves go first")
	require.EqualValues(t, 1, m.Stats().Evictions)
	serve(t, m, 11, tokens(5, 49))
	require.Equal(t, []int{1, 3, 4, 5}, kept(m, 1, 2, 3, 4, 5))
}

// A block that was dear to compute outlives cheap ones that were used later, but not for ever.
func TestReuseWeighsCostAgainstAge(t *testing.T) {
	m := newManager(t, Reuse{}, 600, 16384)
	long := tokens(1, 16*512) // its last block costs three times as much as one at position 0
	serve(t, m, 1, long)
	require.Equal(t, 512, m.pool.Cached())
	for i := range 500 { // cheap prompts of one block each, in the 88 that are left
		serve(t, m, SeqID(10+i), tokens(2+i, 17))
		if i == 150 {
			require.Equal(t, 16*512-1, cachedOf(t, m, long), "it is whole after 150 others")
		}
	}
	require.Less(t, cachedOf(t, m, long), 16*512-16, "but not after 500")
}

// cachedOf is how much of a prompt is held now.
func cachedOf(t testing.TB, m Manager, prompt []int32) int {
	t.Helper()
	a, err := m.Admit(9999, Prompt{Tokens: prompt})
	require.NoError(t, err)
	m.Remove(9999)
	return a.Cached
}

func TestReuseKeepsToItsBudget(t *testing.T) {
	m := newManager(t, Reuse{Bytes: 5*16*8 + 7}, 64, 512)
	for i := range 10 {
		serve(t, m, SeqID(i), tokens(i%4, 49))
		require.LessOrEqual(t, m.pool.Cached(), 5)
	}
	require.Equal(t, 5, m.pool.Cached())
	require.NotZero(t, m.Stats().Evictions)
}

// Evicted under pressure, nothing that a sequence uses is lost.
func TestReuseEvictsOnlyWhatNobodyUses(t *testing.T) {
	m := newManager(t, Reuse{}, 8, 512)
	admit(t, m, 1, tokens(1, 49))
	step(t, m, 1)
	serve(t, m, 2, tokens(2, 33))
	serve(t, m, 3, tokens(3, 49))
	require.Equal(t, 48, admit(t, m, 4, tokens(1, 49)))
	_, err := m.Admit(5, Prompt{Tokens: tokens(5, 64)})
	require.ErrorIs(t, err, ErrNoSpace)
	require.Equal(t, 3, m.Available())
}

func TestReuseShrinks(t *testing.T) {
	for _, blocks := range []int{1, 3, 6, 7, 12} {
		m := newManager(t, Reuse{}, 16, 512)
		serve(t, m, 1, tokens(1, 100))
		serve(t, m, 2, tokens(2, 49))
		got, err := m.Resize(blocks)
		require.NoError(t, err)
		require.Equal(t, blocks, got)
		require.NoError(t, m.Check())
		_, err = m.Resize(16)
		require.NoError(t, err)
		serve(t, m, 3, tokens(1, 100))
		require.NoError(t, m.Check())
	}
	m := newManager(t, Reuse{}, 16, 512)
	_, err := m.Resize(0)
	require.Error(t, err)
}

type brokenTier struct{}

func (brokenTier) Open(Geometry) (Store, error) { return nil, errors.New("no disk") }

func TestReuseRefuses(t *testing.T) {
	p, err := NewPool(8, 16)
	require.NoError(t, err)
	g := Geometry{BlockTokens: 16, BytesPerToken: 8, MaxTokens: 64}
	for _, c := range []struct {
		reuse Reuse
		want  string
	}{
		{Reuse{Over: Standard{}}, `over strategy "standard": it shares no blocks`},
		{Reuse{Over: Reuse{}}, `over strategy "reuse"`},
		{Reuse{Bytes: -1}, "the budget is -1 bytes"},
		{Reuse{Bytes: 100}, "holds no block of 128"},
		{Reuse{Evict: 9}, "no eviction 9"},
		{Reuse{Tier: brokenTier{}}, "opening the tier: no disk"},
	} {
		_, err := c.reuse.NewManager(p, g)
		require.ErrorContains(t, err, c.want)
	}
	_, err = Cascade{}.NewManager(p, Geometry{BlockTokens: 32})
	require.ErrorContains(t, err, "making a cascade manager: blocks of 32 tokens in the geometry, 16 in the pool")
}

// The heap of candidates against a sorted list.
func TestKeepingTakesTheLeastFirst(t *testing.T) {
	m := newManager(t, Reuse{}, 64, 512)
	for i := range 20 {
		serve(t, m, SeqID(i), tokens(i, 17))
	}
	var want []float64
	for i, b := range m.keep.heap {
		m.nodes[b].priority = float64((i * 7) % 20)
		want = append(want, m.nodes[b].priority)
	}
	for _, b := range slices.Clone(m.keep.heap) { // in order again
		m.keep.remove(m, b)
		m.keep.add(m, b)
	}
	slices.Sort(want)
	for _, priority := range want {
		b := m.keep.least(m)
		require.Equal(t, priority, m.nodes[b].priority)
		require.NoError(t, m.Check())
		m.evict()
	}
	require.Zero(t, m.keep.least(m))
}
