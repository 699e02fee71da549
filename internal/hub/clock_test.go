package hub

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"
)

// testClock stands still but where a test moves it: sleeps return at once and are noted.
type testClock struct {
	mu     sync.Mutex
	time   time.Time
	sleeps []time.Duration
	timers map[*testTimer]bool
}

type testTimer struct {
	clock    *testClock
	deadline time.Time
	fire     func()
}

func newTestClock() *testClock {
	return &testClock{time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), timers: map[*testTimer]bool{}}
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time
}

func (c *testClock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	c.sleeps = append(c.sleeps, d)
	c.mu.Unlock()
	runtime.Gosched()
	return ctx.Err()
}

func (c *testClock) AfterFunc(d time.Duration, f func()) Timer {
	t := &testTimer{clock: c, fire: f}
	t.Reset(d)
	return t
}

func (t *testTimer) Reset(d time.Duration) bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	was := t.clock.timers[t]
	t.deadline = t.clock.time.Add(d)
	t.clock.timers[t] = true
	return was
}

func (t *testTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	was := t.clock.timers[t]
	delete(t.clock.timers, t)
	return was
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	c.time = c.time.Add(d)
	var due []*testTimer
	for t := range c.timers {
		if !t.deadline.After(c.time) {
			due = append(due, t)
			delete(c.timers, t)
		}
	}
	c.mu.Unlock()
	for _, t := range due {
		t.fire()
	}
}

// pauses returns the sleeps so far, but those that only wait for a lock.
func (c *testClock) pauses() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.sleeps), func(d time.Duration) bool { return d == lockPoll })
}
