package systemprompt

import (
	"fmt"

	"github.com/quire-llm/quire/kvcache"
)

// Check verifies the pool, every table, and that the pool's references are those of the tables and no others.
func (m *manager) Check() error {
	if err := m.pool.Check(); err != nil {
		return err
	}
	tables := make([]int, m.pool.Blocks()+1) // [blocks+1] tables that name each block
	held := 0
	for id, s := range m.sequences {
		if !(0 <= s.wrote && s.wrote <= s.given && s.given <= s.tokens && s.tokens <= m.geometry.MaxTokens) {
			return fmt.Errorf("systemprompt: sequence %d: wrote %d, gave %d, of %d tokens", id, s.wrote, s.given, s.tokens)
		}
		if got, want := len(s.blocks), m.blocksFor(s.tokens); got != want {
			return fmt.Errorf("systemprompt: sequence %d has %d blocks for %d tokens, want %d", id, got, s.tokens, want)
		}
		for i, b := range s.blocks {
			if b < 1 || int(b) >= len(tables) {
				return fmt.Errorf("systemprompt: sequence %d has block %d, of a pool of %d", id, b, m.pool.Blocks())
			}
			if tables[b]++; tables[b] == 1 {
				held++
			}
			if key, ok := m.pool.Key(b); ok && (i >= len(s.keys) || key != s.keys[i] || s.wrote < (i+1)*m.geometry.BlockTokens) {
				return fmt.Errorf("systemprompt: sequence %d has block %d at %d, published as what it is not", id, b, i)
			}
		}
	}
	for b, n := range tables {
		if refs := m.pool.Refs(kvcache.BlockID(b)); refs != n {
			return fmt.Errorf("systemprompt: block %d has %d references, and is in %d tables", b, refs, n)
		}
	}
	if used := m.pool.Used(); held != used {
		return fmt.Errorf("systemprompt: sequences hold %d blocks, the pool has %d in use", held, used)
	}
	return nil
}
