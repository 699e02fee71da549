package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

// A listing with a name that leaves the folder is refused as a whole, and nothing is written anywhere.
func TestEvilListings(t *testing.T) {
	for _, name := range []string{"../../../x.safetensors", "/tmp/x.safetensors", `..\x.safetensors`, "x\x00.safetensors",
		"x\x1b[2J.safetensors", "../../README.md"} {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprintf("%q, all %t", name, all), func(t *testing.T) {
				h := newTestHub(t)
				h.files[name] = []byte("evil")
				env, opt := h.env(), h.options()
				opt.All = all
				_, err := pull(env, opt)
				require.ErrorIs(t, err, ErrName)
				require.Contains(t, Hint(err), "not to be trusted")
				require.NoDirExists(t, env.CacheDir)
				require.Len(t, h.seen(""), 1, "requests")
			})
		}
	}
}

func TestBadListings(t *testing.T) {
	replace := func(old, new string) func(*testHub) []byte {
		return func(h *testHub) []byte {
			text := (&testHub{t: h.t, files: h.files, lfs: h.lfs, commit: h.commit}).list()
			require.True(h.t, bytes.Contains(text, []byte(old)), "%q in %s", old, text)
			return bytes.ReplaceAll(text, []byte(old), []byte(new))
		}
	}
	text := func(s string) func(*testHub) []byte { return func(*testHub) []byte { return []byte(s) } }
	for name, c := range map[string]struct {
		listing func(*testHub) []byte
		want    string
	}{
		"not JSON":               {text("<html>"), "reading the listing"},
		"cut":                    {text(`{"sha":"` + testCommit), "reading the listing"},
		"empty object":           {text(`{}`), "names no commit"},
		"null":                   {text(`null`), "names no commit"},
		"evil commit":            {replace(testCommit, "../../../../x"), "names no commit"},
		"evil digest":            {replace(digestOf(pattern(5000, 2), true), "../../x"), "no usable size and digest"},
		"no digest":              {replace(`"blobId"`, `"x"`), "no usable size and digest"},
		"upper-case digest":      {replace(digestOf(pattern(900, 1), false), strings.ToUpper(digestOf(pattern(900, 1), false))), "no usable size and digest"},
		"no size":                {replace(`"size"`, `"x"`), "no usable size and digest"},
		"negative size":          {replace(`"size":900`, `"size":-1`), "no usable size and digest"},
		"enormous size":          {replace(`"size":900`, `"size":9000000000000000000`), "no usable size and digest"},
		"size that is no number": {replace(`"size":900`, `"size":"x"`), "reading the listing"},
		"a name twice":           {replace("tokenizer.json", "config.json"), "twice"},
		"no files":               {text(`{"sha":"` + testCommit + `","siblings":[]}`), "not found"},
		"smaller size":           {replace(`"size":900`, `"size":899`), "want 899 bytes, got 900 bytes"},
		"larger size":            {replace(`"size":900`, `"size":901`), ""},
		"zero size":              {replace(`"size":900`, `"size":0`), "want "},
		"another digest":         {replace(digestOf(pattern(900, 1), false), digestOf(pattern(901, 1), false)), "want "},
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHub(t)
			h.listing = func() []byte { return c.listing(h) }
			env := h.env()
			_, err := pull(env, h.options())
			require.Error(t, err)
			require.ErrorContains(t, err, c.want)
			require.NotEmpty(t, Hint(err))
			h.requireSound(env)
		})
	}
	t.Run("another commit than the one asked for", func(t *testing.T) {
		h := newTestHub(t)
		opt := h.options()
		opt.Revision = strings.Repeat("ab", 20)
		_, err := pull(h.env(), opt)
		require.ErrorContains(t, err, "is of commit "+testCommit)
	})
}

func TestSelection(t *testing.T) {
	want := map[string]bool{
		"config.json": true, "generation_config.json": true, "tokenizer.json": true, "tokenizer_config.json": true,
		"vocab.json": true, "merges.txt": true, "chat_template.jinja": true, "chat_template.json": true,
		"model.safetensors": true, "model-00001-of-00002.safetensors": true, "model.safetensors.index.json": true,
		"special_tokens_map.json": true, "added_tokens.json": true,
		"README.md": false, "LICENSE": false, ".gitattributes": false, "pytorch_model.bin": false,
		"pytorch_model.bin.index.json": false, "onnx/model.onnx": false, "onnx/config.json": false,
		"original/params.json": false, "original/tokenizer.model": false, "sub/model.safetensors": false, "image.png": false,
	}
	for name, needs := range want {
		require.Equal(t, needs, needed(name), name)
	}
}

func TestOtherWeights(t *testing.T) {
	for name, c := range map[string]struct {
		files   []string
		all     bool
		refused bool
	}{
		"pickles":                  {files: []string{"config.json", "pytorch_model.bin"}, refused: true},
		"pickles, everything":      {files: []string{"config.json", "pytorch_model.bin"}, all: true},
		"pickles and safetensors":  {files: []string{"config.json", "pytorch_model.bin", "model.safetensors"}},
		"GGUF":                     {files: []string{"a.Q4_K_M.gguf", "b.gguf", "c.gguf", "d.gguf", "config.json"}, refused: true},
		"a tokenizer alone":        {files: []string{"tokenizer.json"}},
		"safetensors in a subdir":  {files: []string{"config.json", "x/model.safetensors", "pytorch_model-00001-of-00002.bin"}, refused: true},
		"consolidated checkpoints": {files: []string{"config.json", "original/consolidated.00.pth"}, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHub(t)
			h.files = map[string][]byte{}
			for _, file := range c.files {
				h.files[file] = []byte(file)
			}
			opt := h.options()
			opt.All = c.all
			_, err := pull(h.env(), opt)
			if !c.refused {
				require.NoError(t, err)
				return
			}
			var weights *WeightsError
			require.ErrorAs(t, err, &weights)
			require.ErrorIs(t, err, ErrWeights)
			require.Contains(t, err.Error(), weights.Found[0])
			require.Contains(t, Hint(err), "convert")
		})
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

// A listing never makes the package panic or choose an unsafe name.
func FuzzListing(f *testing.F) {
	h := &testHub{files: map[string][]byte{"config.json": []byte("{}"), "model.safetensors": pattern(9, 9)}, commit: testCommit,
		lfs: map[string]bool{"model.safetensors": true}}
	f.Add(h.list(), true)
	f.Add([]byte(`{"sha":"`+testCommit+`","siblings":[{"rfilename":"../x","size":1}]}`), false)
	f.Add([]byte(`{"siblings":[null,{}]}`), true)
	f.Fuzz(func(t *testing.T, text []byte, all bool) {
		var answer repository
		if json.Unmarshal(text, &answer) != nil {
			return
		}
		chosen, err := answer.choose(Options{All: all})
		if err != nil {
			return
		}
		if !commitName.MatchString(chosen.commit) || len(chosen.files) == 0 {
			t.Fatalf("got commit %q and %d files", chosen.commit, len(chosen.files))
		}
		for _, file := range chosen.files {
			if checkFile(file.Name) != nil || !file.digest.valid() || file.Bytes < 0 {
				t.Fatalf("got %+v", file)
			}
		}
	})
}

func TestSizeString(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.00 kB", 9_994: "9.99 kB", 9_996: "10.0 kB", 99_949: "99.9 kB", 99_960: "100 kB", 999_499: "999 kB",
		999_500: "1.00 MB", 1_192_135_096: "1.19 GB", 61_083_000_000: "61.1 GB", 1 << 62: "4.61 EB",
	} {
		require.Equal(t, want, SizeString(bytes), bytes)
	}
}

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
