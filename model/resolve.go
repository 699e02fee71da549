package model

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ResolveOptions say where models are looked for. The zero value is the user's own places and no built-in models.
type ResolveOptions struct {
	Providers []Provider
	// HubCache is the Hugging Face cache. "": HF_HUB_CACHE, its older name HUGGINGFACE_HUB_CACHE, hub in HF_HOME,
	// huggingface/hub in XDG_CACHE_HOME, or ~/.cache/huggingface/hub, whichever is set first.
	HubCache string
	// Home is what ~ stands for. "": the user's home directory.
	Home string
	// Log receives one line for each thing a user should know. Nil: nothing.
	Log func(line string)
}

// Open opens a model by name: one that a provider serves, a directory (~ is the home directory), or owner/name in the
// Hugging Face cache; in this order, so ./tiny is a directory where tiny is not. A name that is none of these is a
// NotFoundError.
func Open(name string, o ResolveOptions) (*Checkpoint, error) {
	c, err := o.find(name)
	if err != nil {
		return nil, err
	}
	c.Name, c.Log = name, o.Log
	return c, nil
}

func (o ResolveOptions) find(name string) (*Checkpoint, error) {
	for _, p := range o.Providers {
		if c, err := p.Open(name); c != nil || err != nil {
			return c, err
		}
	}
	path := o.expandHome(name)
	if name != "" && exists(path) {
		return OpenDir(path)
	}
	if isRepo(name) {
		snapshot, err := o.snapshot(name)
		if err == nil {
			return OpenDir(snapshot)
		}
		return nil, &NotFoundError{Name: name, Where: err.Error(), Nearest: nearest(name, o.known()),
			advice: "get it with `quire pull " + name + "`, or give a directory"}
	}
	if strings.ContainsRune(name, filepath.Separator) {
		return nil, &NotFoundError{Name: name, Where: "there is no such directory", Nearest: nearestPaths(path),
			advice: "give the directory that holds config.json and the .safetensors files"}
	}
	return nil, &NotFoundError{Name: name, Where: "no model of this name", Nearest: nearest(name, o.known()), advice: o.choices()}
}

// DefaultBenchmarkModel is the name of the model that a benchmark runs if it is told none: ~/huggingface/Qwen3-0.6B/, then
// Qwen/Qwen3-0.6B in the cache, then "tiny", with one line to Log that says so and how to get the real one.
func DefaultBenchmarkModel(o ResolveOptions) string {
	const repo = "Qwen/Qwen3-0.6B"
	if dir := o.expandHome("~/huggingface/Qwen3-0.6B/"); exists(filepath.Join(dir, "config.json")) {
		return dir
	}
	if snapshot, err := o.snapshot(repo); err == nil && exists(filepath.Join(snapshot, "config.json")) {
		return repo
	}
	if o.Log != nil {
		o.Log("model: " + repo + " is not on this machine: running the built-in tiny model; get the real one with `quire pull " + repo + "`")
	}
	return "tiny"
}

// snapshot is the directory that the cache has for the main revision of owner/name. The layout is that of
// huggingface_hub: models--owner--name/refs/main holds a commit, snapshots/<commit> its files.
func (o ResolveOptions) snapshot(repo string) (string, error) {
	cache := o.hubCache()
	if cache == "" {
		return "", errors.New("there is neither a Hugging Face cache nor a home directory")
	}
	root := filepath.Join(cache, "models--"+strings.ReplaceAll(repo, "/", "--"))
	commit, err := os.ReadFile(filepath.Join(root, "refs", "main"))
	if err != nil {
		return "", fmt.Errorf("not in the Hugging Face cache %s", cache)
	}
	name := strings.TrimSpace(string(commit))
	snapshot := filepath.Join(root, "snapshots", name)
	if !plainName(name) || !exists(snapshot) {
		return "", fmt.Errorf("the Hugging Face cache %s has no files for its main revision", cache)
	}
	return snapshot, nil
}

func (o ResolveOptions) hubCache() string {
	if o.HubCache != "" {
		return o.HubCache
	}
	for _, key := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"} {
		if dir := os.Getenv(key); dir != "" {
			return o.expandHome(dir)
		}
	}
	if dir := os.Getenv("HF_HOME"); dir != "" {
		return filepath.Join(o.expandHome(dir), "hub")
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(o.expandHome(dir), "huggingface", "hub")
	}
	if home := o.home(); home != "" {
		return filepath.Join(home, ".cache", "huggingface", "hub")
	}
	return ""
}

func (o ResolveOptions) home() string {
	if o.Home != "" {
		return o.Home
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return home
}

// expandHome replaces a leading ~ and leaves everything else, also where there is no home directory.
func (o ResolveOptions) expandHome(path string) string {
	if home := o.home(); home != "" && (path == "~" || strings.HasPrefix(path, "~/")) {
		return home + path[1:]
	}
	return path
}

// isRepo reports whether name has the form of a repository on the Hugging Face hub.
func isRepo(name string) bool {
	owner, repo, ok := strings.Cut(name, "/")
	return ok && plainName(owner) && plainName(repo) && owner != "~" && !strings.Contains(name, "--")
}

// known lists what could be asked for: the providers' names and the models in the cache.
func (o ResolveOptions) known() []string {
	var names []string
	for _, p := range o.Providers {
		names = append(names, p.Names()...)
	}
	entries, _ := os.ReadDir(o.hubCache()) // no cache, no suggestions from it
	for _, e := range entries {
		if repo, ok := strings.CutPrefix(e.Name(), "models--"); ok {
			names = append(names, strings.ReplaceAll(repo, "--", "/"))
		}
	}
	return names
}

func (o ResolveOptions) choices() string {
	text := "give a directory or owner/name in the Hugging Face cache"
	var names []string
	for _, p := range o.Providers {
		names = append(names, p.Names()...)
	}
	if len(names) > 0 {
		text += ", or one of: " + strings.Join(names, ", ")
	}
	return text
}
