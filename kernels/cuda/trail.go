//go:build linux && cgo && (amd64 || arm64)

package cuda

import (
	"fmt"
	"sync"
)

// trailNames is how many names a trail keeps: two layers' worth of kernels and the end of the step.
const trailNames = 64

// trail remembers the names of what was queued on a stream last. The stream's goroutine adds to it; whoever waits for an
// event may say how far the work has come.
type trail struct {
	mu     sync.Mutex
	names  [trailNames]string // entry i lies at i % trailNames
	queued uint64             // entries ever added
	done   uint64             // entries known to be finished
}

// add appends a name and returns the mark of the work up to here.
func (t *trail) add(name string) uint64 {
	t.mu.Lock()
	t.names[t.queued%trailNames] = name
	t.queued++
	mark := t.queued
	t.mu.Unlock()
	return mark
}

// addFunctions appends the functions' names.
func (t *trail) addFunctions(functions []*Function) {
	t.mu.Lock()
	for _, f := range functions {
		t.names[t.queued%trailNames] = f.name
		t.queued++
	}
	t.mu.Unlock()
}

// mark stands for all that was queued until now.
func (t *trail) mark() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.queued
}

// reached says that the work up to mark is finished.
func (t *trail) reached(mark uint64) {
	t.mu.Lock()
	t.done = max(t.done, mark)
	t.mu.Unlock()
}

// list is what was queued and is not known to be finished, in the form of Error.Queued.
func (t *trail) list() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	from := t.done
	if t.queued-from > trailNames {
		from = t.queued - trailNames
		lines = append(lines, fmt.Sprintf("%d earlier", from-t.done))
	}
	for i := from; i < t.queued; {
		name, run := t.names[i%trailNames], i+1
		for run < t.queued && t.names[run%trailNames] == name {
			run++
		}
		if times := run - i; times > 1 {
			lines = append(lines, fmt.Sprintf("%s ×%d", name, times))
		} else {
			lines = append(lines, name)
		}
		i = run
	}
	return lines
}
