package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/quire-llm/quire/kvcache"
)

// Registry lets f use the registry of the cache's chunks. It is called between two steps and delays the next one, so it must be
// quick, and must not keep the registry. An error that matches errors.ErrUnsupported says that the strategy has none. Where ctx
// ends the wait, f may still be called.
func (e *Engine) Registry(ctx context.Context, f func(kvcache.Registry) error) error {
	r, ok := e.core.scheduler.manager.(kvcache.Registry)
	if !ok {
		return fmt.Errorf("engine: strategy %q has no registry of chunks: %w", e.info.Strategy, errors.ErrUnsupported)
	}
	done := make(chan error, 1)
	if err := e.core.inbox.call(func() { done <- f(r) }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("engine: waiting for the registry: %w", ctx.Err())
	}
}
