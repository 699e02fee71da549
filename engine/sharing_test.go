package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/disk"
	"github.com/quire-llm/quire/kvcache/host"
)

// exact are the strategies that share and must answer like standard.
func exact(t testing.TB) []kvcache.Strategy {
	chunked := kvcache.Chunked{Auto: kvcache.Auto{Tokens: 20}}
	return []kvcache.Strategy{
		kvcache.Cascade{},
		chunked,
		kvcache.Chunked{Auto: kvcache.Auto{Tokens: 24, ByContent: true}},
		kvcache.Reuse{},
		kvcache.Reuse{Over: chunked, Evict: kvcache.EvictLRU, Bytes: 1 << 20},
		kvcache.Reuse{Tier: disk.Tier{Dir: t.TempDir()}},
		kvcache.Reuse{Tier: host.Tier{Bytes: 1 << 20, Under: disk.Tier{Dir: t.TempDir()}}},
	}
}

// TestSharingAgrees: an exact strategy gives standard's answers, to the last bit of the log-probabilities, in a batch with
// others: the first time, on a hit, and after preemption; and it reuses something.
func TestSharingAgrees(t *testing.T) {
	want := alone(t)
	for i, strategy := range exact(t) {
		t.Run(fmt.Sprintf("%d=%s", i, strategy.Name()), func(t *testing.T) {
			for _, small := range []bool{false, true} {
				e := openTiny(t, func(o *Options) {
					o.Cache = strategy
					if small {
						o.CacheTokens, o.StepTokens = 512, 48
					}
				})
				for round := range 2 {
					// Noise comes first, which makes the probes the youngest, and then each of them twice.
					batch, twice := noise(6, 20, 150), []Result(nil)
					for i, p := range probes(t) {
						batch, twice = append(batch, p, p), append(twice, want[i], want[i])
					}
					results, err := e.Batch(context.Background(), batch)
					require.NoError(t, err)
					requireSame(t, twice, results[len(results)-len(twice):])
					for _, r := range results {
						require.True(t, r.Exact)
					}
					stats := e.Stats()
					require.Positive(t, stats.CachedTokens, "round %d", round)
					if !small {
						require.Equal(t, stats.PromptTokens-stats.CachedTokens+stats.CompletionTokens-int64((round+1)*len(batch)), stats.TokensComputed,
							"every token that was not reused is computed once")
					}
				}
				require.Equal(t, small, e.Stats().Preemptions > 0)
			}
		})
	}
}

// TestSharedPromptsAreComputedOnce: of equal prompts in one batch, one is computed, and of the others the last token.
func TestSharedPromptsAreComputedOnce(t *testing.T) {
	prompt := noise(1, 1, 1)[0]
	prompt.Tokens = make([]int32, 160)
	for i := range prompt.Tokens {
		prompt.Tokens[i] = int32(i*37) % 2000
	}
	for _, c := range []struct {
		strategy kvcache.Strategy
		want     int64
	}{
		{kvcache.Standard{}, 8 * 160},
		{kvcache.Cascade{}, 160 + 7},
		{kvcache.Reuse{}, 160 + 7},
	} {
		e := openTiny(t, func(o *Options) { o.Cache = c.strategy })
		prompt.MaxTokens = 20 // the last to come still meets the first
		_, err := e.Batch(context.Background(), []Request{prompt, prompt, prompt, prompt, prompt, prompt, prompt, prompt})
		require.NoError(t, err)
		require.Equal(t, c.want+8*19, e.Stats().TokensComputed, c.strategy.Name())
	}
}

// TestPromptLogprobsBesideReuse: who asks for them gets all of them, and the others reuse what was computed.
func TestPromptLogprobsBesideReuse(t *testing.T) {
	request := Request{Messages: evaluations(t, "documents_test.jsonl")[5].messages(), MaxTokens: 20, IgnoreEOS: true}
	asking := request
	asking.PromptLogprobs = true
	var want []Result
	for _, strategy := range append([]kvcache.Strategy{kvcache.Standard{}}, exact(t)...) {
		e := openTiny(t, func(o *Options) { o.Cache = strategy })
		results, err := e.Batch(context.Background(), []Request{request, asking, asking, request})
		require.NoError(t, err)
		if want == nil {
			want = results
		}
		requireSame(t, want, results)
		require.Equal(t, want[1].Prompt, results[1].Prompt)
		require.Equal(t, want[1].Prompt, results[2].Prompt)
		require.Zero(t, results[1].Usage.CachedTokens)
		require.Equal(t, strategy.Name() != "standard", results[3].Usage.CachedTokens > 0)
	}
}

// TestRestart: what one engine has stored, the next one loads, and answers the same.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	question := Request{Messages: evaluations(t, "documents_test.jsonl")[3].messages(), MaxTokens: 40}
	ask := func() (Result, Stats) {
		var lines []string
		e := openTiny(t, func(o *Options) {
			o.Cache, o.Log = kvcache.Reuse{Tier: disk.Tier{Dir: dir}}, func(line string) { lines = append(lines, line) }
		})
		results, err := e.Batch(context.Background(), []Request{question})
		require.NoError(t, err)
		require.NoError(t, e.Close())
		for _, line := range lines {
			require.NotContains(t, line, "disk:")
		}
		return results[0], e.Stats()
	}
	first, cold := ask()
	again, warm := ask()
	require.Equal(t, first.Tokens, again.Tokens)
	full := (first.Usage.PromptTokens - 1) / 16 * 16
	require.Equal(t, full, again.Usage.CachedTokens, "every full block of the prompt")
	t.Logf("the first request after the restart reuses %d of %d stored tokens: %d %%", again.Usage.CachedTokens, full, 100*again.Usage.CachedTokens/full)
	require.Equal(t, cold.TokensComputed-int64(full), warm.TokensComputed)

	files, err := filepath.Glob(filepath.Join(dir, "*.kv"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), full/16)
	for _, file := range files { // a bit of each is wrong now
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		data[len(data)/2] ^= 1
		require.NoError(t, os.WriteFile(file, data, 0o644))
	}
	e := openTiny(t, func(o *Options) { o.Cache = kvcache.Reuse{Tier: disk.Tier{Dir: dir}} })
	results, err := e.Batch(context.Background(), []Request{question})
	require.NoError(t, err)
	require.Equal(t, first.Tokens, results[0].Tokens, "damaged files are not used")
	require.Zero(t, results[0].Usage.CachedTokens)
}

// TestIndependentChunksAreSaid: a request whose rows saw chunks that were read alone says so, also if it computed none of them.
func TestIndependentChunksAreSaid(t *testing.T) {
	e := openTiny(t, func(o *Options) { o.Cache = kvcache.Reuse{Over: kvcache.Chunked{Mode: kvcache.Independent}} })
	q := evaluations(t, "documents_test.jsonl")[3]
	var chunks []Chunk
	for _, d := range q.Documents {
		chunks = append(chunks, Chunk{Text: d + "\n"})
	}
	ask := func(chunks ...Chunk) Result {
		results, err := e.Batch(context.Background(), []Request{{Chunks: chunks, MaxTokens: 5}})
		require.NoError(t, err)
		return results[0]
	}
	question := Chunk{Text: q.Question}
	require.True(t, ask(chunks[0], question).Exact, "one chunk at the beginning has its whole context")
	require.False(t, ask(chunks[1], chunks[0], question).Exact)
	moved := ask(chunks[0], chunks[1], question)
	require.False(t, moved.Exact)
	require.Equal(t, len(e.Tokenizer().Encode(nil, question.Text)), moved.Usage.PromptTokens-moved.Usage.CachedTokens, "the question is computed, and nothing else")
	require.True(t, ask(question).Exact)
}

func TestSchedulerRandomSharing(t *testing.T) {
	n := 40
	if testing.Short() {
		n = 10
	}
	for _, strategy := range exact(t)[:5] { // without the tier, whose transfers need the step loop
		for _, overlap := range []bool{false, true} {
			reused, preempted := 0, int64(0)
			for _, seed := range seeds(n) {
				t.Run(fmt.Sprintf("%s/overlap=%v/seed=%d", strategy.Name(), overlap, seed), func(t *testing.T) {
					p, _, r := randomRun(t, seed, strategy, overlap)
					reused, preempted = reused+r, preempted+p
				})
			}
			if *seed == 0 {
				require.Greater(t, reused, 10*n)
				require.Greater(t, preempted, int64(n))
			}
		}
	}
}

// flaky is a store in memory, some of whose loads and stores fail.
type flaky struct {
	mu     sync.Mutex
	blocks map[kvcache.Key][]byte // guarded by mu
	calls  int                    // guarded by mu
	loaded int                    // guarded by mu
	closed int                    // guarded by mu
}

var errFlaky = errors.New("the store fails now and then")

func (f *flaky) Open(kvcache.Geometry) (kvcache.Store, error) { return f, nil }

func (f *flaky) Has(k kvcache.Key) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.blocks[k] != nil
}

func (f *flaky) Load(k kvcache.Key, _ []int32, dst []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls++; f.calls%5 == 0 || f.blocks[k] == nil {
		delete(f.blocks, k)
		return errFlaky
	}
	f.loaded++
	copy(dst, f.blocks[k])
	return nil
}

func (f *flaky) Save(k kvcache.Key, _ []int32, src []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls++; f.calls%7 == 0 {
		return errFlaky
	}
	f.blocks[k] = append([]byte(nil), src...)
	return nil
}

func (f *flaky) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed++
	return nil
}

// TestHostTier: what a small cache has given up comes back from the host's memory, and from the disk where that has given it
// up, too. A request that goes away while its blocks are on their way leaves nothing behind.
func TestHostTier(t *testing.T) {
	for _, c := range []struct {
		name string
		tier host.Tier
	}{
		{"all in memory", host.Tier{Bytes: 64 << 20}},
		{"memory over a disk", host.Tier{Bytes: 256 << 10, Under: disk.Tier{Dir: t.TempDir()}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := openTiny(t, func(o *Options) { o.Cache, o.CacheTokens = kvcache.Reuse{Tier: c.tier}, 512 })
			var requests []Request
			for i := range 6 {
				r := Request{Tokens: make([]int32, 250), MaxTokens: 20, IgnoreEOS: true}
				for k := range r.Tokens {
					r.Tokens[k] = int32(i*251+k*37) % 2000
				}
				requests = append(requests, r)
			}
			ask := func(r Request) Result {
				results, err := e.Batch(context.Background(), []Request{r})
				require.NoError(t, err)
				return results[0]
			}
			var first []Result
			for _, r := range requests {
				first = append(first, ask(r))
				waitForStores(t, e)
			}
			for i, r := range requests { // each has been evicted by those after it
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				_, err := e.Batch(ctx, []Request{r})
				require.ErrorIs(t, err, context.Canceled)
				again := ask(r)
				requireSame(t, first[i:i+1], []Result{again})
				require.Equal(t, 240, again.Usage.CachedTokens, "every full block")
				waitForStores(t, e)
			}
		})
	}
}

// waitForStores returns when an idle engine's blocks have been stored in the other tier: what is evicted before is computed again.
func waitForStores(t *testing.T, e *Engine) {
	t.Helper()
	require.Eventually(t, func() bool { return e.Stats().BlocksUsed == 0 }, 20*time.Second, time.Millisecond)
}

// TestTierUnderPressure: a cache that is much too small, over a store that fails now and then. Everybody gets the right answer.
func TestTierUnderPressure(t *testing.T) {
	store := &flaky{blocks: map[kvcache.Key][]byte{}}
	o := small
	o.blocks = 14
	o.context = min(o.context, o.blocks*o.blockTokens)
	for run := range 5 { // the later ones find what the first one has stored
		o.cache, o.overlap, o.worker, o.seed = kvcache.Reuse{Tier: store}, run > 0, run == 1 || run == 4, uint64(max(run-1, 0))
		if run == 4 {
			o.cache = kvcache.Reuse{Tier: host.Tier{Bytes: 8 * 8 * int64(o.blockTokens), Under: store}}
		}
		e, _ := o.start(t)
		for round := range 6 {
			var requests []Request
			for i := range 20 {
				r := Request{Tokens: make([]int32, 60+i), MaxTokens: 20, IgnoreEOS: true}
				for k := range r.Tokens {
					r.Tokens[k] = int32(k*k+(i+round)%4*(k/40)) % fakeVocab
				}
				requests = append(requests, r)
			}
			results, err := e.Batch(context.Background(), requests)
			require.NoError(t, err)
			for i, r := range results {
				checkResult(t, requests[i], &r, o.context)
			}
		}
		require.NoError(t, e.Close())
	}
	require.Positive(t, store.loaded)
	require.GreaterOrEqual(t, store.closed, 2)
}

// TestRegistry: chunks are registered and pinned while requests run, and stay for those that come later.
func TestRegistry(t *testing.T) {
	e := openTiny(t, func(o *Options) { o.Cache = kvcache.Chunked{} })
	ctx := context.Background()
	head := noise(1, 100, 1)[0].Tokens
	var id kvcache.Key
	require.NoError(t, e.Registry(ctx, func(r kvcache.Registry) (err error) {
		if id, err = r.Register(kvcache.ChunkText{Tokens: head}); err != nil {
			return err
		}
		return r.Pin(id, true)
	}))
	ask := func() Usage {
		results, err := e.Batch(ctx, []Request{{Chunks: []Chunk{{Tokens: head}, {Tokens: []int32{5, 6, 7}}}, MaxTokens: 3}})
		require.NoError(t, err)
		return results[0].Usage
	}
	require.Zero(t, ask().CachedTokens)
	require.Equal(t, len(head), ask().CachedTokens, "with nobody between")
	require.ErrorIs(t, e.Registry(ctx, func(r kvcache.Registry) error { return r.Delete(id) }), kvcache.ErrChunkInUse)
	require.NoError(t, e.Close())
	require.ErrorIs(t, e.Registry(ctx, func(kvcache.Registry) error { return nil }), ErrClosed)
	e = openTiny(t, nil)
	require.ErrorIs(t, e.Registry(ctx, func(kvcache.Registry) error { return nil }), errors.ErrUnsupported)
}
