package engine

import "github.com/quire-llm/quire/kvcache"

// openTier starts the transfers to the manager's other tier, if it has one. Memory that they go through is taken from memory.
func (c *core) openTier(memory kvcache.Memory, blockBytes int, log func(string)) {
	tiered, ok := c.scheduler.manager.(kvcache.Tiered)
	if !ok || tiered.Store() == nil {
		return
	}
	store := tiered.Store()
	if w, ok := store.(interface{ Warn(func(string)) }); ok {
		w.Warn(log)
	}
	if r, ok := store.(kvcache.Resident); ok {
		r.UseMemory(memory)
	}
	c.scheduler.carrier = newCarrier(store, c.scheduler.runner, memory, blockBytes, c.inbox.poke)
}

// closeTier ends the transfers, after the step loop. Twice is fine.
func (c *core) closeTier() error {
	if c.scheduler.carrier == nil {
		return nil
	}
	return c.scheduler.carrier.close()
}
