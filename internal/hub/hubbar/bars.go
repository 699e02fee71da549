package hubbar

import (
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/quire-llm/quire/internal/hub"
)

// bars draws one bar for each file in progress, and one for all below them.
//
// No lock is held while mpb is called: a bar waits for its decorators, and these read the meters.
type bars struct {
	container *mpb.Progress
	all       *mpb.Bar // nil if the terminal has gone
	tally     *tally
	color     bool
	now       func() time.Time

	mu    sync.Mutex
	files map[string]*fileBar
}

type fileBar struct {
	bar *mpb.Bar

	mu   sync.Mutex
	have int64
	rate meter
}

func newBars(out io.Writer, color bool, tally *tally, options Options) *bars {
	refresh := mpb.WithAutoRefresh()
	if options.frames != nil {
		refresh = mpb.WithManualRefresh(options.frames)
	}
	now := options.now
	b := &bars{tally: tally, color: color, now: now, files: map[string]*fileBar{},
		container: mpb.New(mpb.WithOutput(out), mpb.WithRefreshRate(200*time.Millisecond), refresh)}
	sum, total, _ := tally.progress(now())
	b.all = b.newBar("all", total, mpb.BarPriority(math.MaxInt), func() (int64, float64) {
		sum, _, rate := tally.progress(now())
		return sum, rate
	})
	b.show(b.all, sum)
	return b
}

// newBar returns nil if the terminal has gone. The bar completes only when it is told to: the last byte of a file may
// have to be fetched again.
func (b *bars) newBar(name string, total int64, option mpb.BarOption, state func() (have int64, rate float64)) *mpb.Bar {
	style := mpb.BarStyle().Lbound("").Filler("━").Tip("━").Padding("─").Rbound("")
	if b.color {
		green := func(s string) string { return "\x1b[32m" + s + "\x1b[0m" }
		grey := func(s string) string { return "\x1b[90m" + s + "\x1b[0m" }
		style = style.FillerMeta(green).TipMeta(green).PaddingMeta(grey)
	}
	text := func(decor.Statistics) string {
		have, rate := state()
		return fmt.Sprintf(" %7s of %7s %9s %6s", hub.SizeString(have), hub.SizeString(total), speed(rate), left(total-have, rate))
	}
	bar, err := b.container.Add(0, style.Build(), option, mpb.BarRemoveOnComplete(), mpb.BarFillerTrim(),
		mpb.PrependDecorators(decor.Name(shorten(name), decor.WC{W: nameColumns + 1, C: decor.DindentRight})),
		mpb.AppendDecorators(decor.Any(text, decor.WCSyncWidthR)))
	if err != nil {
		return nil
	}
	bar.SetTotal(total, false)
	return bar
}

func (b *bars) show(bar *mpb.Bar, have int64) {
	if bar != nil {
		bar.SetCurrent(have)
	}
}

func (b *bars) add(f hub.File, now time.Time) {
	file := &fileBar{have: f.HaveBytes}
	file.rate.add(0, now)
	file.bar = b.newBar(f.Name, f.Bytes, nil, func() (int64, float64) {
		file.mu.Lock()
		defer file.mu.Unlock()
		return file.have, file.rate.at(b.now())
	})
	b.show(file.bar, f.HaveBytes)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.files[f.Name] = file
}

func (b *bars) set(name string, have int64, now time.Time) {
	b.mu.Lock()
	file := b.files[name]
	b.mu.Unlock()
	if file == nil {
		return
	}
	file.mu.Lock()
	file.rate.add(max(0, have-file.have), now)
	file.have = have
	file.mu.Unlock()
	b.show(file.bar, have)
	sum, _, _ := b.tally.progress(now)
	b.show(b.all, sum)
}

func (b *bars) done(f hub.File) {
	b.mu.Lock()
	file := b.files[f.Name]
	delete(b.files, f.Name)
	b.mu.Unlock()
	if file != nil && file.bar != nil {
		file.bar.SetTotal(-1, true)
	}
	b.say(fmt.Sprintf("%s  %s", f.Name, hub.SizeString(f.Bytes)))
}

// say shows a line above the bars, and reports whether it could.
func (b *bars) say(line string) bool {
	_, err := io.WriteString(b.container, line+"\n")
	return err == nil
}

// close removes all bars from the screen and waits until that is done.
func (b *bars) close() {
	b.mu.Lock()
	left := []*mpb.Bar{b.all}
	for _, file := range b.files {
		left = append(left, file.bar)
	}
	clear(b.files)
	b.mu.Unlock()
	for _, bar := range left {
		if bar != nil {
			bar.Abort(true)
		}
	}
	b.container.Wait()
}

const nameColumns = 28 // leaves 15 of 80 columns for the bar itself

// shorten cuts the end of a long name: the shards of a model differ before it.
func shorten(name string) string {
	if runes := []rune(name); len(runes) > nameColumns {
		return string(runes[:nameColumns-1]) + "…"
	}
	return name
}
