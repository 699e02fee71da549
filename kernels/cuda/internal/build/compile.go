package build

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Compiler is an nvcc of the right release.
type Compiler struct {
	path    string
	version string
}

var toolsLine = regexp.MustCompile(`(?m)^Cuda compilation tools, release (\d+\.\d+), (V[\d.]+)$`)

// FindCompiler asks nvcc, a path or a name in PATH, for its version. The error matches exec.ErrNotFound or os.ErrNotExist
// where there is none.
func FindCompiler(nvcc string) (*Compiler, error) {
	path, err := exec.LookPath(nvcc)
	if err != nil {
		return nil, fmt.Errorf("build: looking for nvcc: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	out, err := exec.Command(path, "--version").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("build: %s --version: %w\n%s", path, err, out)
	}
	m := toolsLine.FindSubmatch(out)
	if m == nil {
		return nil, fmt.Errorf("build: %s --version does not name a release:\n%s", path, out)
	}
	if string(m[1]) != Release {
		return nil, fmt.Errorf("build: %s is of release %s, the images are made with %s", path, m[1], Release)
	}
	return &Compiler{path: path, version: "nvcc " + string(m[2])}, nil
}

// Version is what the manifest says.
func (c *Compiler) Version() string { return c.version }

// Compile makes the image name of dir for a target.
func (c *Compiler) Compile(dir, name, target string) (image []byte, kernels []Kernel, err error) {
	scratch, err := os.MkdirTemp("", "kernels")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	file := filepath.Join(scratch, "image")
	cmd := exec.Command(c.path, append(Flags(target), "-o", file, name+".cu")...)
	cmd.Dir = dir // paths in the image, if there are any, do not depend on where the sources lie
	cmd.Env = append(os.Environ(), "TMPDIR="+scratch)
	messages, err := cmd.CombinedOutput()
	if err != nil {
		return nil, nil, fmt.Errorf("build: compiling %s.cu for %s: %w\n%s", name, target, err, messages)
	}
	if image, err = os.ReadFile(file); err != nil {
		return nil, nil, err
	}
	if target != Compute80 {
		if kernels, err = parseResources(string(messages)); err != nil {
			return nil, nil, fmt.Errorf("build: compiling %s.cu for %s: %w\n%s", name, target, err, messages)
		}
	}
	return image, kernels, nil
}

var (
	entryLine  = regexp.MustCompile(`Compiling entry function '(\w+)'`)
	spillLine  = regexp.MustCompile(`(\d+) bytes spill stores, (\d+) bytes spill loads`)
	usedLine   = regexp.MustCompile(`Used (\d+) registers`)
	sharedPart = regexp.MustCompile(`(\d+) bytes smem`)
)

// parseResources reads what ptxas -v prints. Kernels come sorted as it does.
func parseResources(messages string) ([]Kernel, error) {
	var kernels []Kernel
	for _, line := range strings.Split(messages, "\n") {
		if m := entryLine.FindStringSubmatch(line); m != nil {
			kernels = append(kernels, Kernel{Name: m[1]})
			continue
		}
		if len(kernels) == 0 {
			continue
		}
		k := &kernels[len(kernels)-1]
		if m := spillLine.FindStringSubmatch(line); m != nil {
			k.SpillBytes += number(m[1]) + number(m[2])
		}
		if m := usedLine.FindStringSubmatch(line); m != nil {
			k.Registers = number(m[1])
		}
		if m := sharedPart.FindStringSubmatch(line); m != nil {
			k.SharedBytes = number(m[1])
		}
	}
	for _, k := range kernels {
		if k.Registers == 0 {
			return nil, fmt.Errorf("ptxas does not say how many registers %s needs", k.Name)
		}
	}
	if len(kernels) == 0 {
		return nil, errors.New("ptxas names no entry point")
	}
	return kernels, nil
}

// number is the value of digits, which a regular expression has found.
func number(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		panic(err)
	}
	return n
}

// Make compiles every source in dir and returns the manifest and the images by the names of their files.
func (c *Compiler) Make(dir string) (*Manifest, map[string][]byte, error) {
	names, err := Names(dir)
	if err != nil {
		return nil, nil, err
	}
	m := &Manifest{Compiler: c.version}
	images := map[string][]byte{}
	for _, name := range names {
		image := Image{Name: name}
		if image.Sources, err = Sources(dir, name); err != nil {
			return nil, nil, err
		}
		for _, target := range Targets() {
			b, kernels, err := c.Compile(dir, name, target)
			if err != nil {
				return nil, nil, err
			}
			images[File(name, target)] = b
			image.Outputs = append(image.Outputs, Output{Target: target, Flags: Flags(target), SHA256: hash(b), Kernels: kernels})
		}
		m.Images = append(m.Images, image)
	}
	return m, images, nil
}

// Install writes the packed images and the manifest to dir and removes other images. An image that is there already stays as it
// is, so that another version of gzip changes no file.
func Install(dir string, m *Manifest, images map[string][]byte) error {
	folder := filepath.Join(dir, "images")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, wanted := images[e.Name()]; !wanted {
			if err := os.Remove(filepath.Join(folder, e.Name())); err != nil {
				return err
			}
		}
	}
	for file, image := range images {
		path := filepath.Join(folder, file)
		if old, err := readPacked(path); err == nil && bytes.Equal(old, image) {
			continue
		}
		packed, err := Pack(image)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, packed, 0o644); err != nil {
			return err
		}
	}
	return m.Write(dir)
}
