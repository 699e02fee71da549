package kvcache

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func newStandard(t testing.TB, blocks, blockTokens, maxTokens int) *standard {
	t.Helper()
	p, err := NewPool(blocks, blockTokens)
	require.NoError(t, err)
	m, err := Standard{}.NewManager(p, Geometry{BlockTokens: blockTokens, MaxTokens: maxTokens})
	require.NoError(t, err)
	return m.(*standard)
}

func TestStandardRefusesAGeometryThatIsNotThePools(t *testing.T) {
	p, err := NewPool(8, 16)
	require.NoError(t, err)
	_, err = Standard{}.NewManager(p, Geometry{BlockTokens: 32})
	require.ErrorContains(t, err, "blocks of 32 tokens in the geometry, 16 in the pool")
	require.ErrorContains(t, err, "got 0 tokens for the longest sequence")
}

// A decode step asks the manager for one token of each sequence. It is on the critical path of every step.
func TestStandardDecodesWithoutAllocating(t *testing.T) {
	const sequences, prompt = 8, 40
	m := newStandard(t, 4096, 16, 8192)
	for id := SeqID(0); id < sequences; id++ {
		_, err := m.Admit(id, Prompt{Tokens: make([]int32, prompt)})
		require.NoError(t, err)
		for _, s := range m.Next(nil, id, prompt) {
			m.Wrote(s)
		}
	}
	var spans []Span
	var view []Segment
	step := func() {
		for id := SeqID(0); id < sequences; id++ {
			if err := m.Extend(id, 1); err != nil {
				t.Fatal(err)
			}
			spans = m.Next(spans[:0], id, 1)
			view = m.View(view[:0], spans[0])
			m.Wrote(spans[0])
		}
	}
	step()
	// The count is a mean over the runs, rounded down: one run that is itself many steps hides nothing.
	got := testing.AllocsPerRun(2, func() {
		for range 1000 {
			step()
		}
	})
	require.Zero(t, got, "allocations in 1000 decode steps")
	require.NoError(t, m.Check())
}

func TestStandardReusesTheRecordsOfRemovedSequences(t *testing.T) {
	m := newStandard(t, 64, 16, 512)
	prompt := Prompt{Tokens: make([]int32, 100)}
	id := SeqID(0)
	cycle := func() {
		id++
		if _, err := m.Admit(id, prompt); err != nil {
			t.Fatal(err)
		}
		m.Remove(id)
	}
	cycle()
	require.Zero(t, testing.AllocsPerRun(2, func() {
		for range 100 {
			cycle()
		}
	}), "allocations in 100 sequences")
}

// Each case damages the books of a manager with two sequences in a way that only the walk can see.
func TestStandardCheckSeesDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(m *standard)
		want   string
	}{
		{"a block in two tables", func(m *standard) { m.sequences[2].blocks[0] = m.sequences[1].blocks[0]; m.pool.Unref(4) }, "sequences hold 5 blocks, the pool has 4"},
		{"a block too few", func(m *standard) { s := m.sequences[1]; s.blocks = s.blocks[:2] }, "has 2 blocks for 40 tokens"},
		{"a block that was freed", func(m *standard) { m.pool.Unref(2) }, "block 2 with 0 references"},
		{"a block that others hold", func(m *standard) { m.pool.Ref(2) }, "block 2 with 2 references"},
		{"a block that nobody holds", func(m *standard) { _, _ = m.pool.Alloc(nil, 1) }, "sequences hold 5 blocks, the pool has 6"},
		{"written before it was given", func(m *standard) { m.sequences[1].wrote = 41 }, "wrote 41, gave 0, of 40"},
		{"longer than allowed", func(m *standard) { m.geometry.MaxTokens = 39 }, "of 40 tokens"},
		{"a pool that is not sound", func(m *standard) { m.pool.used++ }, "checking the pool"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newStandard(t, 16, 16, 256)
			for i, tokens := range []int{40, 20} {
				id := SeqID(i + 1)
				_, err := m.Admit(id, Prompt{Tokens: make([]int32, tokens)})
				require.NoError(t, err)
			}
			require.NoError(t, m.Check())
			c.damage(m)
			require.ErrorContains(t, m.Check(), c.want)
		})
	}
}
