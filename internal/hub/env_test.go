package hub

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEnv(t *testing.T) {
	home := t.TempDir()
	write := func(path, text string) string {
		path = filepath.Join(home, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	write(".cache/huggingface/token", "from-default\n")
	write("hf/token", "from-home\n")
	write("xdg/huggingface/token", "from-xdg\n")
	write("elsewhere", " from-path\r\n")
	hub := func(parts ...string) string { return filepath.Join(append([]string{home}, parts...)...) }
	for name, c := range map[string]struct {
		vars map[string]string
		want Env
	}{
		"nothing set":             {nil, Env{CacheDir: hub(".cache", "huggingface", "hub"), Token: "from-default"}},
		"XDG_CACHE_HOME":          {map[string]string{"XDG_CACHE_HOME": hub("xdg")}, Env{CacheDir: hub("xdg", "huggingface", "hub"), Token: "from-xdg"}},
		"HF_HOME before XDG":      {map[string]string{"HF_HOME": "~/hf", "XDG_CACHE_HOME": hub("xdg")}, Env{CacheDir: hub("hf", "hub"), Token: "from-home"}},
		"HF_HUB_CACHE before all": {map[string]string{"HF_HUB_CACHE": "$BASE/c", "BASE": "/b", "HUGGINGFACE_HUB_CACHE": "/old", "HF_HOME": "~/hf"}, Env{CacheDir: "/b/c", Token: "from-home"}},
		"HUGGINGFACE_HUB_CACHE":   {map[string]string{"HUGGINGFACE_HUB_CACHE": "/old"}, Env{CacheDir: "/old", Token: "from-default"}},
		"unknown variable stays":  {map[string]string{"HF_HUB_CACHE": "/x/$NONE"}, Env{CacheDir: "/x/$NONE", Token: "from-default"}},
		"HF_TOKEN":                {map[string]string{"HF_TOKEN": " t1\n", "HF_TOKEN_PATH": "~/elsewhere"}, Env{CacheDir: hub(".cache", "huggingface", "hub"), Token: "t1"}},
		"HF_TOKEN_PATH":           {map[string]string{"HF_TOKEN_PATH": "~/elsewhere", "HF_HOME": "~/hf"}, Env{CacheDir: hub("hf", "hub"), Token: "from-path"}},
		"no token file":           {map[string]string{"HF_TOKEN_PATH": "~/none"}, Env{CacheDir: hub(".cache", "huggingface", "hub")}},
		"HF_ENDPOINT":             {map[string]string{"HF_ENDPOINT": "https://mirror/hf/", "HF_TOKEN": "t"}, Env{CacheDir: hub(".cache", "huggingface", "hub"), Endpoint: "https://mirror/hf", Token: "t"}},
		"offline":                 {map[string]string{"HF_HUB_OFFLINE": "yes", "HF_TOKEN": "t"}, Env{CacheDir: hub(".cache", "huggingface", "hub"), Token: "t", Offline: true}},
		"offline, transformers":   {map[string]string{"TRANSFORMERS_OFFLINE": "1", "HF_TOKEN": "t"}, Env{CacheDir: hub(".cache", "huggingface", "hub"), Token: "t", Offline: true}},
		"not offline":             {map[string]string{"HF_HUB_OFFLINE": "0", "HF_TOKEN": "t"}, Env{CacheDir: hub(".cache", "huggingface", "hub"), Token: "t"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, envFrom(func(name string) string { return c.vars[name] }, home))
		})
	}
	require.Equal(t, Env{}, envFrom(func(string) string { return "" }, ""), "no home folder")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(verb, Env{Token: testToken}), testToken, verb)
	}
}

func TestBadEndpoint(t *testing.T) {
	for _, endpoint := range []string{"huggingface.co", "ftp://host", "http://", "http://a b", "\x00"} {
		_, err := pull(Env{CacheDir: t.TempDir(), Endpoint: endpoint}, Options{})
		require.ErrorContains(t, err, "endpoint", endpoint)
		require.Contains(t, Hint(err), "HF_ENDPOINT")
	}
}

func TestNoCacheFolder(t *testing.T) {
	_, err := pull(Env{}, Options{})
	require.Contains(t, Hint(err), "HF_HUB_CACHE")
	_, err = Find(Env{}, testModel, "")
	require.Contains(t, Hint(err), "HF_HUB_CACHE")
	_, err = List(Env{})
	require.Contains(t, Hint(err), "HF_HUB_CACHE")
}
