package model

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// namedProvider serves one golden under a name.
type namedProvider struct{ name, dir string }

func (p namedProvider) Names() []string { return []string{p.name} }

func (p namedProvider) Open(name string) (*Checkpoint, error) {
	if name != p.name {
		return nil, nil
	}
	return OpenDir(p.dir)
}

// fakeCache is a Hugging Face cache that holds acme/Qwen3-Toy, its files as links, as huggingface_hub makes them.
func fakeCache(t *testing.T) string {
	cache := t.TempDir()
	root := filepath.Join(cache, "models--acme--Qwen3-Toy")
	snapshot := filepath.Join(root, "snapshots", "0123abc")
	require.NoError(t, os.MkdirAll(snapshot, 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "refs"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "refs", "main"), []byte("0123abc\n"), 0o644))
	golden, err := filepath.Abs("testdata/goldens/qwen3-tied-gqa2")
	require.NoError(t, err)
	for _, file := range []string{"config.json", "generation_config.json", "model.safetensors"} {
		require.NoError(t, os.Symlink(filepath.Join(golden, file), filepath.Join(snapshot, file)))
	}
	return cache
}

func TestOpenFinds(t *testing.T) {
	home := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(home, "toy"), os.DirFS("testdata/goldens/qwen2-bias")))
	o := ResolveOptions{
		Providers: []Provider{namedProvider{"tiny", "tiny/qwen3"}},
		HubCache:  fakeCache(t),
		Home:      home,
		Log:       func(string) {},
	}
	for _, tt := range []struct {
		name string
		arch Architecture
	}{
		{"tiny", Qwen3},
		{"testdata/goldens/llama-gqa4", Llama},
		{"./testdata/goldens/llama-gqa4/", Llama},
		{"~/toy", Qwen2},
		{"acme/Qwen3-Toy", Qwen3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Open(tt.name, o)
			require.NoError(t, err)
			defer c.Close()
			require.Equal(t, tt.arch, c.Config.Architecture)
			require.Equal(t, tt.name, c.Name)
			require.NotNil(t, c.Log)
			_, err = c.Files.Open("config.json")
			require.NoError(t, err)
		})
	}
}

func TestOpenNotFound(t *testing.T) {
	home := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(home, "models"), 0o755))
	o := ResolveOptions{Providers: []Provider{namedProvider{"tiny", ""}, namedProvider{"synthetic:qwen3-0.6b", ""}}, HubCache: fakeCache(t), Home: home}
	t.Chdir(home) // here synthetic is a directory
	for _, tt := range []struct {
		name    string
		nearest []string
		hint    string
	}{
		{"tny", []string{"tiny"}, "one of: tiny, synthetic:qwen3-0.6b"},
		{"Tiny", []string{"tiny"}, "one of: tiny"},
		{"synthetic:qwen3-0.7b", []string{"synthetic:qwen3-0.6b"}, "give a directory"},
		{"synthetic", []string{"synthetic:qwen3-0.6b"}, "give a directory"},
		{"acme/Qwen3-Toi", []string{"acme/Qwen3-Toy"}, "quire pull acme/Qwen3-Toi"},
		{"qwen3-toy", []string{"acme/Qwen3-Toy"}, "give a directory"},
		{"other/unheard-of", nil, "quire pull other/unheard-of"},
		{"~/model", []string{filepath.Join(home, "models")}, "config.json"},
		{"/no/such/place", nil, "config.json"},
		{"", nil, "give a directory"},
		{"../no/such/..//place", nil, "config.json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(tt.name, o)
			var missing *NotFoundError
			require.ErrorAs(t, err, &missing)
			require.Equal(t, tt.nearest, missing.Nearest)
			require.Contains(t, missing.Hint(), tt.hint)
			require.NotContains(t, err.Error()+missing.Hint(), "\n")
		})
	}
}

func TestOpenHalfDownloaded(t *testing.T) {
	cache := fakeCache(t)
	root := filepath.Join(cache, "models--acme--Qwen3-Toy")
	require.NoError(t, os.Remove(filepath.Join(root, "snapshots", "0123abc", "model.safetensors")))
	_, err := Open("acme/Qwen3-Toy", ResolveOptions{HubCache: cache})
	var damaged *InvalidError
	require.ErrorAs(t, err, &damaged)
	require.ErrorContains(t, err, "no weights")

	for name, commit := range map[string]string{"unknown commit": "ffff", "commit that leads out": "../../../x", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(filepath.Join(root, "refs", "main"), []byte(commit), 0o644))
			_, err := Open("acme/Qwen3-Toy", ResolveOptions{HubCache: cache})
			var missing *NotFoundError
			require.ErrorAs(t, err, &missing)
		})
	}
}

func TestProviderError(t *testing.T) {
	_, err := Open("broken", ResolveOptions{Providers: []Provider{namedProvider{"broken", "testdata/evals"}}})
	var missing *NotFoundError
	require.Error(t, err)
	require.False(t, errors.As(err, &missing), "got %v, want the provider's own error", err)
}

func TestHubCachePlaces(t *testing.T) {
	for _, tt := range []struct{ hub, home, xdg, want string }{
		{"/a", "/b", "/c", "/a"},
		{"", "/b", "/c", "/b/hub"},
		{"", "", "/c", "/c/huggingface/hub"},
		{"", "", "", "/me/.cache/huggingface/hub"},
		{"~/x", "", "", "/me/x"},
	} {
		t.Run(tt.want, func(t *testing.T) {
			t.Setenv("HF_HUB_CACHE", tt.hub)
			t.Setenv("HUGGINGFACE_HUB_CACHE", "")
			t.Setenv("HF_HOME", tt.home)
			t.Setenv("XDG_CACHE_HOME", tt.xdg)
			require.Equal(t, tt.want, ResolveOptions{Home: "/me"}.hubCache())
			require.Equal(t, "/set", ResolveOptions{Home: "/me", HubCache: "/set"}.hubCache())
		})
	}
}

func TestDefaultBenchmarkModel(t *testing.T) {
	var lines []string
	home := t.TempDir()
	o := ResolveOptions{Home: home, HubCache: t.TempDir(), Log: func(line string) { lines = append(lines, line) }}
	require.Equal(t, "tiny", DefaultBenchmarkModel(o))
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], "quire pull Qwen/Qwen3-0.6B")

	o.HubCache = fakeCache(t)
	require.NoError(t, os.Rename(filepath.Join(o.HubCache, "models--acme--Qwen3-Toy"), filepath.Join(o.HubCache, "models--Qwen--Qwen3-0.6B")))
	require.Equal(t, "Qwen/Qwen3-0.6B", DefaultBenchmarkModel(o))

	dir := filepath.Join(home, "huggingface", "Qwen3-0.6B")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.Equal(t, "Qwen/Qwen3-0.6B", DefaultBenchmarkModel(o), "an empty directory is no model")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), nil, 0o644))
	require.Equal(t, dir+"/", DefaultBenchmarkModel(o))
	require.Len(t, lines, 1)
}
