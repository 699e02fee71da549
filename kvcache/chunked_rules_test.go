package kvcache_test

import (
	"fmt"
	"testing"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/kvcachetest"
)

// apart tells the kit how a strategy's independent chunks are read.
type apart struct {
	kvcache.Strategy
	chunked kvcache.Chunked
}

func (apart) Sharing() bool          { return true }
func (a apart) Approximate() bool    { return true }
func (a apart) Reading() (bool, int) { return a.chunked.AfterHead, a.chunked.RecomputeFirst }

func (a apart) HeadGap() int {
	if a.chunked.HeadGap == 0 && a.chunked.AfterHead {
		return kvcache.DefaultHeadGap
	}
	return max(a.chunked.HeadGap, 0)
}

// auto tells the kit where a strategy cuts.
type auto struct {
	sharing
	kvcache.Auto
}

func automatic(a kvcache.Auto) auto { return auto{sharing{kvcache.Chunked{Auto: a}}, a} }

func (a auto) Cut(dst []int, tokens []int32) []int { return a.Auto.Cut(dst, tokens) }

// chunkeds are the kinds of Chunked that the rules are tried on, alone and kept.
func chunkeds() []kvcache.Strategy {
	all := []kvcache.Strategy{
		sharing{kvcache.Chunked{}},
		automatic(kvcache.Auto{Tokens: 20}),
		automatic(kvcache.Auto{Tokens: 32, ByContent: true}),
		tiered{kvcache.Reuse{Over: kvcache.Chunked{}}},
	}
	for _, c := range []kvcache.Chunked{
		{}, {AfterHead: true}, {RecomputeFirst: 3}, {RecomputeFirst: 17, AfterHead: true, HeadGap: kvcache.NoHeadGap},
		{AfterHead: true, HeadGap: 40}, {RecomputeFirst: 5, AfterHead: true, HeadGap: 1 << 20},
	} {
		c.Mode = kvcache.Independent
		all = append(all, apart{c, c}, apart{tiered{kvcache.Reuse{Over: c, Bytes: 5 * 64 * 64}}, c})
	}
	return all
}

func TestChunkedKeepsTheRules(t *testing.T) {
	for i, s := range chunkeds() {
		t.Run(fmt.Sprintf("kind=%d", i), func(t *testing.T) { kvcachetest.Run(t, s) })
	}
}

func BenchmarkChunked(b *testing.B) { kvcachetest.Bench(b, kvcache.Chunked{}) }

func FuzzChunked(f *testing.F) {
	for _, seed := range kvcachetest.FuzzSeeds() {
		f.Add(seed)
	}
	all := chunkeds()
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 0 { // the first byte chooses
			kvcachetest.FuzzOps(t, all[int(data[0])%len(all)], data[1:])
		}
	})
}
