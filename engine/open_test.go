package engine

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/model"
	"github.com/quire-llm/quire/model/tiny"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name    string
		options Options
		want    []string
	}{
		{"no model", Options{}, []string{"Model is empty"}},
		{"negative", Options{Model: "tiny", CacheTokens: -1, MaxContext: -2, MaxSequences: -3, StepTokens: -4, QueueRequests: -5},
			[]string{"CacheTokens must be 0 or more, not -1", "MaxContext must", "MaxSequences must", "StepTokens must", "QueueRequests must be 0 or more, not -5"}},
		{"block", Options{Model: "tiny", BlockTokens: 17}, []string{"BlockTokens must be 16, 32 or 64, not 17"}},
		{"element type", Options{Model: "tiny", KV: 9}, []string{"KV is 9"}},
		{"attention", Options{Model: "tiny", Attention: 9}, []string{"Attention is 9"}},
		{"context beyond the cache", Options{Model: "tiny", MaxContext: 100, CacheTokens: 64}, []string{"MaxContext is 100"}},
		{"steps too small", Options{Model: "tiny", MaxSequences: 100, StepTokens: 64}, []string{"StepTokens is 64"}},
		{"context beyond the model", Options{Model: "tiny", MaxContext: 5000}, []string{"MaxContext is 5000, and the model was made for 4096 tokens"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.options.Providers = []model.Provider{tiny.Provider{}}
			e, err := Open(context.Background(), c.options)
			require.Nil(t, e)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestDefaults(t *testing.T) {
	for _, c := range []struct {
		name                          string
		options                       Options
		sequences, step, cache, block int
	}{
		{"none", Options{}, 64, 512, 4096 + 64*512, 16},
		{"few sequences", Options{MaxSequences: 4}, 4, 512, 4096 + 4*512, 16},
		{"many sequences", Options{MaxSequences: 600}, 600, 600, 4096 + 600*512, 16},
		{"small steps", Options{StepTokens: 16}, 16, 16, 4096 + 16*512, 16},
		{"cache rounded up to blocks", Options{CacheTokens: 1000, BlockTokens: 64}, 64, 512, 1024, 64},
	} {
		t.Run(c.name, func(t *testing.T) {
			ck, err := tiny.Provider{}.Open(tiny.Name)
			require.NoError(t, err)
			defer ck.Close()
			p, err := PlanMemory(ck, c.options, kernels.Info{})
			require.NoError(t, err)
			require.Equal(t, c.sequences, p.Sequences)
			require.Equal(t, c.step, p.StepTokens)
			require.Equal(t, c.cache, p.CacheTokens())
			require.Equal(t, c.block, p.BlockTokens)
			require.EqualValues(t, 4*2*2*128*2, p.KVBytesPerToken)
			require.EqualValues(t, p.KVBytesPerToken*(c.cache+c.block), p.KV)
			require.Equal(t, min(4096, c.cache), p.Context)
			require.EqualValues(t, 2*4_459_776, p.WeightsMapped)
			require.Zero(t, p.Weights)
		})
	}
}

func TestOpenTwoEnginesOnADevice(t *testing.T) {
	device, err := kernels.Open(kernels.Options{})
	require.NoError(t, err)
	defer device.Close()
	ck, err := tiny.Provider{}.Open(tiny.Name)
	require.NoError(t, err)
	defer ck.Close()
	var lines []string
	a := openTiny(t, func(o *Options) {
		*o = Options{Checkpoint: ck, Device: device, Log: func(l string) { lines = append(lines, l) }}
	})
	b := openTiny(t, func(o *Options) { *o = Options{Checkpoint: ck, Device: device, MaxContext: 128, TouchCache: true} })
	require.NotEmpty(t, lines)
	for _, line := range lines {
		require.True(t, strings.HasPrefix(line, "engine: "), line)
		require.NotContains(t, line, "\n")
	}
	for line := range strings.Lines(a.Info().Memory.String()) {
		require.Contains(t, lines, "engine: memory: "+strings.TrimSuffix(line, "\n"))
	}
	r := Request{Messages: []Message{{"user", "Who are you?"}}, MaxTokens: 40}
	fromA, err := a.Batch(context.Background(), []Request{r})
	require.NoError(t, err)
	require.NoError(t, a.Close())
	fromB, err := b.Batch(context.Background(), []Request{r})
	require.NoError(t, err)
	require.Equal(t, fromA[0].Text, fromB[0].Text)
	require.Equal(t, 128, b.Info().Memory.Context)
	require.Equal(t, device.Info().KernelSet, b.Stats().KernelSet)
	require.Equal(t, "standard", b.Stats().Strategy)
}

func TestOpenFails(t *testing.T) {
	var missing *model.NotFoundError
	_, err := Open(context.Background(), Options{Model: "tinny", Providers: []model.Provider{tiny.Provider{}}})
	require.ErrorAs(t, err, &missing)
	require.Contains(t, missing.Nearest, "tiny")

	_, err = Open(context.Background(), Options{Model: "tiny", Providers: []model.Provider{tiny.Provider{}}, DeviceOptions: kernels.Options{Device: "abacus"}})
	require.ErrorIs(t, err, errors.ErrUnsupported)

	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Open(cancelled, Options{Model: "tiny", Providers: []model.Provider{tiny.Provider{}}})
	require.ErrorIs(t, err, context.Canceled)
}

// machine is a machine with so many bytes.
func machine(bytes int64) kernels.Info { return kernels.Info{Kind: "cpu", AvailableBytes: bytes} }

// The shape of Qwen3-0.6B, which has 114,688 bytes a token.
var qwen3Small = model.Config{
	Architecture: model.Qwen3, Layers: 28, Hidden: 1024, Intermediate: 3072, Heads: 16, KVHeads: 8, HeadDim: 128,
	Vocab: 151_936, MaxPositions: 40_960, NormEps: 1e-6, TiedHead: true, QKNorm: true,
}

func TestPlanMemory(t *testing.T) {
	const gib = 1 << 30
	made := model.NewGenerated("made up", qwen3Small, nil, nil)
	for _, c := range []struct {
		name    string
		options Options
		info    kernels.Info
		context int
		cache   int // tokens; -1: not checked
		err     string
	}{
		{"unknown memory", Options{}, kernels.Info{}, 40_960, 40_960 + 64*512, ""},
		{"plenty", Options{}, machine(64 * gib), 40_960, 40_960 + 64*512, ""},
		{"cache cut to what fits", Options{}, machine(8 * gib), 40_960, -1, ""},
		{"context cut to what fits", Options{}, machine(4 * gib), -1, -1, ""},
		{"no room at all", Options{}, machine(gib), 0, -1, "no context would fit: use a smaller model"},
		{"context asked for", Options{MaxContext: 20_000}, machine(8 * gib), 20_000, -1, ""},
		{"context too large", Options{MaxContext: 40_960}, machine(4 * gib), 40_960, -1, "a context of "},
		{"cache too large", Options{CacheTokens: 1_000_000}, machine(16 * gib), 40_960, 1_000_000, "106.8 GiB for a cache of 1000000 tokens, 1.1 GiB for weights and 83.3 MiB for a step, of 15.0 GiB that may be used; a cache of 129"},
		{"float32 keys and values", Options{KV: kernels.KVF32, CacheTokens: 8192}, machine(4 * gib), 8192, 8192, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := PlanMemory(made, c.options, c.info)
			if c.err != "" {
				require.ErrorIs(t, err, ErrNoMemory)
				require.ErrorContains(t, err, c.err)
				require.NotContains(t, err.Error(), "\n")
				return
			}
			require.NoError(t, err)
			if c.context >= 0 {
				require.Equal(t, c.context, p.Context)
			}
			if c.cache >= 0 {
				require.Equal(t, c.cache, p.CacheTokens())
			}
			require.EqualValues(t, 1_192_099_840, p.Weights)
			require.GreaterOrEqual(t, p.CacheTokens(), p.Context)
			if c.info.AvailableBytes > 0 {
				require.LessOrEqual(t, p.Total()+p.Reserve, c.info.AvailableBytes)
				require.LessOrEqual(t, p.Context, p.LargestContext)
			}
		})
	}
}

// TestAdviceFits: what an ErrNoMemory says would fit does fit, and a block more does not.
func TestAdviceFits(t *testing.T) {
	made := model.NewGenerated("made up", qwen3Small, nil, nil)
	p, err := PlanMemory(made, Options{MaxContext: 40_960}, machine(4<<30))
	require.ErrorIs(t, err, ErrNoMemory)
	_, err = PlanMemory(made, Options{MaxContext: p.LargestContext}, machine(4<<30))
	require.NoError(t, err)
	_, err = PlanMemory(made, Options{MaxContext: p.LargestContext + 1}, machine(4<<30))
	require.ErrorIs(t, err, ErrNoMemory)
}

func TestPlanTable(t *testing.T) {
	made := model.NewGenerated("made up", qwen3Small, nil, nil)
	p, err := PlanMemory(made, Options{MaxContext: 8192}, machine(8<<30))
	require.NoError(t, err)
	table := p.String()
	for _, want := range []string{"weights, in memory", "1.1 GiB", "114688 bytes a token", "rest", "largest context", "largest batch", "8192 positions"} {
		require.Contains(t, table, want)
	}
	t.Log("\n" + table)
}

// TestOpenSaysNoInTime: what does not fit is said before a weight is made.
func TestOpenSaysNoInTime(t *testing.T) {
	ck, err := tiny.Provider{}.Open(tiny.Name)
	require.NoError(t, err)
	defer ck.Close()
	filled := false
	large := model.NewGenerated("made up", qwen3Small, func(string, []byte) { filled = true }, ck.Files)
	defer large.Close()
	_, err = Open(context.Background(), Options{Checkpoint: large, CacheTokens: 1 << 30})
	require.ErrorIs(t, err, ErrNoMemory)
	require.False(t, filled)
}
