package lint

import (
	"go/ast"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNoInit: no package state that runs by itself. Programs' main packages and generated files are no exception.
func TestNoInit(t *testing.T) {
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function", s.path)
			}
		}
	}
}

// TestPackageNames: a package is a noun from the picture.
func TestPackageNames(t *testing.T) {
	banned := map[string]bool{"util": true, "utils": true, "common": true, "helpers": true, "misc": true, "shared": true}
	for _, s := range sources(t) {
		if banned[s.file.Name.Name] {
			t.Errorf("%s is in package %q: name what it decides or owns", s.path, s.file.Name.Name)
		}
	}
}

// TestPackageComments: every package outside main says in a sentence what it decides or owns.
func TestPackageComments(t *testing.T) {
	documented, seen := map[string]bool{}, map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		seen[s.folder] = true
		if s.file.Doc != nil && strings.TrimSpace(s.file.Doc.Text()) != "" {
			documented[s.folder] = true
		}
	}
	for folder := range seen {
		if !documented[folder] {
			t.Errorf("package in %s has no package comment", folder)
		}
	}
}

// TestExportedComments: every exported name outside tests and programs has a doc comment.
func TestExportedComments(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
					t.Errorf("%s: %s has no doc comment", s.path, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if ts, ok := spec.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
						t.Errorf("%s: type %s has no doc comment", s.path, ts.Name.Name)
					}
				}
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if index, ok := typ.(*ast.IndexExpr); ok {
		typ = index.X
	}
	name, ok := typ.(*ast.Ident)
	return ok && name.IsExported()
}

// TestWords: leftovers that do not belong in a committed source file.
func TestWords(t *testing.T) {
	words := []string{"TO" + "DO", "FIX" + "ME", "XX" + "X", "/wo" + "rk/", "../sha" + "red"}
	for _, s := range sources(t) {
		for i, line := range strings.Split(string(s.text), "\n") {
			for _, w := range words {
				if strings.Contains(line, w) {
					t.Errorf("%s:%d contains %q", s.path, i+1, w)
				}
			}
		}
	}
}

// TestArchitecturePage: docs/architecture.md stays under 100 lines and names every top-level package.
func TestArchitecturePage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "docs", "architecture.md"))
	require.NoError(t, err)
	require.Less(t, strings.Count(string(text), "\n"), 100)
	folders := map[string]bool{}
	for _, s := range sources(t) {
		folders[strings.SplitN(s.folder, "/", 2)[0]] = true
	}
	for folder := range folders {
		if folder != "." && folder != "internal" {
			require.Contains(t, string(text), "`"+folder+"`", "docs/architecture.md does not name %s", folder)
		}
	}
}

// TestDirectDependenciesAreArgued: every direct dependency has its line in docs/rationale.md.
func TestDirectDependenciesAreArgued(t *testing.T) {
	top := root(t)
	mod, err := os.ReadFile(filepath.Join(top, "go.mod"))
	require.NoError(t, err)
	rationale, err := os.ReadFile(filepath.Join(top, "docs", "rationale.md"))
	require.NoError(t, err)
	block := false
	for _, line := range strings.Split(string(mod), "\n") {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 2 && fields[0] == "require" && fields[1] == "(":
			block = true
		case line == ")":
			block = false
		case block && len(fields) >= 2 && !strings.Contains(line, "// indirect"):
			require.Contains(t, string(rationale), fields[0], "docs/rationale.md has no line for %s", fields[0])
		}
	}
}
