package build

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// write makes the files in dir.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
}

// folder is one with two sources, which share a header, and images that agree with them.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"a.cu":        "#include <cuda_bf16.h>\n#include \"first.h\"\n",
		"b.cu":        "  #  include \"second.h\"\n",
		"first.h":     "#include \"second.h\"\n",
		"second.h":    "// nothing\n",
		"unrelated.h": "// nothing\n",
	})
	m := &Manifest{Compiler: "nvcc V1"}
	images := map[string][]byte{}
	for _, name := range []string{"a", "b"} {
		sources, err := Sources(dir, name)
		require.NoError(t, err)
		image := Image{Name: name, Sources: sources}
		for _, target := range Targets() {
			bytes := []byte(name + " for " + target)
			images[File(name, target)] = bytes
			image.Outputs = append(image.Outputs, Output{Target: target, Flags: Flags(target), SHA256: hash(bytes)})
		}
		m.Images = append(m.Images, image)
	}
	require.NoError(t, Install(dir, m, images))
	return dir
}

func TestSources(t *testing.T) {
	sources, err := Sources(folder(t), "a")
	require.NoError(t, err)
	var paths []string
	for _, s := range sources {
		paths = append(paths, s.Path)
	}
	require.Equal(t, []string{"a.cu", "first.h", "second.h"}, paths)
}

func TestCheck(t *testing.T) {
	require.NoError(t, Check(folder(t)))
	change := func(file, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { write(t, dir, map[string]string{file: text}) }
	}
	remove := func(file string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, file))) }
	}
	edit := func(f func(*Manifest)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			m, err := Read(dir)
			require.NoError(t, err)
			f(m)
			require.NoError(t, m.Write(dir))
		}
	}
	for _, c := range []struct {
		name   string
		change func(*testing.T, string)
		want   string
	}{
		{"a source has changed", change("a.cu", "#include \"first.h\"\n"), `image "a": a.cu has changed`},
		{"a header has changed", change("second.h", "// something\n"), `image "b": second.h has changed`},
		{"a header is new", change("first.h", "#include \"unrelated.h\"\n#include \"second.h\"\n"), `image "a": unrelated.h has changed`},
		{"a header is not used any more", change("b.cu", "\n"), `image "b": second.h is no source any more`},
		{"a header is missing", remove("second.h"), `no header "second.h"`},
		{"a source is new", change("c.cu", "\n"), `the sources are ["a" "b" "c"]`},
		{"a source is gone", remove("b.cu"), `the sources are ["a"]`},
		{"an image is missing", remove("images/a.sm_90a.cubin.gz"), `image "a": open`},
		{"an image is no gzip", change("images/a.sm_90a.cubin.gz", "cubin"), `image "a": a.sm_90a.cubin.gz: `},
		{"an image too many", change("images/z.sm_90a.cubin.gz", "cubin"), `images/z.sm_90a.cubin.gz is not in MANIFEST.json`},
		{"flags have changed", edit(func(m *Manifest) { m.Images[1].Outputs[0].Flags[0] = "-O0" }), `image "b": compiled for sm_90a`},
		{"an image is another", edit(func(m *Manifest) { m.Images[0].Outputs[1].SHA256 = hash(nil) }), `images/a.compute_80.ptx.gz is not what`},
		{"a target is missing", edit(func(m *Manifest) { m.Images[0].Outputs = m.Images[0].Outputs[:1] }), `image "a": 1 targets`},
		{"the manifest is no JSON", change(ManifestFile, "{"), `reading MANIFEST.json`},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t)
			c.change(t, dir)
			require.ErrorContains(t, Check(dir), c.want)
		})
	}
}

func TestPackIsReproducible(t *testing.T) {
	image := []byte("an image, an image, an image")
	first, err := Pack(image)
	require.NoError(t, err)
	second, err := Pack(image)
	require.NoError(t, err)
	require.Equal(t, first, second)
	back, err := Unpack(first)
	require.NoError(t, err)
	require.Equal(t, image, back)
}

func TestInstallKeepsWhatIsThere(t *testing.T) {
	dir := folder(t)
	m, err := Read(dir)
	require.NoError(t, err)
	path := filepath.Join(dir, "images", File("a", SM90a))
	before, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, Install(dir, m, map[string][]byte{File("a", SM90a): []byte("a for sm_90a")}))
	after, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, before.ModTime(), after.ModTime(), "an image with the same bytes was written again")
	_, err = os.Stat(filepath.Join(dir, "images", File("b", SM90a)))
	require.ErrorIs(t, err, os.ErrNotExist, "an image that is not wanted any more")
}

func TestParseResources(t *testing.T) {
	got, err := parseResources(`ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'one_bf16' for 'sm_90a'
ptxas info    : Function properties for one_bf16
    16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers, 16 bytes cumulative stack size
ptxas info    : Compiling entry function 'two_bf16' for 'sm_90a'
ptxas info    : Function properties for two_bf16
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 30 registers, used 1 barriers, 4352 bytes smem
`)
	require.NoError(t, err)
	require.Equal(t, []Kernel{
		{Name: "one_bf16", Registers: 128, SpillBytes: 20},
		{Name: "two_bf16", Registers: 30, SharedBytes: 4352},
	}, got)
	_, err = parseResources("ptxas info    : 0 bytes gmem\n")
	require.Error(t, err)
	_, err = parseResources("ptxas info    : Compiling entry function 'one_bf16' for 'sm_90a'\n")
	require.ErrorContains(t, err, "one_bf16")
}

func TestEntries(t *testing.T) {
	got := Entries([]byte(`
.visible .entry one_bf16(
	.param .align 8 .b8 one_bf16_param_0[104]
)
.maxntid 256
{
.visible .entry two(
	.param .u64 two_param_0
)
`))
	require.Equal(t, map[string]int{"one_bf16": 104}, got)
}

// TestCompileIsReproducible compiles a source in two folders. It needs nvcc: in PATH, or named by NVCC.
func TestCompileIsReproducible(t *testing.T) {
	nvcc := os.Getenv("NVCC")
	if nvcc == "" {
		nvcc = "nvcc"
	}
	compiler, err := FindCompiler(nvcc)
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("NVCC") == "" {
		t.Skip("no nvcc in PATH: set NVCC to that of CUDA " + Release)
	}
	require.NoError(t, err)
	source := map[string]string{"one.cu": "#include \"p.h\"\nextern \"C\" __global__ void one_f32(const __grid_constant__ P p) { p.x[threadIdx.x] += __LINE__; }\n",
		"p.h": "struct P { float* x; };\n"}
	for _, target := range Targets() {
		var images [2][]byte
		var kernels []Kernel
		for i := range images {
			dir := t.TempDir()
			write(t, dir, source)
			images[i], kernels, err = compiler.Compile(dir, "one", target)
			require.NoError(t, err)
		}
		require.Equal(t, images[0], images[1], target)
		if target == Compute80 {
			require.Equal(t, map[string]int{"one_f32": 8}, Entries(images[0]))
		} else {
			require.Equal(t, "one_f32", kernels[0].Name)
		}
	}
	dir := t.TempDir()
	write(t, dir, map[string]string{"one.cu": "extern \"C\" __global__ void one_f32() { wrong }\n"})
	_, _, err = compiler.Compile(dir, "one", SM90a)
	require.ErrorContains(t, err, "wrong", "the compiler's words")
}

func TestFindCompiler(t *testing.T) {
	dir := t.TempDir()
	_, err := FindCompiler(filepath.Join(dir, "nvcc"))
	require.ErrorIs(t, err, os.ErrNotExist)
	for _, c := range []struct{ name, says, want string }{
		{"another release", "Cuda compilation tools, release 12.9, V12.9.86", "is of release 12.9, the images are made with " + Release},
		{"not a compiler", "hello", "does not name a release"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "nvcc")
			require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\necho '"+c.says+"'\n"), 0o755))
			_, err := FindCompiler(path)
			require.ErrorContains(t, err, c.want)
		})
	}
}
