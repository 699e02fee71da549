package hub

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	modelName  = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}$`)
	commitName = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)
)

// checkModel accepts "owner/name", and "name" alone, which some old models have. What it accepts is safe as the name of
// a folder and in the path of a URL.
func checkModel(model string) error {
	if !modelName.MatchString(model) || strings.Contains(model, "--") || strings.Contains(model, "..") {
		return withHint(fmt.Errorf("model %q: %w", model, ErrName), `a model is named "owner/name", for example "Qwen/Qwen3-0.6B"`)
	}
	return nil
}

// checkFile accepts the slash-separated relative path of a file that may be written inside a folder. The names come
// from a server, so: no way out of the folder, nothing that is a path of another system, nothing that a terminal would
// act on, and nothing in the folders that git and Quire trust.
func checkFile(name string) error {
	bad := func(why string) error {
		return withHint(fmt.Errorf("file name %q %s: %w", name, why, ErrName),
			"the server sent a file name that is not safe to write: the repository or the endpoint is not to be trusted")
	}
	switch {
	case name == "" || len(name) > 1024:
		return bad("is empty or very long")
	case !utf8.ValidString(name):
		return bad("is not UTF-8")
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return bad("has a character that cannot be printed")
	case escapes(name):
		return bad("leaves its folder")
	case strings.Contains(name, `\`):
		return bad("has a backslash")
	}
	for part := range strings.SplitSeq(name, "/") {
		switch strings.ToLower(part) {
		case "", ".", "..":
			return bad("has an empty or dotted part")
		case ".git", ".cache":
			return bad("is in a folder that is not the server's")
		}
		if len(part) > 255 {
			return bad("has a part that is too long")
		}
	}
	return nil
}

// escapes reports whether a name points out of the folder that it is relative to, in a way that no honest file does.
func escapes(name string) bool {
	return strings.ContainsRune(name, 0) || strings.HasPrefix(name, "/") || !filepath.IsLocal(filepath.FromSlash(name))
}

// checkRevision accepts a branch, tag, commit or "refs/pr/1": it is the user's, but becomes a file name too.
func checkRevision(revision string) error {
	if checkFile(revision) != nil {
		return withHint(fmt.Errorf("revision %q: %w", revision, ErrName), "a revision is a branch, a tag or a commit")
	}
	return nil
}

// printable makes text from a server fit for a terminal: one line of at most limit runes without control characters.
func printable(text string, limit int) string {
	text = strings.Join(strings.Fields(text), " ")
	var b strings.Builder
	for _, r := range text {
		if limit == 0 {
			b.WriteString("…")
			break
		}
		limit--
		if !unicode.IsPrint(r) {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// SizeString is a count of bytes for people, in decimal units: "726 B", "1.19 GB".
func SizeString(bytes int64) string {
	if bytes < 1000 {
		return fmt.Sprintf("%d B", bytes)
	}
	size, unit := float64(bytes), -1
	for size >= 999.5 && unit < len("kMGTPE")-1 {
		size, unit = size/1000, unit+1
	}
	digits := 2
	switch {
	case size >= 99.95:
		digits = 0
	case size >= 9.995:
		digits = 1
	}
	return fmt.Sprintf("%.*f %cB", digits, size, "kMGTPE"[unit])
}
