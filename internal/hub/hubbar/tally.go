package hubbar

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/quire-llm/quire/internal/hub"
)

// tally counts all files of a pull. It is safe for concurrent use.
type tally struct {
	mu           sync.Mutex
	have         map[string]int64 // bytes here, by file
	sum, total   int64            // bytes here and in the end
	files, ready int
	fetched      int64 // bytes that came in since the start
	started      time.Time
	rate         meter
}

func (t *tally) start(files []hub.File, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.have, t.started, t.files = map[string]int64{}, now, len(files)
	for _, f := range files {
		t.have[f.Name] = f.HaveBytes
		t.sum += f.HaveBytes
		t.total += f.Bytes
		if f.Present() {
			t.ready++
		}
	}
	t.rate.add(0, now)
}

// set notes how much of a file is here. Less than before means that some was thrown away.
func (t *tally) set(name string, have int64, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	more := have - t.have[name]
	t.have[name] = have
	t.sum += more
	t.fetched += max(0, more)
	t.rate.add(max(0, more), now)
}

func (t *tally) done(f hub.File, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum += f.Bytes - t.have[f.Name] // another pull may have brought it
	t.have[f.Name] = f.Bytes
	t.ready++
	t.rate.add(0, now)
}

// progress returns the bytes here and in the end, and the rate.
func (t *tally) progress(now time.Time) (sum, total int64, rate float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sum, t.total, t.rate.at(now)
}

// line is the state in one line.
func (t *tally) line(now time.Time) string {
	sum, total, rate := t.progress(now)
	t.mu.Lock()
	defer t.mu.Unlock()
	percent := int64(100)
	if total > 0 {
		percent = int64(100 * float64(sum) / float64(total))
	}
	return fmt.Sprintf("%3d%%  %s of %s, %s, %s left, %d of %d files", percent, hub.SizeString(sum), hub.SizeString(total),
		speed(rate), left(total-sum, rate), t.ready, t.files)
}

// summary is the last line, once; "" unless every file is there.
func (t *tally) summary(now time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.files == 0 || t.ready < t.files {
		return ""
	}
	files := t.files
	t.files = 0
	if t.fetched == 0 {
		return fmt.Sprintf("%d files, %s, all present", files, hub.SizeString(t.total))
	}
	took := now.Sub(t.started)
	return fmt.Sprintf("%d files, %s, fetched %s in %s, %s", files, hub.SizeString(t.total), hub.SizeString(t.fetched),
		duration(took), speed(float64(t.fetched)/max(took.Seconds(), 1e-3)))
}

// meter is a rate that follows changes within seconds but does not jump: an exponentially weighted mean over time.
type meter struct {
	since   time.Time // start of the window
	pending int64     // bytes in the window
	rate    float64   // bytes a second before the window
	seeded  bool
}

const (
	meterWindow = 500 * time.Millisecond // shorter ones show the buffers of the network
	meterMemory = 5 * time.Second        // a change shows to 63 % after so long
)

func (m *meter) add(bytes int64, now time.Time) {
	if m.since.IsZero() {
		m.since = now
	}
	m.pending += bytes
	passed := now.Sub(m.since)
	if passed < meterWindow {
		return
	}
	current := float64(m.pending) / passed.Seconds()
	weight := 1 - math.Exp(-passed.Seconds()/meterMemory.Seconds())
	if !m.seeded {
		weight, m.seeded = 1, true
	}
	m.rate += weight * (current - m.rate)
	m.since, m.pending = now, 0
}

// at is the rate in bytes a second, 0 if it is not known yet.
func (m *meter) at(now time.Time) float64 {
	m.add(0, now)
	return m.rate
}

func speed(rate float64) string { return hub.SizeString(int64(rate)) + "/s" }

// left is how long the rest takes at this rate.
func left(bytes int64, rate float64) string {
	seconds := float64(bytes) / rate
	if bytes > 0 && (rate < 1 || seconds > 99*3600) {
		return "?"
	}
	if bytes <= 0 {
		seconds = 0
	}
	return duration(time.Duration(math.Ceil(seconds)) * time.Second)
}

// duration in two units at most: "8s", "3m05s", "2h10m"; milliseconds under a second.
func duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}
