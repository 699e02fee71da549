package kvcache_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/kvcachetest"
)

// tiered is Reuse over a tier that holds what the kit has seen stored: its bytes are the kit's.
type tiered struct{ kvcache.Reuse }

func (tiered) Sharing() bool { return true }

func (s tiered) NewManager(p *kvcache.Pool, g kvcache.Geometry) (kvcache.Manager, error) {
	held := keySet{}
	s.Tier = held
	m, err := s.Reuse.NewManager(p, g)
	return tieredManager{m, held}, err
}

// keySet is the keys with the token ids that were stored under them.
type keySet map[kvcache.Key][]int32

func (k keySet) Open(kvcache.Geometry) (kvcache.Store, error) { return k, nil }
func (k keySet) Has(key kvcache.Key) bool                     { return k[key] != nil }
func (keySet) Load(kvcache.Key, []int32, []byte) error        { return nil }
func (keySet) Save(kvcache.Key, []int32, []byte) error        { return nil }
func (keySet) Close() error                                   { return nil }

type tieredManager struct {
	kvcache.Manager
	held keySet
}

func (m tieredManager) Moved(mv kvcache.Move, err error) {
	switch {
	case mv.Kind == kvcache.MoveStore && err == nil:
		m.held[mv.Key] = slices.Clone(mv.Tokens)
	case mv.Kind == kvcache.MoveLoad && err != nil:
		delete(m.held, mv.Key) // as a store does with a file that is damaged
	}
	if held := m.held[mv.Key]; mv.Kind == kvcache.MoveLoad && err == nil && held != nil && !slices.Equal(held, mv.Tokens) {
		panic(fmt.Sprintf("loaded as tokens %v, stored as %v", mv.Tokens, held))
	}
	m.Manager.Moved(mv, err)
}

// reuses are the kinds of Reuse that the rules are tried on.
func reuses(over kvcache.Strategy) []kvcache.Strategy {
	return []kvcache.Strategy{
		sharing{kvcache.Reuse{Over: over}},
		kvcache.Reuse{Over: over, Bytes: 3 * 64 * 64}, // three blocks of the largest size
		tiered{kvcache.Reuse{Over: over}},
		tiered{kvcache.Reuse{Over: over, Bytes: 4 * 64 * 64, Evict: kvcache.EvictLRU}},
	}
}

func TestReuseKeepsTheRules(t *testing.T) {
	for i, s := range reuses(nil) {
		t.Run(fmt.Sprintf("kind=%d", i), func(t *testing.T) { kvcachetest.Run(t, s) })
	}
}

func BenchmarkReuse(b *testing.B) { kvcachetest.Bench(b, kvcache.Reuse{}) }

func FuzzReuse(f *testing.F) {
	for _, seed := range kvcachetest.FuzzSeeds() {
		f.Add(seed)
	}
	all := reuses(nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 0 { // the first byte chooses
			kvcachetest.FuzzOps(t, all[int(data[0])%len(all)], data[1:])
		}
	})
}
