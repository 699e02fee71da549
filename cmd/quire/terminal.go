package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// terminal edits lines on a terminal. Between two lines the terminal is as it was found, so that Ctrl-C is a signal then.
type terminal struct {
	fd    int
	lines *term.Terminal
}

// openTerminal edits lines from stdin, which must be a terminal. The caller calls restore at the end.
func openTerminal(stdin io.Reader, stdout io.Writer) (t *terminal, restore func(), err error) {
	file, ok := stdin.(*os.File)
	if !ok {
		return nil, nil, fmt.Errorf("standard input is no terminal")
	}
	fd := int(file.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, nil, fmt.Errorf("asking for the terminal's state: %w", err)
	}
	t = &terminal{fd: fd, lines: term.NewTerminal(screen{clearLine{stdin}, stdout}, ">>> ")}
	if width, height, err := term.GetSize(fd); err == nil && width > 0 { // some containers say 0
		t.lines.SetSize(width, height)
	}
	stop := onTermination(func() { term.Restore(fd, before) })
	return t, func() { stop(); term.Restore(fd, before) }, nil
}

// ReadLine reads a line in raw mode.
func (t *terminal) ReadLine() (string, error) {
	before, err := term.MakeRaw(t.fd)
	if err != nil {
		return "", err
	}
	defer term.Restore(t.fd, before)
	return t.lines.ReadLine()
}

// screen is what a line editor reads keys from and writes to.
type screen struct {
	io.Reader
	io.Writer
}

// clearLine turns Ctrl-C into Ctrl-U, which clears the line: the editor would take it for the end of input, and the user
// may have meant to stop an answer that has just ended.
type clearLine struct{ keys io.Reader }

// Read reads keys.
func (c clearLine) Read(p []byte) (int, error) {
	n, err := c.keys.Read(p)
	const ctrlC, ctrlU = 3, 21
	for at := bytes.IndexByte(p[:n], ctrlC); at >= 0; at = bytes.IndexByte(p[:n], ctrlC) {
		p[at] = ctrlU
	}
	return n, err
}

// onTermination runs tidy when the process is told to end, and then lets it end.
func onTermination(tidy func()) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		s, ok := <-signals
		if !ok {
			return
		}
		tidy()
		signal.Reset(s)
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			self.Signal(s)
		}
	}()
	return func() { signal.Stop(signals); close(signals) }
}
