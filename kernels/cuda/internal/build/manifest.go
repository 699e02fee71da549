package build

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// ManifestFile is the manifest's name, beside the sources.
const ManifestFile = "MANIFEST.json"

// Manifest says what the images were made of and with.
type Manifest struct {
	Compiler string  `json:"compiler"`
	Images   []Image `json:"images"` // sorted by name
}

// Image is what one .cu file became.
type Image struct {
	Name    string   `json:"name"`
	Sources []Source `json:"sources"`
	Outputs []Output `json:"outputs"` // in the order of Targets
}

// Source is a file that an image is made of.
type Source struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// Output is an image for one target.
type Output struct {
	Target  string   `json:"target"`
	Flags   []string `json:"flags"`
	SHA256  string   `json:"sha256"`            // of the image as the driver gets it
	Kernels []Kernel `json:"kernels,omitempty"` // of machine code
}

// Kernel is what the compiler says that an entry point needs.
type Kernel struct {
	Name        string `json:"name"`
	Registers   int    `json:"registers"`             // a thread
	SharedBytes int    `json:"sharedBytes,omitempty"` // a block, besides what is asked for at launch
	SpillBytes  int    `json:"spillBytes,omitempty"`  // stored and loaded by a thread
}

// Read reads the manifest in dir.
func Read(dir string) (*Manifest, error) {
	text, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil {
		return nil, err
	}
	m := new(Manifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("build: reading %s: %w", ManifestFile, err)
	}
	return m, nil
}

// Write writes the manifest to dir.
func (m *Manifest) Write(dir string) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, ManifestFile), append(text, '\n'), 0o644)
}

// Check compares the manifest in dir with the sources, the flags and the packed images there. All that differs is in the
// error. It needs no compiler.
func Check(dir string) error {
	m, err := Read(dir)
	if err != nil {
		return err
	}
	names, err := Names(dir)
	if err != nil {
		return err
	}
	var problems []error
	report := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("build: "+format, args...))
	}
	var listed, packed []string
	for _, image := range m.Images {
		listed = append(listed, image.Name)
		problems = append(problems, image.check(dir)...)
		for _, target := range Targets() {
			packed = append(packed, File(image.Name, target))
		}
	}
	if !slices.Equal(names, listed) {
		report("the sources are %q, %s lists %q: run make kernels", names, ManifestFile, listed)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "images"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !slices.Contains(packed, e.Name()) {
			report("images/%s is not in %s", e.Name(), ManifestFile)
		}
	}
	return errors.Join(problems...)
}

// check compares one image.
func (i *Image) check(dir string) (problems []error) {
	report := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("build: image %q: %w", i.Name, fmt.Errorf(format, args...)))
	}
	sources, err := Sources(dir, i.Name)
	if err != nil {
		return []error{err}
	}
	if !slices.Equal(sources, i.Sources) {
		for _, s := range sources {
			if !slices.Contains(i.Sources, s) {
				report("%s has changed since it was compiled: run make kernels", s.Path)
			}
		}
		for _, s := range i.Sources {
			if !slices.ContainsFunc(sources, func(now Source) bool { return now.Path == s.Path }) {
				report("%s is no source any more: run make kernels", s.Path)
			}
		}
	}
	if len(i.Outputs) != len(Targets()) {
		report("%d targets, want %q", len(i.Outputs), Targets())
		return problems
	}
	for n, target := range Targets() {
		out := &i.Outputs[n]
		if out.Target != target || !slices.Equal(out.Flags, Flags(target)) {
			report("compiled for %s with %q, want %s with %q: run make kernels", out.Target, out.Flags, target, Flags(target))
		}
		image, err := readPacked(filepath.Join(dir, "images", File(i.Name, target)))
		if err != nil {
			report("%w", err)
		} else if hash(image) != out.SHA256 {
			report("images/%s is not what %s says", File(i.Name, target), ManifestFile)
		}
	}
	return problems
}

// Pack compresses an image. The same bytes give the same result.
func Pack(image []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression) // its header has no time and no name unless they are set
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(image); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Unpack is the image that Pack compressed.
func Unpack(packed []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func readPacked(path string) ([]byte, error) {
	packed, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	image, err := Unpack(packed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return image, nil
}
