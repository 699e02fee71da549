package kvcache_test

import (
	"testing"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/kvcachetest"
)

func TestStandardKeepsTheRules(t *testing.T) { kvcachetest.Run(t, kvcache.Standard{}) }

func BenchmarkStandard(b *testing.B) { kvcachetest.Bench(b, kvcache.Standard{}) }

func FuzzManager(f *testing.F) {
	for _, seed := range kvcachetest.FuzzSeeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) { kvcachetest.FuzzOps(t, kvcache.Standard{}, data) })
}
