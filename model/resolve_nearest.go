package model

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quire-llm/quire/internal/spelling"
)

// NotFoundError says that there is no model of a name, and which names come near.
type NotFoundError struct {
	Name    string
	Where   string   // what was looked for
	Nearest []string // at most three, best first
	advice  string
}

// Error is one line.
func (e *NotFoundError) Error() string {
	text := fmt.Sprintf("model: finding %q: %s", e.Name, e.Where)
	if len(e.Nearest) > 0 {
		text += "; did you mean " + strings.Join(e.Nearest, " or ") + "?"
	}
	return text
}

// Hint is one line that says what to do.
func (e *NotFoundError) Hint() string {
	if e.advice != "" {
		return e.advice
	}
	return "give the directory that holds config.json and the .safetensors files"
}

// nearest picks at most three of known that are a few typing errors from name, or begin with it. The owner of a
// repository may be missing, and case does not count.
func nearest(name string, known []string) []string {
	type candidate struct {
		name   string
		errors int
	}
	var near []candidate
	wanted := strings.ToLower(name)
	for _, k := range known {
		have := strings.ToLower(k)
		errors := min(spelling.Distance(wanted, have), spelling.Distance(path.Base(wanted), path.Base(have)))
		if len(wanted) >= 3 && strings.HasPrefix(have, wanted) {
			errors = min(errors, 1)
		}
		if errors <= min(len(wanted), len(have))/3 {
			near = append(near, candidate{k, errors})
		}
	}
	slices.SortFunc(near, func(a, b candidate) int { return cmp.Or(a.errors-b.errors, strings.Compare(a.name, b.name)) })
	var names []string
	for _, c := range near[:min(len(near), 3)] {
		names = append(names, c.name)
	}
	return names
}

// nearestPaths looks for near names beside a directory that is not there.
func nearestPaths(dir string) []string {
	parent, name := filepath.Split(filepath.Clean(dir))
	entries, err := os.ReadDir(parent)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	near := nearest(name, names)
	for i := range near {
		near[i] = filepath.Join(parent, near[i])
	}
	return near
}
