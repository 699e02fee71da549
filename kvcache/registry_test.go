package kvcache

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// newRegistry makes the manager of a strategy with chunks.
func newRegistry(t testing.TB, s Strategy, blocks int) chunkRegistry {
	t.Helper()
	return chunkRegistry{newManager(t, s, blocks, 512)}
}

func mustRegister(t testing.TB, r Registry, c ChunkText) Key {
	t.Helper()
	id, err := r.Register(c)
	require.NoError(t, err)
	return id
}

func TestRegistryFollowsAChunk(t *testing.T) {
	r := newRegistry(t, Reuse{Over: Chunked{}}, 32)
	head := mustRegister(t, r, ChunkText{Tokens: tokens(1, 20)})
	require.Equal(t, head, mustRegister(t, r, ChunkText{Tokens: tokens(1, 20)}), "again")
	one := mustRegister(t, r, ChunkText{Tokens: tokens(2, 5), After: head})
	require.NotEqual(t, one, mustRegister(t, r, ChunkText{Tokens: tokens(2, 5)}), "elsewhere")
	require.NotEqual(t, head, mustRegister(t, r, ChunkText{Tokens: tokens(1, 20), Salt: "tenant"}))
	require.Len(t, r.Chunks(nil), 4)

	admit(t, r, 1, tokens(1, 20), tokens(2, 5), tokens(3, 3))
	info, err := r.Chunk(one)
	require.NoError(t, err)
	require.Equal(t, ChunkInfo{ID: one, After: head, Tokens: 5, Sequences: 1}, info, "not computed yet")
	step(t, r, 1)
	info, _ = r.Chunk(head)
	require.Equal(t, ChunkInfo{ID: head, Tokens: 20, HeldTokens: 20, Sequences: 1}, info)
	require.ErrorIs(t, r.Delete(one), ErrChunkInUse)
	r.Remove(1)
	require.Equal(t, RegistryStats{Chunks: 4, Tokens: 50, HeldTokens: 25, Room: 512}, r.RegistryStats())
	require.NoError(t, r.Delete(one))
	require.NoError(t, r.Check())
	require.Equal(t, 2, r.pool.Cached(), "its block is free, its head's are not")
	_, err = r.Chunk(one)
	require.ErrorIs(t, err, ErrNoChunk)
	require.ErrorIs(t, r.Delete(one), ErrNoChunk)
	require.ErrorIs(t, r.Pin(one, true), ErrNoChunk)
}

// A pinned chunk stays, with what comes before it, with and without Reuse, whatever else wants the room.
func TestRegistryPins(t *testing.T) {
	for _, s := range []Strategy{Chunked{}, Reuse{Over: Chunked{}}, Reuse{Over: Chunked{}, Bytes: 1 * 16 * 8, Evict: EvictLRU}} {
		r := newRegistry(t, s, 8)
		head := mustRegister(t, r, ChunkText{Tokens: tokens(1, 20)})
		one := mustRegister(t, r, ChunkText{Tokens: tokens(2, 5), After: head})
		require.NoError(t, r.Pin(one, true), "before it is computed")
		require.NoError(t, r.Pin(one, true), "twice")
		serve(t, r, 1, tokens(1, 20), tokens(2, 5), tokens(3, 3))
		require.Equal(t, 3, r.Stats().BlocksPinned)
		for i := range 5 {
			serve(t, r, SeqID(2+i), tokens(10+i, 60), tokens(3, 3))
		}
		_, err := r.Admit(20, Prompt{Tokens: tokens(30, 16*6)})
		require.ErrorIs(t, err, ErrNoSpace, "five blocks are left")
		require.Equal(t, 3, serve(t, r, 21, tokens(1, 20), tokens(2, 5), tokens(3, 3)), "the last chunk only")
		require.ErrorIs(t, r.Delete(one), ErrChunkInUse)

		require.NoError(t, r.Pin(head, true))
		require.NoError(t, r.Pin(one, false))
		require.NoError(t, r.Check())
		require.Equal(t, 2, r.Stats().BlocksPinned, "the head's own")
		require.NoError(t, r.Pin(head, false))
		require.NoError(t, r.Check())
		require.Zero(t, r.Stats().BlocksPinned)
		require.Equal(t, 8, r.Available())
		require.NoError(t, r.Delete(one))
		require.NoError(t, r.Delete(head))
		require.Zero(t, r.RegistryStats().Tokens)
	}
}

// Pinned while it is used, and let go of while it is used.
func TestRegistryPinsInUse(t *testing.T) {
	r := newRegistry(t, Chunked{Mode: Independent}, 16)
	one := mustRegister(t, r, ChunkText{Tokens: tokens(1, 20)})
	for _, pinned := range []bool{true, false} {
		admit(t, r, 1, tokens(9, 3), tokens(1, 20), tokens(3, 3))
		step(t, r, 1)
		require.NoError(t, r.Pin(one, pinned))
		require.NoError(t, r.Check())
		r.Remove(1)
		require.NoError(t, r.Check())
		require.Equal(t, 2*count(pinned), r.pool.Used())
	}
}

func TestRegistryRefuses(t *testing.T) {
	r := newRegistry(t, Chunked{Mode: Independent, AfterHead: true, HeadGap: NoHeadGap}, 8)
	head := mustRegister(t, r, ChunkText{Tokens: tokens(1, 20)})
	one := mustRegister(t, r, ChunkText{Tokens: tokens(2, 20), After: head})
	for _, c := range []struct {
		name  string
		chunk ChunkText
		want  string
	}{
		{"empty", ChunkText{}, "a chunk of 0 tokens: want 1 to 512"},
		{"too long", ChunkText{Tokens: tokens(1, 513)}, "a chunk of 513 tokens"},
		{"after none", ChunkText{Tokens: tokens(1, 1), After: Key{9}}, "no such chunk"},
		{"after another tenant's", ChunkText{Tokens: tokens(1, 1), After: head, Salt: "x"}, "another tenant's"},
		{"after what is no head", ChunkText{Tokens: tokens(1, 1), After: one}, "not a head"},
	} {
		_, err := r.Register(c.chunk)
		require.ErrorContains(t, err, c.want, c.name)
	}
	require.NoError(t, r.Pin(one, true))
	big := mustRegister(t, r, ChunkText{Tokens: tokens(3, 60)})
	require.ErrorIs(t, r.Pin(big, true), ErrRegistryFull, "four of eight blocks are pinned")
	mustRegister(t, r, ChunkText{Tokens: tokens(4, 60)})
	_, err := r.Chunk(big)
	require.ErrorIs(t, err, ErrNoChunk, "it made room")
	before := r.Chunks(nil)
	_, err = r.Register(ChunkText{Tokens: tokens(5, 100)})
	require.ErrorIs(t, err, ErrRegistryFull)
	require.Equal(t, before, r.Chunks(nil), "nothing went for what has no room all the same")
	require.NoError(t, r.Check())
}
