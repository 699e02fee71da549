package model

import (
	"fmt"
	"strings"
)

// NotFoundError says that there is no model of a name, and which names come near.
type NotFoundError struct {
	Name    string
	Where   string   // what was looked for
	Nearest []string // best first; may be empty
}

// Error is one line.
func (e *NotFoundError) Error() string {
	text := fmt.Sprintf("model: finding %q: %s", e.Name, e.Where)
	if len(e.Nearest) > 0 {
		text += "; did you mean " + strings.Join(e.Nearest, ", ") + "?"
	}
	return text
}
