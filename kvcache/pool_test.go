package kvcache

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func newPool(t testing.TB, blocks int) *Pool {
	t.Helper()
	p, err := NewPool(blocks, 16)
	require.NoError(t, err)
	return p
}

func alloc(t testing.TB, p *Pool, n int) []BlockID {
	t.Helper()
	got, err := p.Alloc(nil, n)
	require.NoError(t, err)
	require.NoError(t, p.Check())
	return got
}

// testKey makes a key whose bucket is the low bits of n, so that tests can make two keys collide.
func testKey(n int) Key { return Key{byte(n), byte(n >> 8), 31: byte(n >> 16)} }

func TestPoolRefusesSizes(t *testing.T) {
	for _, c := range []struct {
		name                string
		blocks, blockTokens int
		want                string
	}{
		{"no blocks", 0, 16, "got 0 blocks"},
		{"fewer than none", -1, 16, "got -1 blocks"},
		{"more than ids", 1 << 31, 16, "got 2147483648 blocks"},
		{"no tokens", 1, 0, "got 0 tokens"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewPool(c.blocks, c.blockTokens)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestPoolAllocatesLowestFirstAndAllOrNothing(t *testing.T) {
	p := newPool(t, 5)
	require.Equal(t, []BlockID{1, 2, 3, 4}, alloc(t, p, 4))
	got, err := p.Alloc([]BlockID{9}, 2)
	require.ErrorIs(t, err, ErrNoSpace)
	require.Equal(t, []BlockID{9}, got)
	require.Equal(t, 1, p.Free())
	p.Unref(3)
	p.Unref(2)
	require.Equal(t, []BlockID{2, 3, 5}, alloc(t, p, 3))
	require.Equal(t, 5, p.Stats().BlocksPeak)
}

func TestPoolEvictsLeastRecentlyUsed(t *testing.T) {
	p := newPool(t, 4)
	for i, b := range alloc(t, p, 4) {
		require.True(t, p.Publish(b, testKey(i)))
	}
	var evicted []BlockID
	p.Evicting(func(b BlockID, k Key) {
		require.Equal(t, testKey(int(b)-1), k)
		evicted = append(evicted, b)
	})
	for _, b := range []BlockID{4, 2, 1, 3} {
		p.Unref(b)
	}
	require.Equal(t, 4, p.Cached())
	p.Ref(4) // used again: now the most recently used
	p.Unref(4)
	require.Equal(t, []BlockID{2, 1}, alloc(t, p, 2))
	require.Equal(t, []BlockID{2, 1}, evicted)
	_, ok := p.Lookup(testKey(1))
	require.False(t, ok, "the key of an evicted block is found")
	b, ok := p.Lookup(testKey(3))
	require.True(t, ok)
	require.Equal(t, BlockID(4), b)
	require.EqualValues(t, 2, p.Stats().Evictions)
}

func TestPoolNeverEvictsWhatIsInUse(t *testing.T) {
	p := newPool(t, 3)
	for i, b := range alloc(t, p, 3) {
		p.Publish(b, testKey(i))
	}
	p.Unref(2)
	p.Unref(1)
	p.Ref(2)
	_, err := p.Alloc(nil, 2)
	require.ErrorIs(t, err, ErrNoSpace)
	require.Equal(t, []BlockID{1}, alloc(t, p, 1))
}

func TestPoolPublish(t *testing.T) {
	p := newPool(t, 3)
	alloc(t, p, 3)
	require.True(t, p.Publish(1, testKey(7)))
	require.True(t, p.Publish(1, testKey(7)), "a block under its own key")
	require.False(t, p.Publish(2, testKey(7)), "the key is another block's")
	_, ok := p.Key(2)
	require.False(t, ok)
	require.PanicsWithValue(t, "kvcache: block 1 is published under a second key", func() { p.Publish(1, testKey(8)) })
	p.Forget(1)
	p.Forget(1)
	require.True(t, p.Publish(2, testKey(7)))
	require.Equal(t, 3, p.Used(), "forgetting a key frees nothing that is in use")
	p.Unref(2)
	require.Equal(t, 1, p.Cached())
	p.Forget(2)
	require.Equal(t, 1, p.Free(), "forgetting a cached block frees it")
	require.NoError(t, p.Check())
}

func TestPoolFindsKeysThatShareABucket(t *testing.T) {
	p := newPool(t, 8)
	for i, b := range alloc(t, p, 6) {
		p.Publish(b, testKey(i<<16)) // all in bucket 0
	}
	for _, gone := range []int{5, 0, 2} { // head, end and middle of the chain
		p.Forget(BlockID(gone + 1))
		require.NoError(t, p.Check())
		_, ok := p.Lookup(testKey(gone << 16))
		require.False(t, ok)
	}
	for _, kept := range []int{1, 3, 4} {
		b, ok := p.Lookup(testKey(kept << 16))
		require.True(t, ok)
		require.Equal(t, BlockID(kept+1), b)
	}
}

func TestPoolPanicsOnBlocksNotInUse(t *testing.T) {
	for _, c := range []struct {
		name string
		call func(p *Pool)
	}{
		{"double free", func(p *Pool) { p.Unref(1); p.Unref(1) }},
		{"free of a cached block", func(p *Pool) { p.Publish(1, testKey(1)); p.Unref(1); p.Unref(1) }},
		{"free of the null block", func(p *Pool) { p.Unref(0) }},
		{"free of no block", func(p *Pool) { p.Unref(99) }},
		{"reference to a free block", func(p *Pool) { p.Ref(3) }},
		{"reference to the null block", func(p *Pool) { p.Ref(0) }},
		{"publishing a free block", func(p *Pool) { p.Publish(3, testKey(1)) }},
		{"replacing by a block with a key", func(p *Pool) { p.Publish(2, testKey(1)); p.Replace(1, 2) }},
		{"replacing a free block", func(p *Pool) { p.Replace(3, 2) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPool(t, 4)
			alloc(t, p, 2)
			require.Panics(t, func() { c.call(p) })
		})
	}
}

func TestPoolShrinksToTheHighestBlockInUse(t *testing.T) {
	p := newPool(t, 10)
	all := alloc(t, p, 8) // 9 and 10 stay free
	p.Publish(8, testKey(8))
	p.Publish(5, testKey(5))
	p.Ref(6)
	for _, b := range []BlockID{2, 5, 7, 8} {
		p.Unref(b)
	}
	reached, err := p.Resize(3)
	require.NoError(t, err)
	require.Equal(t, 6, reached)
	require.NoError(t, p.Check())
	_, ok := p.Lookup(testKey(8))
	require.False(t, ok, "a block above the capacity is found")
	require.Equal(t, []BlockID{4, 6}, p.UsedAbove(nil, 3))

	to, err := p.AllocWithin(3)
	require.NoError(t, err)
	require.Equal(t, BlockID(2), to)
	p.Publish(6, testKey(6))
	p.Replace(6, to)
	require.Equal(t, 2, p.Refs(to), "references go along")
	b, ok := p.Lookup(testKey(6))
	require.True(t, ok, "the key goes along")
	require.Equal(t, to, b)
	_, err = p.AllocWithin(3)
	require.ErrorIs(t, err, ErrNoSpace)

	reached, err = p.Resize(3)
	require.NoError(t, err)
	require.Equal(t, 4, reached)
	reached, err = p.Resize(200)
	require.NoError(t, err)
	require.Equal(t, 200, reached)
	require.NoError(t, p.Check())
	require.Len(t, alloc(t, p, 196), 196)
	require.Len(t, all, 8)
}

func TestPoolAllocWithinEvictsBelowTheLimit(t *testing.T) {
	p := newPool(t, 4)
	for i, b := range alloc(t, p, 4) {
		p.Publish(b, testKey(i))
	}
	for _, b := range []BlockID{4, 3, 2} {
		p.Unref(b)
	}
	got, err := p.AllocWithin(3)
	require.NoError(t, err)
	require.Equal(t, BlockID(3), got, "block 4 is older but above the limit")
	require.NoError(t, p.Check())
}

func TestPoolDoesNotAllocateInSteadyState(t *testing.T) {
	p := newPool(t, 1000)
	held := alloc(t, p, 500)
	key := 0
	cycle := func() {
		for _, b := range held {
			key++
			p.Publish(b, testKey(key))
			p.Unref(b)
		}
		held, _ = p.Alloc(held[:0], 500)
		p.Lookup(testKey(key))
	}
	cycle()
	require.Zero(t, testing.AllocsPerRun(10, cycle), "allocations in a cycle of 500 blocks")
	require.NoError(t, p.Check())
}

// The pool beside a model of maps and slices, for any sequence of operations.
func TestPoolAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blocks := rapid.IntRange(1, 150).Draw(t, "blocks")
		p, err := NewPool(blocks, 16)
		require.NoError(t, err)
		refs := map[BlockID]int{}
		keys := map[BlockID]Key{}
		var order []BlockID // cached, least recently used first
		drop := func(b BlockID) {
			for i := range order {
				if order[i] == b {
					order = append(order[:i:i], order[i+1:]...)
					return
				}
			}
		}
		pick := func(t *rapid.T) BlockID {
			if len(refs) == 0 {
				t.Skip("nothing in use")
			}
			var ids []BlockID
			for b := BlockID(1); int(b) <= p.Blocks(); b++ {
				if refs[b] > 0 {
					ids = append(ids, b)
				}
			}
			return rapid.SampledFrom(ids).Draw(t, "block")
		}
		t.Repeat(map[string]func(*rapid.T){
			"alloc": func(t *rapid.T) {
				n := rapid.IntRange(0, 40).Draw(t, "n")
				fits := n <= p.Blocks()-len(refs)
				got, err := p.Alloc(nil, n)
				if !fits {
					require.ErrorIs(t, err, ErrNoSpace)
					return
				}
				require.NoError(t, err)
				require.Len(t, got, n)
				for _, b := range got {
					require.Zero(t, refs[b], "block %d is handed out twice", b)
					if _, cached := keys[b]; cached {
						require.Equal(t, order[0], b, "evicted out of order")
						drop(b)
						delete(keys, b)
					}
					refs[b] = 1
				}
			},
			"ref": func(t *rapid.T) {
				b := pick(t)
				p.Ref(b)
				refs[b]++
			},
			"revive": func(t *rapid.T) {
				if len(order) == 0 {
					t.Skip("nothing cached")
				}
				b := rapid.SampledFrom(order).Draw(t, "block")
				found, ok := p.Lookup(keys[b])
				require.True(t, ok)
				require.Equal(t, b, found)
				p.Ref(b)
				drop(b)
				refs[b] = 1
			},
			"unref": func(t *rapid.T) {
				b := pick(t)
				p.Unref(b)
				if refs[b]--; refs[b] == 0 {
					delete(refs, b)
					if _, ok := keys[b]; ok {
						order = append(order, b)
					}
				}
			},
			"publish": func(t *rapid.T) {
				b, k := pick(t), testKey(rapid.IntRange(0, 300).Draw(t, "key"))
				if _, ok := keys[b]; ok {
					return
				}
				held, taken := p.Lookup(k)
				require.Equal(t, !taken, p.Publish(b, k))
				if taken {
					require.Equal(t, k, keys[held])
					return
				}
				keys[b] = k
			},
			"forget": func(t *rapid.T) {
				b := BlockID(rapid.IntRange(0, p.Blocks()).Draw(t, "block"))
				p.Forget(b)
				delete(keys, b)
				drop(b)
			},
			"resize": func(t *rapid.T) {
				want := rapid.IntRange(1, 150).Draw(t, "blocks")
				highest := 0
				for b := range refs {
					highest = max(highest, int(b))
				}
				got, err := p.Resize(want)
				require.NoError(t, err)
				require.Equal(t, max(want, highest), got)
				for _, b := range append([]BlockID{}, order...) {
					if int(b) > got {
						drop(b)
						delete(keys, b)
					}
				}
			},
			"": func(t *rapid.T) {
				require.NoError(t, p.Check())
				require.Equal(t, len(refs), p.Used())
				require.Equal(t, p.CountUsed(), p.Used())
				require.Equal(t, p.CountShared(), p.Stats().SharedBlocks)
				require.Equal(t, len(order), p.Cached())
				require.Equal(t, p.Blocks()-len(refs)-len(order), p.Free())
				for b, n := range refs {
					require.Equal(t, n, p.Refs(b))
				}
				for b, k := range keys {
					got, ok := p.Key(b)
					require.True(t, ok)
					require.Equal(t, k, got)
				}
			},
		})
	})
}

// Each case damages a pool in a way that only the walk can see.
func TestPoolCheckSeesDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(p *Pool)
		want   string
	}{
		{"null block referenced", func(p *Pool) { p.blocks[0].refs = 1 }, "null block"},
		{"negative references", func(p *Pool) { p.blocks[1].refs = -1 }, "-1 references"},
		{"in use and free", func(p *Pool) { p.free.add(1) }, "block 1 has 1 references and is free"},
		{"lost", func(p *Pool) { p.free.remove(8) }, "block 8 is lost"},
		{"cached and free", func(p *Pool) { p.free.add(3) }, "block 3 has a key and is free"},
		{"used miscounted", func(p *Pool) { p.used++ }, "used, shared, cached, free"},
		{"shared miscounted", func(p *Pool) { p.blocks[1].refs++ }, "used, shared, cached, free"},
		{"free miscounted", func(p *Pool) { p.free.len++ }, "used, shared, cached, free"},
		{"peak below use", func(p *Pool) { p.peak = 1 }, "peak"},
		{"ring cut", func(p *Pool) { p.blocks[0].next = 0 }, "comes after"},
		{"ring shortened", func(p *Pool) { p.blocks[0].next, p.blocks[4].prev = 4, 0 }, "ring holds 1"},
		{"used block in the ring", func(p *Pool) {
			p.blocks[4].next, p.blocks[1].prev, p.blocks[1].next, p.blocks[0].prev = 1, 4, 0, 1
		}, "block 1 is in the ring"},
		{"key changed", func(p *Pool) { p.blocks[3].key[0] ^= 0x40 }, "the key of block 3 finds block 0"},
		{"two blocks with one key", func(p *Pool) { p.keys.insert(p.blocks, 1, testKey(4)) }, "the key of block 4 finds block 1"},
		{"key index holds a block without a key", func(p *Pool) {
			p.keys.insert(p.blocks, 1, testKey(9))
			p.blocks[1].keyed = false
		}, "the key index holds"},
		{"free set misled", func(p *Pool) { p.free.levels[1][0] = 0 }, "free set: level 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPool(t, 100)
			alloc(t, p, 5) // 1, 2 and 5 in use, 3 and 4 cached
			p.Publish(3, testKey(3))
			p.Publish(4, testKey(4))
			p.Unref(3)
			p.Unref(4)
			require.NoError(t, p.Check())
			c.damage(p)
			require.ErrorContains(t, p.Check(), c.want)
		})
	}
}

func TestIDSet(t *testing.T) {
	for _, ids := range []int{1, 63, 64, 65, 4096, 4097, 300_000} {
		s := newIDSet(ids)
		for _, id := range rand.New(rand.NewPCG(1, uint64(ids))).Perm(ids) {
			s.add(id)
		}
		for id := range ids { // taken out from below, each is the lowest in its turn
			if got := s.lowest(); got != id {
				t.Fatalf("lowest of %d to %d: got %d", id, ids-1, got)
			}
			s.remove(id)
		}
		require.Zero(t, s.len)
	}
}

func BenchmarkPool(b *testing.B) {
	for _, c := range []struct {
		name   string
		blocks int
	}{{"blocks=1000", 1000}, {"blocks=100000", 100_000}} {
		b.Run(c.name, func(b *testing.B) {
			p := newPool(b, c.blocks)
			var held []BlockID
			key := 0
			for b.Loop() { // one block allocated (by eviction, once the pool is full), published and let go
				held, _ = p.Alloc(held[:0], 1)
				key++
				p.Publish(held[0], testKey(key))
				p.Unref(held[0])
			}
		})
	}
}
