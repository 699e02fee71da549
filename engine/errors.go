package engine

import (
	"errors"
	"fmt"
)

// Errors that callers branch on. Each is wrapped with the particulars.
var (
	ErrOverloaded    = errors.New("engine: queue is full")                         // try again later
	ErrClosed        = errors.New("engine: closed")                                // Close was called or the device failed
	ErrContextLength = errors.New("engine: request does not fit the context")      // never truncated
	ErrInvalid       = errors.New("engine: invalid request")                       // all bad fields are named
	ErrNonFinite     = errors.New("engine: the model produced a non-finite logit") // this request only
	ErrNoMemory      = errors.New("engine: does not fit in memory")                // said before weights are read
)

// ContextLengthError says by how much a request is too long. It matches ErrContextLength.
type ContextLengthError struct {
	PromptTokens, MaxTokens, Context int
}

// Error is the sentence that OpenAI's clients look for.
func (e *ContextLengthError) Error() string {
	return fmt.Sprintf("This model's maximum context length is %d tokens. However, you requested %d tokens (%d in the messages, %d in the completion). Please reduce the length of the messages or completion.",
		e.Context, e.PromptTokens+e.MaxTokens, e.PromptTokens, e.MaxTokens)
}

// Is matches ErrContextLength.
func (e *ContextLengthError) Is(target error) bool { return target == ErrContextLength }
