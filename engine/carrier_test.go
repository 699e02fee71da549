package engine

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/host"
)

// gatedRunner is a fake model whose blocks are copied when the gate lets them, or not at all.
type gatedRunner struct {
	*fakeRunner
	began chan kvcache.BlockID // a load has begun
	gate  chan struct{}        // [blocks] each lets one go on; closed: all
	fails error
}

func (r *gatedRunner) writeBlock(b kvcache.BlockID, src []byte) error {
	r.began <- b
	<-r.gate
	if r.fails != nil {
		return r.fails
	}
	return r.fakeRunner.writeBlock(b, src)
}

// gated starts an engine over a cache of 14 blocks that has computed a request of five full blocks, which then had to make room
// and wait in the host's memory.
func gated(t *testing.T, tier kvcache.Tier) (*Engine, *gatedRunner, Request) {
	o := small
	o.blocks, o.overlap, o.worker, o.cache = 14, true, true, kvcache.Reuse{Tier: tier}
	o.context = o.blocks * o.blockTokens
	s, fake := o.scheduler(t)
	r := &gatedRunner{fakeRunner: fake, began: make(chan kvcache.BlockID, 100), gate: make(chan struct{})}
	s.runner = r
	e := &Engine{
		core:   newCore(s, o.queue),
		intake: &intake{text: fakeCodec{}, vocab: fakeVocab, context: o.context, eos: []int32{fakeEOS}},
		info:   Info{Memory: MemoryPlan{KVBytesPerToken: 8, BlockTokens: o.blockTokens, Blocks: o.blocks}},
	}
	e.core.check = true
	e.core.openTier(heap{}, 8*o.blockTokens, func(string) {})
	t.Cleanup(func() { e.Close() })
	e.core.start()
	wanted := Request{Tokens: make([]int32, 5*o.blockTokens+3), MaxTokens: 5, IgnoreEOS: true}
	for i := range wanted.Tokens {
		wanted.Tokens[i] = int32(i*i) % fakeVocab
	}
	for _, request := range []Request{wanted, {Tokens: slices.Repeat([]int32{7}, 13*o.blockTokens+2), MaxTokens: 2, IgnoreEOS: true}} {
		results, err := e.Batch(t.Context(), []Request{request})
		require.NoError(t, err)
		checkResult(t, request, &results[0], o.context)
		require.Eventually(t, func() bool { return e.Stats().BlocksUsed == 0 }, 10*time.Second, time.Millisecond, "stores end")
	}
	return e, r, wanted
}

// TestStepsGoOnBesideLoads: others are served while a request's blocks are on their way, and it is served when they have come.
func TestStepsGoOnBesideLoads(t *testing.T) {
	e, r, wanted := gated(t, host.Tier{Bytes: 1 << 20})
	done := make(chan error, 1)
	go func() {
		results, err := e.Batch(context.Background(), []Request{wanted})
		if err == nil && results[0].Usage.CachedTokens != 5*small.blockTokens {
			err = errors.New("blocks were computed again")
		}
		done <- err
	}()
	for range 5 {
		<-r.began // five at once
	}
	other := Request{Tokens: []int32{3, 1, 4}, MaxTokens: 20, IgnoreEOS: true}
	results, err := e.Batch(t.Context(), []Request{other})
	require.NoError(t, err)
	checkResult(t, other, &results[0], 14*small.blockTokens)
	select {
	case err := <-done:
		t.Fatalf("answered before its blocks came: %v", err)
	default:
	}
	close(r.gate)
	require.NoError(t, <-done)
}

// TestCancelWhileLoading: the blocks of a request that goes away stay its own until they have come, and then are there for the next.
func TestCancelWhileLoading(t *testing.T) {
	e, r, wanted := gated(t, host.Tier{Bytes: 1 << 20})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := e.Batch(ctx, []Request{wanted})
		done <- err
	}()
	for range 5 {
		<-r.began
	}
	r.gate <- struct{}{} // one of them comes in time
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	other := Request{Tokens: slices.Repeat([]int32{9}, 6*small.blockTokens), MaxTokens: 2, IgnoreEOS: true}
	results, err := e.Batch(t.Context(), []Request{other})
	require.NoError(t, err)
	checkResult(t, other, &results[0], 14*small.blockTokens)
	require.GreaterOrEqual(t, e.Stats().BlocksUsed, 4, "blocks that are being written are nobody else's")
	close(r.gate)
	require.Eventually(t, func() bool { return e.Stats().BlocksUsed == 0 }, 10*time.Second, time.Millisecond)
	results, err = e.Batch(t.Context(), []Request{wanted})
	require.NoError(t, err)
	checkResult(t, wanted, &results[0], 14*small.blockTokens)
	require.Equal(t, 5*small.blockTokens, results[0].Usage.CachedTokens)
}

// TestLoadFailsWithTheDevice: a copy that the device refuses is the end of the engine.
func TestLoadFailsWithTheDevice(t *testing.T) {
	for _, tier := range []kvcache.Tier{host.Tier{Bytes: 1 << 20}, &flaky{blocks: map[kvcache.Key][]byte{}, calls: -1000}} {
		e, r, wanted := gated(t, tier)
		r.fails = errors.New("the device is gone")
		close(r.gate)
		_, err := e.Batch(t.Context(), []Request{wanted})
		require.ErrorIs(t, err, ErrClosed)
		require.ErrorIs(t, err, r.fails)
		require.ErrorContains(t, err, "engine: writing cache block")
		require.ErrorIs(t, e.Close(), r.fails)
	}
}

// TestLoadsGoFirst before the stores that were asked for earlier.
func TestLoadsGoFirst(t *testing.T) {
	c := &carrier{}
	for i, kind := range []kvcache.MoveKind{kvcache.MoveStore, kvcache.MoveStore, kvcache.MoveLoad, kvcache.MoveStore, kvcache.MoveLoad} {
		c.queue = append(c.queue, kvcache.Move{Kind: kind, From: kvcache.BlockID(i)})
	}
	var order []kvcache.BlockID
	for len(c.queue) > 0 {
		m, ok := c.next()
		require.True(t, ok)
		order = append(order, m.From)
	}
	require.Equal(t, []kvcache.BlockID{2, 4, 0, 1, 3}, order)
}
