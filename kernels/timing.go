package kernels

import (
	"context"
	"fmt"
	"time"
)

// timer is a backend that measures with a clock of its own. Its goroutine owns the device.
type timer interface {
	time(runs int, fn func(Ops) error) ([]time.Duration, error)
}

// Time is how long the operations that fn calls take, in each of so many runs one after another. They have run once before:
// memory is there, and the lists of attention are planned. A CPU is measured by the clock. On a GPU the operations are captured once and
// replayed, so that what the host does between them does not count, and events on the device's stream take the time: fn
// must not call Write or Read. The device is busy until all is done.
func (d *Device) Time(ctx context.Context, runs int, fn func(Ops) error) ([]time.Duration, error) {
	if runs < 1 {
		return nil, fmt.Errorf("kernels: measuring operations: %d runs, want at least 1", runs)
	}
	var took []time.Duration
	err := d.Do(ctx, func(ops Ops) error {
		if err := fn(ops); err != nil {
			return err
		}
		if t, ok := d.backend.(timer); ok {
			var err error
			took, err = t.time(runs, fn)
			return err
		}
		for range runs {
			if err := ctx.Err(); err != nil {
				return err
			}
			start := time.Now()
			if err := fn(ops); err != nil {
				return err
			}
			took = append(took, max(time.Since(start), 1))
		}
		return nil
	})
	return took, err
}
