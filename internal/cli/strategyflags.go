package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/disk"
	"github.com/quire-llm/quire/kvcache/host"
)

// StrategyFlags say how the KV cache is shared.
type StrategyFlags struct {
	Name string

	Independent    bool
	AfterHead      bool
	HeadGap        int
	RecomputeFirst int
	ChunkTokens    int
	ChunkByContent bool

	KeepBytes string
	Evict     string
	HostBytes string
	Disk      string
	DiskBytes string

	given func(flag string) bool // nil: ask for none
}

// strategyNames are what can be asked for.
var strategyNames = []string{"standard", "cascade", "chunked", "reuse", "chunked-reuse"}

// Which strategies a flag is for.
const (
	chunkedFlag = "chunked"
	reuseFlag   = "reuse"
)

// RegisterStrategy adds --cache, the flags of the strategies, and --attention.
func (f *EngineFlags) RegisterStrategy(flags *pflag.FlagSet) {
	c := &f.Cache
	flags.StringVar(&c.Name, "cache", "standard", "KV-cache `strategy`: "+strings.Join(strategyNames, ", "))
	flags.BoolVar(&c.Independent, "chunk-independent", false, "chunked: compute each chunk alone and place it anywhere (an approximation)")
	flags.BoolVar(&c.AfterHead, "chunk-after-head", false, "chunked: compute independent chunks after the prompt's first one")
	flags.IntVar(&c.HeadGap, "chunk-head-gap", kvcache.DefaultHeadGap, "chunked: `positions` left free between the first chunk and those that are computed after it")
	flags.IntVar(&c.RecomputeFirst, "chunk-recompute", 0, "chunked: `tokens` at the beginning of independent chunks to compute again in their context")
	flags.IntVar(&c.ChunkTokens, "chunk-tokens", 0, "chunked: cut prompts that name no chunks into chunks of so many `tokens` (default: they are not cut)")
	flags.BoolVar(&c.ChunkByContent, "chunk-by-content", false, "chunked: cut where the content says so, into chunks of --chunk-tokens on average")
	flags.StringVar(&c.KeepBytes, "reuse-bytes", "", "reuse: most memory that blocks which nobody uses take, as in 2GiB (default: all of the cache)")
	flags.StringVar(&c.Evict, "reuse-evict", "cost-age", "reuse: what is given up first: cost-age or lru")
	flags.StringVar(&c.HostBytes, "reuse-host-bytes", "", "reuse: host memory that keeps blocks which the cache has no room for, as in 8GiB (default: none)")
	flags.StringVar(&c.Disk, "reuse-disk", "", "reuse: `directory` that keeps blocks on disk, also for the next start (default: none)")
	flags.StringVar(&c.DiskBytes, "reuse-disk-bytes", "", "reuse: most that the directory takes, as in 20GiB (default 16GiB)")
	c.given = flags.Changed
	f.registerAttention(flags)
}

// Strategy is the one that the flags ask for. A flag of another strategy is a usage error.
func (c *StrategyFlags) Strategy() (kvcache.Strategy, error) {
	name := c.Name
	if name == "" {
		name = "standard"
	}
	if !slices.Contains(strategyNames, name) {
		return nil, UsageError("take one of: "+strings.Join(strategyNames, ", "), "no cache strategy %q", name)
	}
	for _, group := range []struct {
		of    string
		flags []string
	}{
		{chunkedFlag, []string{"chunk-independent", "chunk-after-head", "chunk-head-gap", "chunk-recompute", "chunk-tokens", "chunk-by-content"}},
		{reuseFlag, []string{"reuse-bytes", "reuse-evict", "reuse-host-bytes", "reuse-disk", "reuse-disk-bytes"}},
	} {
		for _, flag := range group.flags {
			if c.given != nil && c.given(flag) && !strings.Contains(name, group.of) {
				return nil, UsageError(fmt.Sprintf("take --cache %s, or leave the flag out", group.of), "--%s means nothing to --cache %s", flag, name)
			}
		}
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	switch name {
	case "cascade":
		return kvcache.Cascade{}, nil
	case "chunked":
		return c.chunked(), nil
	case "reuse":
		return c.reuse(kvcache.Cascade{})
	case "chunked-reuse":
		return c.reuse(c.chunked())
	}
	return kvcache.Standard{}, nil
}

// check refuses values of the chunks' flags that the strategy would refuse, by the flags' names.
func (c *StrategyFlags) check() error {
	for _, n := range []struct {
		flag  string
		value int
	}{{"chunk-head-gap", c.HeadGap}, {"chunk-recompute", c.RecomputeFirst}, {"chunk-tokens", c.ChunkTokens}} {
		if n.value < 0 {
			return UsageError("leave the flag out for its default", "--%s must not be negative, got %d", n.flag, n.value)
		}
	}
	const independent = "add --chunk-independent, or leave the flag out"
	switch {
	case c.AfterHead && !c.Independent:
		return UsageError(independent, "--chunk-after-head is for independent chunks")
	case c.RecomputeFirst > 0 && !c.Independent:
		return UsageError(independent, "--chunk-recompute is for independent chunks")
	case !c.AfterHead && c.HeadGap != 0 && c.HeadGap != kvcache.DefaultHeadGap:
		return UsageError("add --chunk-after-head, or leave the flag out", "--chunk-head-gap is for chunks that are computed after the head")
	case c.ChunkByContent && c.ChunkTokens < 2:
		return UsageError("say with --chunk-tokens how long chunks are on average", "--chunk-by-content needs --chunk-tokens of at least 2, got %d", c.ChunkTokens)
	}
	return nil
}

// chunked is the strategy that the chunks' flags ask for.
func (c *StrategyFlags) chunked() kvcache.Chunked {
	s := kvcache.Chunked{
		AfterHead:      c.AfterHead,
		RecomputeFirst: c.RecomputeFirst,
		Auto:           kvcache.Auto{Tokens: c.ChunkTokens, ByContent: c.ChunkByContent},
	}
	if c.Independent {
		s.Mode = kvcache.Independent
	}
	if c.AfterHead {
		s.HeadGap = c.HeadGap
		if c.HeadGap == 0 {
			s.HeadGap = kvcache.NoHeadGap
		}
	}
	return s
}

func (c *StrategyFlags) reuse(over kvcache.Strategy) (kvcache.Strategy, error) {
	s := kvcache.Reuse{Over: over}
	switch c.Evict {
	case "", "cost-age":
	case "lru":
		s.Evict = kvcache.EvictLRU
	default:
		return nil, UsageError("take cost-age or lru", "no eviction %q", c.Evict)
	}
	var err error
	if s.Bytes, err = parseBytes("reuse-bytes", c.KeepBytes); err != nil {
		return nil, err
	}
	bound, err := parseBytes("reuse-disk-bytes", c.DiskBytes)
	switch {
	case err != nil:
		return nil, err
	case c.Disk != "":
		s.Tier = disk.Tier{Dir: c.Disk, Bytes: bound}
	case bound > 0:
		return nil, UsageError("name a directory with --reuse-disk", "--reuse-disk-bytes without a directory")
	}
	memory, err := parseBytes("reuse-host-bytes", c.HostBytes)
	switch {
	case err != nil:
		return nil, err
	case memory > 0:
		s.Tier = host.Tier{Bytes: memory, Under: s.Tier}
	}
	return s, nil
}
