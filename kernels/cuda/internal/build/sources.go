// Package build decides how the CUDA sources become the images that a program carries: with which compiler and flags, from
// which files, and what the manifest says about them.
package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Release is the CUDA release whose nvcc makes the images.
const Release = "13.0"

// The targets of an image.
const (
	SM90a     = "sm_90a"     // machine code
	Compute80 = "compute_80" // PTX, which the driver compiles for what has no machine code here
)

// Targets are all of them.
func Targets() []string { return []string{SM90a, Compute80} }

// Flags are nvcc's for a target.
func Flags(target string) []string {
	flags := []string{"-std=c++17", "-O3", "-Werror", "all-warnings", "-Xptxas", "-v"}
	if target == Compute80 {
		return append(flags, "-arch=compute_80", "-ptx")
	}
	return append(flags, "-gencode=arch=compute_90a,code=sm_90a", "-cubin")
}

// File is the name of a packed image in the folder images.
func File(name, target string) string {
	if target == Compute80 {
		return name + ".compute_80.ptx.gz"
	}
	return name + "." + target + ".cubin.gz"
}

// Names are the images that the sources in dir make: one for each .cu file, sorted.
func Names(dir string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.cu"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(p), ".cu"))
	}
	slices.Sort(names)
	return names, nil
}

var includeLine = regexp.MustCompile(`(?m)^\s*#\s*include\s*"([^"]+)"`)

// Sources are the files that the image name is made of: its .cu file and the headers in dir that it includes, also through
// others. Sorted by path.
func Sources(dir, name string) ([]Source, error) {
	var sources []Source
	seen := map[string]bool{}
	queue := []string{name + ".cu"}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		text, err := os.ReadFile(filepath.Join(dir, path))
		if errors.Is(err, os.ErrNotExist) && path != name+".cu" {
			return nil, fmt.Errorf("build: sources of %q: no header %q: those of the toolkit stand in <>", name, path)
		}
		if err != nil {
			return nil, fmt.Errorf("build: sources of %q: %w", name, err)
		}
		sources = append(sources, Source{Path: path, SHA256: hash(text)})
		for _, m := range includeLine.FindAllSubmatch(text, -1) {
			queue = append(queue, string(m[1]))
		}
	}
	slices.SortFunc(sources, func(a, b Source) int { return strings.Compare(a.Path, b.Path) })
	return sources, nil
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
