package hub

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFileNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"config.json":                      true,
		"model-00001-of-00002.safetensors": true,
		"onnx/model.onnx":                  true,
		"a b/ü?#%.txt":                     true,
		".gitattributes":                   true,
		"a/..b/c":                          true,
		"":                                 false,
		".":                                false,
		"..":                               false,
		"../x":                             false,
		"a/../../x":                        false,
		"a/../x":                           false,
		"a/..":                             false,
		"./a":                              false,
		"a/./b":                            false,
		"a//b":                             false,
		"a/":                               false,
		"/etc/passwd":                      false,
		"//host/share":                     false,
		`..\x`:                             false,
		`C:\x`:                             false,
		`a\b`:                              false,
		"a\x00b":                           false,
		"a\nb":                             false,
		"a\x1b[2Jb":                        false,
		"a\u202eb":                         false,
		"a\xffb":                           false,
		".git/hooks/post-checkout":         false,
		"x/.GIT/config":                    false,
		".cache/quire/x.incomplete":        false,
		strings.Repeat("n", 256):           false,
		strings.Repeat("n/", 600) + "n":    false,
	} {
		err := checkFile(name)
		if ok {
			require.NoError(t, err, "%q", name)
			continue
		}
		require.ErrorIs(t, err, ErrName, "%q", name)
		require.NotEmpty(t, Hint(err), "%q", name)
		for _, r := range err.Error() {
			require.False(t, r < ' ', "control character in %q", err.Error())
		}
	}
}

// A name that is accepted, joined to a folder, stays inside it.
func FuzzFileName(f *testing.F) {
	for _, name := range []string{"config.json", "a/b", "../x", `..\x`, "/x", "a\x00b", "a/../b", ".", "a//b"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if checkFile(name) != nil {
			return
		}
		path := filepath.Join("/base/dir", filepath.FromSlash(name))
		if path != "/base/dir/"+name {
			t.Fatalf("%q: got %q", name, path)
		}
	})
}

func TestModelNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"Qwen/Qwen3-0.6B": true,
		"gpt2":            true,
		"a_b/c.d-e":       true,
		"":                false,
		"a/b/c":           false,
		"../b":            false,
		"a/..":            false,
		"a/.b":            false,
		"a--b/c":          false,
		"a/b..c":          false,
		"a b/c":           false,
		"/a/b":            false,
		"a/":              false,
		"a/b?x":           false,
		"a\\b":            false,
	} {
		err := checkModel(name)
		require.Equal(t, ok, err == nil, "%q: %v", name, err)
		if !ok {
			require.ErrorIs(t, err, ErrName)
			_, err = Find(Env{CacheDir: t.TempDir()}, name, "")
			require.ErrorIs(t, err, ErrName)
		}
	}
}

func TestRevisionNames(t *testing.T) {
	h := newTestHub(t)
	for _, revision := range []string{"../../x", "/main", "a\x00", `a\b`} {
		opt := h.options()
		opt.Revision = revision
		_, err := pull(h.env(), opt)
		require.ErrorIs(t, err, ErrName, revision)
		_, err = Find(h.env(), testModel, revision)
		require.ErrorIs(t, err, ErrName, revision)
	}
	require.Empty(t, h.seen(""), "requests")
}

func TestUnwritableFolder(t *testing.T) {
	for _, err := range []error{os.ErrPermission, syscall.EACCES, syscall.EROFS} {
		require.Contains(t, Hint(fmt.Errorf("x: %w", &os.PathError{Op: "open", Path: "x", Err: err})), "HF_HUB_CACHE")
	}
	require.Empty(t, Hint(os.ErrExist))
}

func TestSizeString(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.00 kB", 9_994: "9.99 kB", 9_996: "10.0 kB", 99_949: "99.9 kB", 99_960: "100 kB", 999_499: "999 kB",
		999_500: "1.00 MB", 1_192_135_096: "1.19 GB", 61_083_000_000: "61.1 GB", 1 << 62: "4.61 EB",
	} {
		require.Equal(t, want, SizeString(bytes), bytes)
	}
}
