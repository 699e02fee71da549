package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A listing with a name that leaves the folder is refused as a whole, and nothing is written anywhere.
func TestEvilListings(t *testing.T) {
	for _, name := range []string{"../../../x.safetensors", "/etc/x.safetensors", `..\x.safetensors`, "x\x00.safetensors",
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
