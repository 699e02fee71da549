package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/quire-llm/quire/engine"
)

// lineReader asks the user for lines. io.EOF: there are no more.
type lineReader interface {
	ReadLine() (string, error)
}

// chat answers line after line, each with the whole conversation before it.
func (a *App) chat(ctx context.Context, e *engine.Engine, f runFlags, lines lineReader) error {
	if !f.quiet {
		fmt.Fprintf(a.Stderr, "%s. /clear forgets the conversation, /bye or Ctrl-D ends it, Ctrl-C stops an answer.\n", e.Info().Model)
	}
	history := f.opening()
	for {
		line, err := lines.ReadLine()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a line: %w", err)
		}
		switch line = strings.TrimSpace(line); {
		case line == "":
			continue
		case line == "/bye":
			return nil
		case line == "/clear":
			history = f.opening()
			continue
		case strings.HasPrefix(line, "/"):
			a.note(fmt.Sprintf("no command %s; there are /clear and /bye", strings.Fields(line)[0]))
			continue
		}
		turn, err := a.turn(ctx, e, f, append(history[:len(history):len(history)], engine.Message{Role: "user", Content: line}))
		switch {
		case errors.Is(err, engine.ErrContextLength):
			a.note("the conversation no longer fits the context: /clear begins a new one")
		case err != nil:
			return err
		default:
			history = turn
		}
	}
}

// turn answers a conversation and returns it with the answer, which may have been stopped by Ctrl-C.
func (a *App) turn(ctx context.Context, e *engine.Engine, f runFlags, history []engine.Message) ([]engine.Message, error) {
	request := f.request(e.Info())
	request.Messages = history
	answering, stop := a.interruptible(ctx, os.Interrupt)
	defer stop()
	text, result, err := a.answer(answering, e, request)
	if err != nil && (answering.Err() == nil || ctx.Err() != nil) {
		return nil, err
	}
	switch {
	case err != nil:
		fmt.Fprintln(a.Stderr) // after the terminal's ^C
	case !f.quiet:
		writeUsage(a.Stderr, e.Info(), result)
	}
	return append(history, engine.Message{Role: "assistant", Content: text}), nil
}
