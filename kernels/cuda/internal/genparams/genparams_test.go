package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const example = `// About the file.
#pragma once
#include <stdint.h>

using bf16 = __nv_bfloat16;

constexpr int32_t kParts = 2;  // of a thing

// How large tiles are.
constexpr int32_t kTileRows = 64;
constexpr int32_t kTileCols = 32;  // all of them

// Inner is a part.
struct Inner {
  int32_t ends[kParts];
};

// OuterParams: what a kernel takes.
//
// Kernels of some.cu: one_bf16, qk_norm_two.
struct OuterParams {
  const bf16* x;  // [rows]
  void* out;
  Inner inner[2];
  const Inner* more;
  float eps;
  int32_t unused;
};
`

func TestGenerate(t *testing.T) {
	var h header
	require.NoError(t, h.parse("params.h", example))
	require.Len(t, h.structs, 2)
	require.Equal(t, 8, h.structs[0].size)
	require.Equal(t, 48, h.structs[1].size)
	offsets := map[string]int{}
	for _, f := range h.structs[1].fields {
		offsets[f.cName] = f.offset
	}
	require.Equal(t, map[string]int{"x": 0, "out": 8, "inner": 16, "more": 32, "eps": 40, "unused": 44}, offsets)

	text, err := h.goFile()
	require.NoError(t, err)
	for _, want := range []string{
		"Parts = 2 // of a thing",
		"// How large tiles are.\nconst (\n\tTileRows = 64\n\tTileCols = 32 // all of them\n)",
		"// Inner is a part.\ntype Inner struct {\n\tEnds [2]int32\n}",
		"// OuterParams: what a kernel takes.\ntype OuterParams struct {",
		"X     uint64 // [rows]",
		"Inner [2]Inner",
		"More  uint64",
		"_     int32",
		"OneBF16   Kernel = iota // takes OuterParams",
		"QKNormTwo",
		`{"qk_norm_two", "some", 48},`,
	} {
		require.Contains(t, string(text), want)
	}
	require.Contains(t, string(h.cHeader()), "#include \"params.h\"\n")
	require.Contains(t, string(h.cHeader()), "static_assert(offsetof(OuterParams, eps) == 40);\n")
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"a gap", "void* out;", "int32_t out;", "params.h:25: a gap before OuterParams.more"},
		{"a gap at the end", "  int32_t unused;\n", "", "OuterParams ends with a gap"},
		{"an unknown type", "float eps", "double eps", `unknown type "double"`},
		{"a pointer to an unknown type", "const Inner* more", "const Other* more", `unknown type "Other"`},
		{"an unknown length", "ends[kParts]", "ends[kMany]", `"kMany" is no length`},
		{"two fields in a line", "float eps;", "float eps, more_eps;", "not a field"},
		{"something else", "using bf16", "int x; using bf16", "not a constant, struct, field or comment"},
		{"a kernels line that was joined to the comment", "a kernel takes.\n//\n// Kernels", "a kernel takes. Kernels", "not of the form"},
		{"a comment between fields", "  void* out;", "  // out\n  void* out;", "a comment between fields"},
		{"a struct that does not end", "};\n\n// OuterParams: what a kernel takes.\n//\n// Kernels of some.cu: one_bf16, qk_norm_two.\n", "", "not a field"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(example, c.old, c.new, 1)
			require.NotEqual(t, example, text)
			require.ErrorContains(t, new(header).parse("params.h", text), c.want)
		})
	}
	require.ErrorContains(t, new(header).parse("params.h", strings.TrimSuffix(example, "};\n")), "has no end")
}

// TestCurrent: the generated files are those of the headers beside them.
func TestCurrent(t *testing.T) {
	from, dir := filepath.Join("..", ".."), t.TempDir()
	headers, err := filepath.Glob(filepath.Join(from, "*params.h"))
	require.NoError(t, err)
	require.NotEmpty(t, headers)
	for _, path := range headers {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(path)), text, 0o644))
	}
	require.NoError(t, generate(dir))
	for _, name := range []string{"params_gen.go", "params_gen_test.go", "layout_gen.h"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(from, name))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "%s is not current: run go generate ./kernels/cuda", name)
	}
}
