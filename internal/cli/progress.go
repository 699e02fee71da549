package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// IsTerminal reports whether a reader or writer is a terminal.
func IsTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// Progress tells how far a command is: one line that is rewritten on a terminal, else a line every ten seconds, so that
// logs stay short. It belongs on standard error. The zero value is silent. It is safe for concurrent use.
type Progress struct {
	mu      sync.Mutex
	out     io.Writer
	rewrite bool
	every   time.Duration
	now     func() time.Time
	last    time.Time
	showing bool
}

// NewProgress shows progress on out, which may be nil for none.
func NewProgress(out io.Writer) *Progress {
	p := &Progress{out: out, rewrite: IsTerminal(out), every: 10 * time.Second, now: time.Now}
	if p.rewrite {
		p.every = 100 * time.Millisecond
	}
	p.last = p.now()
	return p
}

// Show says where things stand. Most calls print nothing, so it may be called often.
func (p *Progress) Show(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out == nil || p.now().Sub(p.last) < p.every {
		return
	}
	p.last = p.now()
	if p.rewrite {
		fmt.Fprintf(p.out, "\r\x1b[K"+format, args...)
		p.showing = true
		return
	}
	fmt.Fprintf(p.out, format+"\n", args...)
}

// Clear removes the line from a terminal. Call it before anything else is printed there, and at the end.
func (p *Progress) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.showing {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.showing = false
	}
}
