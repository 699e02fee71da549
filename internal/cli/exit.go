// Package cli owns what all programs of the project share on the command line: exit codes, how an error is told, flags in
// both spellings, the flags that say how an engine runs, and progress lines.
package cli

import (
	"fmt"
	"io"
	"strings"
)

// Exit is a process's exit code. The numbers are documented and do not change.
type Exit int

// The exit codes.
const (
	OK          Exit = 0
	Failed      Exit = 1   // the command ran and its answer is no, or something went wrong that has no code of its own
	Usage       Exit = 2   // flags, arguments or a request's own values
	NotFound    Exit = 3   // no such model
	BadModel    Exit = 4   // a model that is not supported or damaged
	NoMemory    Exit = 5   // does not fit
	Address     Exit = 6   // a network address that cannot be listened on
	Network     Exit = 7   // a server that cannot be reached or refuses
	Interrupted Exit = 130 // by the user
)

// exits is the table that `help exit-codes` prints.
var exits = []struct {
	code    Exit
	meaning string
}{
	{OK, "done"},
	{Failed, "failed: the command's answer is no (verify found a difference), or an error without a code of its own"},
	{Usage, "usage: an unknown flag or command, a value out of range, a prompt that does not fit the context"},
	{NotFound, "no such model"},
	{BadModel, "the model is not supported or its files are damaged"},
	{NoMemory, "does not fit in memory"},
	{Address, "an address or port is in use"},
	{Network, "a server cannot be reached or refuses"},
	{Interrupted, "interrupted; what was finished is kept and marked incomplete"},
}

// ExitTable is the list of exit codes for a help text.
func ExitTable() string {
	var b strings.Builder
	for _, e := range exits {
		fmt.Fprintf(&b, "%5d  %s\n", e.code, e.meaning)
	}
	return b.String()
}

// Problem is an error as a user is told of it: what is wrong, what to do, and the exit code.
type Problem struct {
	Err  error
	Hint string // one line
	Exit Exit
}

// Error is the cause's text.
func (p *Problem) Error() string { return p.Err.Error() }

// Unwrap is the cause.
func (p *Problem) Unwrap() error { return p.Err }

// UsageError is a problem with what the user typed.
func UsageError(hint, format string, args ...any) error {
	return &Problem{Err: fmt.Errorf(format, args...), Hint: hint, Exit: Usage}
}

// Tell writes a problem in two lines, what is wrong and what to do, and returns the exit code. A nil error writes nothing.
func Tell(w io.Writer, err error) Exit {
	if err == nil {
		return OK
	}
	p := Explain(err)
	if p.Exit == Interrupted {
		return Interrupted // the user knows
	}
	fmt.Fprintf(w, "error: %s\nhint: %s\n", oneLine(p.Err.Error()), oneLine(p.Hint))
	return p.Exit
}

// oneLine joins the lines of an error text (errors.Join makes several).
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(strings.TrimSpace(text), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
