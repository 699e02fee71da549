// Package hubbar shows a person how a pull goes: bars on a terminal, a line now and then elsewhere.
package hubbar

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/quire-llm/quire/internal/hub"
)

// Style is how progress is shown.
type Style int

// Auto chooses Bars on a terminal that can move its cursor, and Lines elsewhere.
const (
	Auto Style = iota
	Bars
	Lines
)

// Options say what to show. The zero value shows what fits the output.
type Options struct {
	Quiet    bool          // nothing at all
	Style    Style         // Auto by default
	Interval time.Duration // between lines; 0 means 10 s

	now    func() time.Time
	frames chan any // a bar is drawn for each value, instead of five times a second
}

// Progress shows one pull. Its observer is safe for concurrent use, as hub.Observer asks.
type Progress struct {
	out     io.Writer
	options Options
	color   bool
	tally   tally
	bars    *bars // nil unless bars are drawn

	mu       sync.Mutex // guards out where there are no bars, and lastLine
	lastLine time.Time
}

// New shows on out, which is best standard error. Colours are left out where NO_COLOR is set.
func New(out io.Writer, options Options) *Progress {
	if options.now == nil {
		options.now = time.Now
	}
	if options.Interval == 0 {
		options.Interval = 10 * time.Second
	}
	if options.Style == Auto {
		options.Style = Lines
		if file, ok := out.(*os.File); ok && os.Getenv("TERM") != "dumb" {
			// A terminal that does not know its size, as in some containers, would show no bar at all.
			if width, height, err := term.GetSize(int(file.Fd())); err == nil && width > 0 && height > 0 {
				options.Style = Bars
			}
		}
	}
	return &Progress{out: out, options: options, color: os.Getenv("NO_COLOR") == ""}
}

// Observer is what to put into hub.Options.
func (p *Progress) Observer() hub.Observer {
	if p.options.Quiet {
		return hub.Observer{}
	}
	return hub.Observer{
		Start:     p.start,
		FileStart: p.fileStart,
		Bytes:     p.bytes,
		FileDone:  p.fileDone,
		Wait:      func(name string) { p.say("%s: waiting for another pull that is fetching it", name) },
		Retry:     p.retry,
	}
}

// Close ends the display after the pull has ended, and says in one line what was fetched if the pull has come to its
// end. It may be called twice.
func (p *Progress) Close() {
	if p.options.Quiet {
		return
	}
	if p.bars != nil {
		p.bars.close()
	}
	if line := p.tally.summary(p.options.now()); line != "" {
		fmt.Fprintln(p.out, line)
	}
}

func (p *Progress) start(pull *hub.Pull) {
	now := p.options.now()
	p.tally.start(pull.Files, now)
	p.lastLine = now
	if p.options.Style == Bars && pull.MissingBytes() > 0 {
		p.bars = newBars(p.out, p.color, &p.tally, p.options)
	}
}

func (p *Progress) fileStart(f hub.File) {
	p.tally.set(f.Name, f.HaveBytes, p.options.now())
	if p.bars != nil {
		p.bars.add(f, p.options.now())
	}
}

func (p *Progress) bytes(name string, have int64) {
	now := p.options.now()
	p.tally.set(name, have, now)
	if p.bars != nil {
		p.bars.set(name, have, now)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.lastLine) >= p.options.Interval {
		p.lastLine = now
		fmt.Fprintln(p.out, p.tally.line(now))
	}
}

func (p *Progress) fileDone(f hub.File) {
	p.tally.done(f, p.options.now())
	if p.bars != nil {
		p.bars.done(f)
	}
}

func (p *Progress) retry(name string, r hub.Retry) {
	if name == "" {
		name = "listing"
	}
	again := "again now"
	if r.Pause > 0 {
		again = "again in " + duration(r.Pause)
	}
	p.say("%s: failure %d of at most %d: %v; %s", name, r.Attempt, r.Limit+1, r.Err, again)
}

// say shows a line for good.
func (p *Progress) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if p.bars != nil && p.bars.say(line) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.out, line)
}
