package hub

import (
	"context"
	"time"
)

// Clock is how the package knows and passes time.
type Clock interface {
	Now() time.Time
	// Sleep returns after d, or earlier with the context's error.
	Sleep(ctx context.Context, d time.Duration) error
	// AfterFunc calls f in a goroutine of its own after d, unless stopped; Reset on the timer starts d anew.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is what *time.Timer does after AfterFunc.
type Timer interface {
	Reset(d time.Duration) bool
	Stop() bool
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (systemClock) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

// watchdog cancels a request when nothing has arrived for too long.
type watchdog struct {
	timer  Timer
	limit  time.Duration
	cancel context.CancelCauseFunc
}

// watch returns a context that is cancelled with the cause ErrStalled when feed was not called for limit. stop must be
// called in the end.
func watch(ctx context.Context, clock Clock, limit time.Duration) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watchdog{limit: limit, cancel: cancel}
	w.timer = clock.AfterFunc(limit, func() { cancel(ErrStalled) })
	return ctx, w
}

func (w *watchdog) feed() { w.timer.Reset(w.limit) }

func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(context.Canceled)
}
