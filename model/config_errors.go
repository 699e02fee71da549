package model

import (
	"errors"
	"fmt"
	"strings"
)

// UnsupportedError says that a model needs something that is not built. It matches errors.ErrUnsupported.
type UnsupportedError struct {
	File      string   // where it was found
	What      string   // "architecture", "rope type", "weight format"
	Found     string   // what the file says
	Supported []string // what would do instead; may be empty
	Advice    string   // what to do about it; may be empty
}

// Error is one line that names the file, what was found and what is supported.
func (e *UnsupportedError) Error() string { return "model: reading " + e.File + ": " + e.problem() }

// Unwrap gives errors.ErrUnsupported.
func (e *UnsupportedError) Unwrap() error { return errors.ErrUnsupported }

// Hint is one line that says what to do.
func (e *UnsupportedError) Hint() string {
	if e.Advice != "" {
		return e.Advice
	}
	return "use a Qwen3, Qwen3-MoE, Qwen2, Qwen2.5 or Llama 3 model in bfloat16, float16 or float32"
}

func (e *UnsupportedError) problem() string {
	text := fmt.Sprintf("%s %q is not supported", e.What, e.Found)
	if len(e.Supported) > 0 {
		text += " (supported: " + strings.Join(e.Supported, ", ") + ")"
	}
	return text
}

// InvalidError says that a model's file is damaged, or contradicts itself or another of its files.
type InvalidError struct {
	File     string
	Problems []error // all that were found, at least one
	Advice   string  // what to do about it; may be empty
}

// Error is one line with all problems.
func (e *InvalidError) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		if u, ok := p.(*UnsupportedError); ok {
			texts[i] = u.problem()
		} else {
			texts[i] = p.Error()
		}
	}
	return "model: reading " + e.File + ": " + strings.Join(texts, "; ")
}

// Unwrap gives the problems.
func (e *InvalidError) Unwrap() []error { return e.Problems }

// Hint is one line that says what to do.
func (e *InvalidError) Hint() string {
	if e.Advice != "" {
		return e.Advice
	}
	return "download the model's files again, or compare them with those that its makers published"
}

func invalid(file, format string, args ...any) *InvalidError {
	return &InvalidError{File: file, Problems: []error{fmt.Errorf(format, args...)}}
}
