package systemprompt_test

import (
	"testing"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/kvcachetest"

	"github.com/quire-llm/quire/examples/systemprompt"
)

// rules are the kit's: they play prompts that begin with the strategy's prompts, and others. Sharing lets the kit fail if
// nothing is ever found again.
type rules struct{ kvcache.Strategy }

func (rules) Sharing() bool { return true }

// underTest is told the beginnings of prompts that the kit makes.
func underTest() kvcache.Strategy {
	return rules{systemprompt.SystemPrompt{Prompts: kvcachetest.Beginnings(40)}}
}

func TestKeepsTheRules(t *testing.T) { kvcachetest.Run(t, underTest()) }

func BenchmarkManager(b *testing.B) { kvcachetest.Bench(b, underTest()) }

func FuzzManager(f *testing.F) {
	for _, seed := range kvcachetest.FuzzSeeds() {
		f.Add(seed)
	}
	s := underTest()
	f.Fuzz(func(t *testing.T, data []byte) { kvcachetest.FuzzOps(t, s, data) })
}
