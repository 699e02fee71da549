package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/disk"
	"github.com/quire-llm/quire/kvcache/host"
)

// gatedTier is a tier whose loads wait for permission.
type gatedTier struct {
	kvcache.Tier
	entered chan struct{} // one for each load that has begun
	permits chan struct{} // one for each load that may go on; closed: all may
}

func (g *gatedTier) Open(geometry kvcache.Geometry) (kvcache.Store, error) {
	s, err := g.Tier.Open(geometry)
	return gatedStore{s, g}, err
}

type gatedStore struct {
	kvcache.Store
	gate *gatedTier
}

func (s gatedStore) Load(k kvcache.Key, tokens []int32, dst []byte) error {
	s.gate.entered <- struct{}{}
	<-s.gate.permits
	return s.Store.Load(k, tokens, dst)
}

// TestCancelDuringALoad: a request goes away while some of its blocks have come from another tier and others are on their way.
// Nothing of it stays behind, others are answered meanwhile, and who asks the same next is answered right.
func TestCancelDuringALoad(t *testing.T) {
	const prompt, full = 250, 15 // tokens, and the blocks that they fill
	request := func(i, tokens int) Request {
		r := Request{Tokens: make([]int32, tokens), MaxTokens: 20, IgnoreEOS: true}
		for k := range r.Tokens {
			r.Tokens[k] = int32(i*251+k*37) % 2000
		}
		return r
	}
	for _, c := range []struct {
		name string
		tier kvcache.Tier
	}{
		{"host", host.Tier{Bytes: 64 << 20}},
		{"disk", disk.Tier{Dir: t.TempDir()}},
		{"host over disk", host.Tier{Bytes: 256 << 10, Under: disk.Tier{Dir: t.TempDir()}}},
	} {
		for _, come := range []int{0, 1, full / 2, full - 1} { // blocks that are there when the request is cancelled
			t.Run(fmt.Sprintf("%s/come=%d", c.name, come), func(t *testing.T) {
				gate := &gatedTier{Tier: c.tier, entered: make(chan struct{}, 1000), permits: make(chan struct{})}
				e := openTiny(t, func(o *Options) { o.Cache, o.CacheTokens = kvcache.Reuse{Tier: gate}, 512 })
				ask := func(r Request) Result {
					results, err := e.Batch(context.Background(), []Request{r})
					require.NoError(t, err)
					return results[0]
				}
				first := ask(request(come, prompt))
				waitForStores(t, e)
				for i := range 4 { // which evict the first one
					ask(request(100+10*come+i, prompt))
					waitForStores(t, e)
				}

				ctx, cancel := context.WithCancel(context.Background())
				waiting := request(come, prompt)
				call, err := e.call(ctx, &waiting, true)
				require.NoError(t, err)
				for range come {
					gate.permits <- struct{}{}
				}
				for range min(come+mostLoads, full) {
					<-gate.entered
				}
				cancel()
				result := call.result()
				require.ErrorIs(t, result.Err, context.Canceled)
				require.Empty(t, result.Tokens)
				call.release()
				require.Len(t, ask(request(1000+come, 60)).Tokens, 20, "another one, with the loads still under way")
				require.Positive(t, e.Stats().BlocksUsed, "the blocks that are still to come")

				close(gate.permits)
				again := ask(request(come, prompt))
				requireSame(t, []Result{first}, []Result{again})
				require.Equal(t, full*16, again.Usage.CachedTokens, "every full block")
				require.NoError(t, e.Close())
				stats := e.core.scheduler.manager.Stats()
				require.Zero(t, stats.BlocksUsed)
				require.Zero(t, stats.PendingMoves)
				require.Zero(t, e.core.scheduler.carrier.pending)
			})
		}
	}
}

// TestDiskThatCannotBeUsed: a directory of another model's blocks, and one that is taken away while the engine runs, are a
// warning each. Answers are right, and nobody waits.
func TestDiskThatCannotBeUsed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blocks")
	request := Request{Messages: evaluations(t, "documents_test.jsonl")[3].messages(), MaxTokens: 20, IgnoreEOS: true}
	want := openTiny(t, nil)
	standard, err := want.Batch(context.Background(), []Request{request})
	require.NoError(t, err)
	var mu sync.Mutex
	var lines []string // guarded by mu
	start := func(blockTokens int) *Engine {
		return openTiny(t, func(o *Options) {
			o.Cache, o.BlockTokens = kvcache.Reuse{Tier: disk.Tier{Dir: dir}}, blockTokens
			o.Log = func(line string) {
				mu.Lock()
				defer mu.Unlock()
				if strings.HasPrefix(line, "disk: ") {
					lines = append(lines, line)
				}
			}
		})
	}
	ask := func(e *Engine) {
		results, err := e.Batch(context.Background(), []Request{request})
		require.NoError(t, err)
		requireSame(t, standard, results)
		require.Zero(t, results[0].Usage.CachedTokens)
	}
	other := start(32)
	ask(other)
	require.NoError(t, other.Close())
	require.Empty(t, lines)
	e := start(16)
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], "are of another model or another setup and are left alone")
	require.NoError(t, os.Rename(dir, dir+" gone"))
	ask(e)
	require.NoError(t, e.Close())
	require.Len(t, lines, 2, "one warning, not one for each block")
	require.Contains(t, lines[1], "blocks cannot be kept in")
}

// TestRegistryRefuses: what cannot be registered, found or pinned is an error of its own kind. Requests go on meanwhile, and
// what was registered stays.
func TestRegistryRefuses(t *testing.T) {
	ctx := context.Background()
	chunks := make([][]int32, 6)
	for i := range chunks {
		for k := range 64 {
			chunks[i] = append(chunks[i], int32(i*251+k*37)%2000)
		}
	}
	e := openTiny(t, func(o *Options) { o.Cache, o.CacheTokens = kvcache.Reuse{Over: kvcache.Chunked{}}, 256 })
	running := Request{Tokens: chunks[5], MaxTokens: 60, IgnoreEOS: true}
	want, err := e.Batch(ctx, []Request{running})
	require.NoError(t, err)
	call, err := e.call(ctx, &running, true)
	require.NoError(t, err)
	register := func(tokens []int32) (id kvcache.Key, err error) {
		err = e.Registry(ctx, func(r kvcache.Registry) (err error) {
			id, err = r.Register(kvcache.ChunkText{Tokens: tokens})
			return err
		})
		return id, err
	}
	pin := func(id kvcache.Key) error {
		return e.Registry(ctx, func(r kvcache.Registry) error { return r.Pin(id, true) })
	}
	forget := func(id kvcache.Key) error {
		return e.Registry(ctx, func(r kvcache.Registry) error { return r.Delete(id) })
	}
	_, err = register(nil)
	require.ErrorContains(t, err, "a chunk of 0 tokens: want 1 to 256")
	_, err = register(make([]int32, 257))
	require.ErrorContains(t, err, "a chunk of 257 tokens: want 1 to 256")
	require.ErrorIs(t, pin(kvcache.Key{1}), kvcache.ErrNoChunk)
	require.ErrorIs(t, forget(kvcache.Key{1}), kvcache.ErrNoChunk)

	var ids []kvcache.Key
	for _, tokens := range chunks[:3] {
		id, err := register(tokens)
		require.NoError(t, err)
		ids = append(ids, id)
	}
	require.NoError(t, forget(ids[2]))
	require.ErrorIs(t, pin(ids[2]), kvcache.ErrNoChunk, "deleted")
	require.NoError(t, pin(ids[0]))
	require.NoError(t, pin(ids[1]))
	third, err := register(chunks[3])
	require.NoError(t, err)
	require.ErrorIs(t, pin(third), kvcache.ErrRegistryFull, "half of the cache is pinned")
	require.ErrorIs(t, forget(ids[0]), kvcache.ErrChunkInUse, "pinned")
	_, err = register(make([]int32, 129))
	require.ErrorIs(t, err, kvcache.ErrRegistryFull, "two of 64 stay, and 256 is the most")

	result := call.result()
	call.release()
	requireSame(t, want, []Result{result})
	require.NoError(t, e.Registry(ctx, func(r kvcache.Registry) error {
		require.Len(t, r.Chunks(nil), 3)
		return nil
	}))
}
