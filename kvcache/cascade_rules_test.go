package kvcache_test

import (
	"testing"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/kvcachetest"
)

// sharing lets the kit fail if a strategy never reuses anything.
type sharing struct{ kvcache.Strategy }

func (sharing) Sharing() bool { return true }

func TestCascadeKeepsTheRules(t *testing.T) { kvcachetest.Run(t, sharing{kvcache.Cascade{}}) }

func BenchmarkCascade(b *testing.B) { kvcachetest.Bench(b, kvcache.Cascade{}) }

func FuzzCascade(f *testing.F) {
	for _, seed := range kvcachetest.FuzzSeeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) { kvcachetest.FuzzOps(t, kvcache.Cascade{}, data) })
}
