package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/quire-llm/quire"

// source is one Go file of the repository.
type source struct {
	path    string // from the root, with slashes
	folder  string // of path; "." for the root
	test    bool
	text    []byte
	file    *ast.File
	imports []string
}

// root finds the repository's root from this package's folder.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	_, err = os.Stat(filepath.Join(dir, "go.mod"))
	require.NoError(t, err, "go.mod must lie two folders above internal/lint")
	return dir
}

// sources parses every Go file of the main module. It reads the files itself: a test that asks a child process for the
// import graph can be served a cached pass after the graph has changed.
func sources(t *testing.T) []source {
	t.Helper()
	top := root(t)
	var all []source
	fset := token.NewFileSet()
	err := fs.WalkDir(os.DirFS(top), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "bin" || base == "out") {
				return fs.SkipDir
			}
			if name != "." {
				if _, err := os.Stat(filepath.Join(top, name, "go.mod")); err == nil {
					return fs.SkipDir // a nested module has its own rules
				}
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		s := source{path: name, folder: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), text: text, file: file}
		for _, im := range file.Imports {
			p, err := strconv.Unquote(im.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, p)
		}
		all = append(all, s)
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, len(all), 20, "too few files found: is the walk wrong?")
	return all
}
