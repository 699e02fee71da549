package hub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// writeTree makes files with their content; a name that ends in a slash is a folder.
func writeTree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			require.NoError(t, os.MkdirAll(path, 0o755))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
}

var (
	commitA = strings.Repeat("a", 40)
	commitB = strings.Repeat("b", 40)
)

func testCache(t *testing.T) Env {
	dir := t.TempDir()
	writeTree(t, dir, map[string]string{
		"models--Qwen--Qwen3-0.6B/refs/main":                                        commitA,
		"models--Qwen--Qwen3-0.6B/refs/refs/pr/7":                                   commitB + "\n",
		"models--Qwen--Qwen3-0.6B/refs/gone":                                        strings.Repeat("c", 40),
		"models--Qwen--Qwen3-0.6B/snapshots/" + commitA + "/config.json":            "{}",
		"models--Qwen--Qwen3-0.6B/snapshots/" + commitB + "/":                       "",
		"models--Qwen--Qwen3-0.6B/blobs/" + commitA:                                 "12345",
		"models--Qwen--Qwen3-0.6B/blobs/" + commitB + commitB[:24]:                  "1234567",
		"models--Qwen--Qwen3-0.6B/blobs/" + strings.Repeat("d", 64) + ".incomplete": "123",
		"models--Qwen--Qwen3-1.7B/refs/main":                                        commitA,
		"models--Qwen--Qwen3-1.7B/snapshots/" + commitA + "/":                       "",
		"models--gpt2/refs/main":                                                    commitA,
		"models--gpt2/snapshots/" + commitA + "/":                                   "",
		"models--acme--begun/refs/main":                                             commitA,
		"models--acme--begun/blobs/":                                                "",
		"models--acme--evil/refs/main":                                              "../../../..",
		"models--acme--evil/snapshots/" + commitB + "/":                             "",
		"datasets--acme--data/snapshots/" + commitA + "/":                           "",
		"version.txt":                            "1",
		".locks/models--Qwen--Qwen3-0.6B/x.lock": "",
	})
	return Env{CacheDir: dir}
}

func TestFind(t *testing.T) {
	env := testCache(t)
	snapshot := func(model, commit string) string {
		return filepath.Join(env.CacheDir, "models--"+model, "snapshots", commit)
	}
	for name, c := range map[string]struct{ model, revision, want string }{
		"main by default": {"Qwen/Qwen3-0.6B", "", snapshot("Qwen--Qwen3-0.6B", commitA)},
		"main":            {"Qwen/Qwen3-0.6B", "main", snapshot("Qwen--Qwen3-0.6B", commitA)},
		"nested ref":      {"Qwen/Qwen3-0.6B", "refs/pr/7", snapshot("Qwen--Qwen3-0.6B", commitB)},
		"commit":          {"Qwen/Qwen3-0.6B", commitB, snapshot("Qwen--Qwen3-0.6B", commitB)},
		"no owner":        {"gpt2", "", snapshot("gpt2", commitA)},
		"lost snapshot":   {"Qwen/Qwen3-0.6B", "gone", ""},
		"no such ref":     {"Qwen/Qwen3-0.6B", "v2", ""},
		"no such commit":  {"Qwen/Qwen3-0.6B", strings.Repeat("e", 40), ""},
		"begun only":      {"acme/begun", "", ""},
		"evil ref":        {"acme/evil", "", ""},
		"case matters":    {"qwen/qwen3-0.6b", "", ""},
		"unknown":         {"x/y", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Find(env, c.model, c.revision)
			if c.want != "" {
				require.NoError(t, err)
				require.Equal(t, c.want, got)
				return
			}
			var missing *NotCachedError
			require.ErrorAs(t, err, &missing)
			require.ErrorIs(t, err, ErrNotFound)
			require.Equal(t, []string{"Qwen/Qwen3-0.6B", "Qwen/Qwen3-1.7B", "acme/evil", "gpt2"}, missing.Cached)
			require.Contains(t, Hint(err), "quire pull "+c.model)
		})
	}
}

func TestNotCachedHints(t *testing.T) {
	env := testCache(t)
	_, err := Find(env, "Qwen/Qwen3-0.6B", "v2")
	require.Equal(t, "the cache has it at main, refs/pr/7, "+commitA+", "+commitB+
		"; fetch it with: quire pull Qwen/Qwen3-0.6B --revision v2", Hint(err))
	_, err = Find(env, "Qwen/Qwen3-0.8B", "")
	require.Equal(t, "the cache has Qwen/Qwen3-0.6B, Qwen/Qwen3-1.7B; fetch it with: quire pull Qwen/Qwen3-0.8B", Hint(err))
	_, err = Find(Env{CacheDir: filepath.Join(env.CacheDir, "none")}, "a/b", "")
	require.Equal(t, "fetch it with: quire pull a/b", Hint(err))
}

func TestNearest(t *testing.T) {
	cached := []string{"Qwen/Qwen2.5-7B", "Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B-Base", "acme/other", "unsloth/Qwen3-0.6B"}
	for model, want := range map[string][]string{
		"qwen/qwen3-0.6b":      {"Qwen/Qwen3-0.6B", "unsloth/Qwen3-0.6B"},
		"Qwen3-0.6B":           {"Qwen/Qwen3-0.6B", "unsloth/Qwen3-0.6B"},
		"Qwen/Qwen3-0.6B-Bsae": {"Qwen/Qwen3-0.6B-Base", "Qwen/Qwen3-0.6B"},
		"other/acme":           nil,
		"zzz":                  nil,
	} {
		require.Equal(t, want, (&NotCachedError{Model: model, Cached: cached}).Nearest(2), model)
	}
}

func TestList(t *testing.T) {
	models, err := List(testCache(t))
	require.NoError(t, err)
	require.Equal(t, []CachedModel{
		{Name: "Qwen/Qwen3-0.6B", Refs: map[string]string{"main": commitA, "refs/pr/7": commitB}, Commits: []string{commitA, commitB}, Bytes: 12},
		{Name: "Qwen/Qwen3-1.7B", Refs: map[string]string{"main": commitA}, Commits: []string{commitA}},
		{Name: "acme/evil", Refs: map[string]string{}, Commits: []string{commitB}},
		{Name: "gpt2", Refs: map[string]string{"main": commitA}, Commits: []string{commitA}},
	}, models)
	models, err = List(Env{CacheDir: filepath.Join(t.TempDir(), "none")})
	require.NoError(t, err)
	require.Empty(t, models)
}
