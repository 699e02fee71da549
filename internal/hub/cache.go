package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quire-llm/quire/internal/spelling"
)

const modelPrefix = "models--"

// modelDir is the folder of a model whose name was checked.
func modelDir(cacheDir, model string) string {
	return filepath.Join(cacheDir, modelPrefix+strings.ReplaceAll(model, "/", "--"))
}

// CachedModel is a model with at least one snapshot in the cache.
type CachedModel struct {
	Name    string            // owner/name
	Refs    map[string]string // revision to commit
	Commits []string          // snapshots, sorted
	Bytes   int64             // of all whole blobs
}

// Find returns the folder with the snapshot of model at revision ("" means main; a commit works too), or a
// *NotCachedError. It does not check that the snapshot has all files: another program may have fetched a part.
func Find(env Env, model, revision string) (snapshotDir string, err error) {
	if revision == "" {
		revision = "main"
	}
	if err := errors.Join(checkModel(model), checkRevision(revision)); err != nil {
		return "", fmt.Errorf("hub: finding %q in the cache: %w", model, err)
	}
	if env.CacheDir == "" {
		return "", fmt.Errorf("hub: finding %q in the cache: %w", model, errNoCache())
	}
	dir := modelDir(env.CacheDir, model)
	commit := revision
	if ref, err := os.ReadFile(filepath.Join(dir, "refs", filepath.FromSlash(revision))); err == nil {
		commit = strings.TrimSpace(string(ref))
	}
	if commitName.MatchString(commit) {
		snapshot := filepath.Join(dir, "snapshots", commit)
		if info, err := os.Stat(snapshot); err == nil && info.IsDir() {
			return snapshot, nil
		}
	}
	missing := &NotCachedError{Model: model, Revision: revision, CacheDir: env.CacheDir}
	models, err := List(env)
	if err != nil {
		return "", err
	}
	for _, m := range models {
		missing.Cached = append(missing.Cached, m.Name)
		if m.Name == model {
			missing.Revisions = append(slices.Sorted(maps.Keys(m.Refs)), m.Commits...)
		}
	}
	return "", fmt.Errorf("hub: finding a model: %w", missing)
}

// List returns the models in the cache, sorted by name; none where there is no cache folder.
func List(env Env) ([]CachedModel, error) {
	if env.CacheDir == "" {
		return nil, fmt.Errorf("hub: listing the cache: %w", errNoCache())
	}
	entries, err := os.ReadDir(env.CacheDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("hub: listing the cache: %w", err)
	}
	var models []CachedModel
	for _, entry := range entries {
		name, ok := strings.CutPrefix(entry.Name(), modelPrefix)
		name = strings.Replace(name, "--", "/", 1)
		if !ok || checkModel(name) != nil {
			continue
		}
		m := readModel(filepath.Join(env.CacheDir, entry.Name()))
		m.Name = name
		if len(m.Commits) > 0 {
			models = append(models, m)
		}
	}
	slices.SortFunc(models, func(a, b CachedModel) int { return strings.Compare(a.Name, b.Name) })
	return models, nil
}

// readModel looks into one model's folder. What cannot be read is left out: another program may be writing there.
func readModel(dir string) CachedModel {
	m := CachedModel{Refs: map[string]string{}}
	snapshots, _ := os.ReadDir(filepath.Join(dir, "snapshots"))
	for _, s := range snapshots {
		if s.IsDir() && commitName.MatchString(s.Name()) {
			m.Commits = append(m.Commits, s.Name())
		}
	}
	refs := filepath.Join(dir, "refs")
	_ = filepath.WalkDir(refs, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil
		}
		text, _ := os.ReadFile(path)
		commit := strings.TrimSpace(string(text))
		if name, err := filepath.Rel(refs, path); err == nil && slices.Contains(m.Commits, commit) {
			m.Refs[filepath.ToSlash(name)] = commit
		}
		return nil
	})
	blobs, _ := os.ReadDir(filepath.Join(dir, "blobs"))
	for _, b := range blobs {
		if info, err := b.Info(); err == nil && info.Mode().IsRegular() && digest(b.Name()).valid() {
			m.Bytes += info.Size()
		}
	}
	return m
}

func errNoCache() error {
	return withHint(errors.New("there is no home folder and no variable names the cache"), "set HF_HUB_CACHE to a folder")
}

// NotCachedError is a model, or a revision of it, that is not in the cache. It matches ErrNotFound.
type NotCachedError struct {
	Model, Revision string
	CacheDir        string
	Cached          []string // names of the models that are in the cache, sorted
	Revisions       []string // what there is of this model: revisions, then commits
}

// Error is the cause in one line.
func (e *NotCachedError) Error() string {
	return fmt.Sprintf("%q at revision %q is not in the cache %q", e.Model, e.Revision, e.CacheDir)
}

// Is matches ErrNotFound.
func (e *NotCachedError) Is(target error) bool { return target == ErrNotFound }

// Hint names the revisions or models that may have been meant, and the command that fetches the model.
func (e *NotCachedError) Hint() string {
	pull := "fetch it with: quire pull " + e.Model
	if e.Revision != "main" {
		pull += " --revision " + e.Revision
	}
	if len(e.Revisions) > 0 {
		return fmt.Sprintf("the cache has it at %s; %s", strings.Join(e.Revisions, ", "), pull)
	}
	if near := e.Nearest(3); len(near) > 0 {
		return fmt.Sprintf("the cache has %s; %s", strings.Join(near, ", "), pull)
	}
	return pull
}

// Nearest returns at most limit names of cached models that are spelled much like the wanted one, the nearest first.
// Case and a missing owner do not count as differences.
func (e *NotCachedError) Nearest(limit int) []string {
	type candidate struct {
		name  string
		edits int
	}
	var near []candidate
	want := strings.ToLower(e.Model)
	for _, name := range e.Cached {
		have := strings.ToLower(name)
		_, base, _ := strings.Cut(have, "/")
		_, wantBase, _ := strings.Cut(want, "/")
		c := candidate{name, min(spelling.Distance(want, have), spelling.Distance(want, base))}
		if wantBase != "" && wantBase == base {
			c.edits = min(c.edits, 1) // the same model of another owner
		}
		if c.edits <= max(2, len(want)/3) {
			near = append(near, c)
		}
	}
	slices.SortStableFunc(near, func(a, b candidate) int { return a.edits - b.edits })
	var names []string
	for _, c := range near[:min(limit, len(near))] {
		names = append(names, c.name)
	}
	return names
}
