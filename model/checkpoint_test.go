package model

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func write(t testing.TB, dir, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
}

// editIndex rewrites the weight_map of a sharded model.
func editIndex(t *testing.T, dir string, edit func(weightMap map[string]string)) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, indexFile))
	require.NoError(t, err)
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	require.NoError(t, json.Unmarshal(data, &index))
	edit(index.WeightMap)
	data, err = json.Marshal(index)
	require.NoError(t, err)
	write(t, dir, indexFile, string(data))
}

func TestOpenDirRefuses(t *testing.T) {
	const shard3 = "model-00003-of-00007.safetensors"
	remap := func(shard string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			editIndex(t, dir, func(m map[string]string) { m["model.norm.weight"] = shard })
		}
	}
	for _, tt := range []struct {
		name, golden string
		damage       func(t *testing.T, dir string)
		want, hint   string
	}{
		{"config.json missing", "qwen3-tied-gqa2", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "config.json")) }, "no config.json", "config.json"},
		{"config.json empty", "qwen3-tied-gqa2", func(t *testing.T, dir string) { write(t, dir, "config.json", "") }, "not a JSON object", ""},
		{"config.json is a pointer", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			write(t, dir, "config.json", "version https://git-lfs.github.com/spec/v1\n")
		}, "git-lfs pointer", "git lfs pull"},
		{"generation_config.json damaged", "qwen3-tied-gqa2", func(t *testing.T, dir string) { write(t, dir, "generation_config.json", "{") }, "generation_config.json", ""},
		{"weights missing", "qwen3-tied-gqa2", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, singleFile)) }, "no weights", "download"},
		{"weights empty", "qwen3-tied-gqa2", func(t *testing.T, dir string) { write(t, dir, singleFile, "") }, "too few", "download the file again"},
		{"weights are a pointer", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			write(t, dir, singleFile, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
		}, "git-lfs pointer", "git lfs pull"},
		{"weights cut short", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, singleFile), 100_000))
		}, "truncated", "download the file again"},
		{"weights are a directory", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, singleFile))
			require.NoError(t, os.Mkdir(filepath.Join(dir, singleFile), 0o755))
		}, "not a regular file", ""},
		{"shard without its index", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(filepath.Join(dir, singleFile), filepath.Join(dir, "model-00001-of-00001.safetensors")))
		}, `only "model-00001-of-00001.safetensors"`, "model.safetensors.index.json"},
		{"pickle", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(filepath.Join(dir, singleFile), filepath.Join(dir, "pytorch_model.bin")))
		}, `"PyTorch pickle" is not supported (supported: safetensors)`, "save_pretrained"},
		{"GGUF without a config", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, "config.json"))
			require.NoError(t, os.Rename(filepath.Join(dir, singleFile), filepath.Join(dir, "q4.gguf")))
		}, `"GGUF" is not supported`, "safetensors"},

		{"shard missing", "qwen3-untied-gqa8-sharded", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, shard3)) }, "1 of its 7 files missing from the directory: \"" + shard3, "missing files"},
		{"shard cut short", "qwen3-untied-gqa8-sharded", func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, shard3), 5000))
		}, shard3, "download the file again"},
		{"tensor in another shard than said", "qwen3-untied-gqa8-sharded", remap(shard3), `tensor "model.norm.weight" is not in it`, ""},
		{"shard in the parent directory", "qwen3-untied-gqa8-sharded", remap("../" + shard3), "not the plain name", ""},
		{"shard by absolute path", "qwen3-untied-gqa8-sharded", remap("/etc/passwd.safetensors"), "not the plain name", ""},
		{"shard by Windows path", "qwen3-untied-gqa8-sharded", remap(`..\x.safetensors`), "not the plain name", ""},
		{"shard that is the directory", "qwen3-untied-gqa8-sharded", remap(".."), "not the plain name", ""},
		{"shard that is a pickle", "qwen3-untied-gqa8-sharded", remap("pytorch_model.bin"), "not the plain name", ""},
		{"index that forgets a tensor", "qwen3-untied-gqa8-sharded", func(t *testing.T, dir string) {
			editIndex(t, dir, func(m map[string]string) { delete(m, "model.norm.weight") })
		}, "missing: model.norm.weight", "same model"},
		{"index without weight_map", "qwen3-untied-gqa8-sharded", func(t *testing.T, dir string) { write(t, dir, indexFile, `{"metadata":{"total_size":1}}`) }, "weight_map is missing", ""},
		{"index with a tensor twice", "qwen3-untied-gqa8-sharded", func(t *testing.T, dir string) {
			write(t, dir, indexFile, `{"weight_map":{"a":"`+shard3+`","a":"`+shard3+`"}}`)
		}, `"a" comes twice`, ""},
		{"index with a number", "qwen3-untied-gqa8-sharded", func(t *testing.T, dir string) { write(t, dir, indexFile, `{"weight_map":{"a":3}}`) }, "want a string", ""},
		{"index not JSON", "qwen3-untied-gqa8-sharded", func(t *testing.T, dir string) { write(t, dir, indexFile, `{`) }, "not valid JSON", ""},

		{"shapes contradict the config", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			write(t, dir, "config.json", string(edited(t, "qwen3-tied-gqa2", object{"intermediate_size": 136, "vocab_size": 321})))
		}, `tensor "model.embed_tokens.weight" has shape [320 64], config.json wants [321 64], tensor "model.layers.0.mlp.gate_proj.weight" has shape [128 64], config.json wants [136 64]`, "same model"},
		{"more layers in the config", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			write(t, dir, "config.json", string(edited(t, "qwen3-tied-gqa2", object{"num_hidden_layers": 1024})))
		}, "missing: model.layers.2.input_layernorm.weight, ", "same model"},
		{"a head that is not there", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			write(t, dir, "config.json", string(edited(t, "qwen3-tied-gqa2", object{"tie_word_embeddings": false})))
		}, "missing: lm_head.weight", "same model"},
		{"biases that the config does not know", "qwen2-bias", func(t *testing.T, dir string) {
			write(t, dir, "config.json", string(edited(t, "qwen2-bias", object{"architectures": []string{"LlamaForCausalLM"}})))
		}, `does not account for: "model.layers.0.self_attn.k_proj.bias"`, "same model"},
		{"norms that the config wants", "qwen2-bias", func(t *testing.T, dir string) {
			write(t, dir, "config.json", string(edited(t, "qwen2-bias", object{"architectures": []string{"Qwen3ForCausalLM"}, "head_dim": 32})))
		}, "missing: model.layers.0.self_attn.q_norm.weight", "same model"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := writeModel(t, tt.golden)
			tt.damage(t, dir)
			_, err := OpenDir(dir)
			require.ErrorContains(t, err, tt.want)
			require.ErrorContains(t, err, dir)
			require.NotContains(t, err.Error(), "\n")
			if hinted := (interface{ Hint() string })(nil); tt.hint != "" {
				require.True(t, errors.As(err, &hinted))
				require.Contains(t, hinted.Hint(), tt.hint)
			}
		})
	}
	t.Run("a file", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, "x.gguf", "GGUF")
		_, err := OpenDir(filepath.Join(dir, "x.gguf"))
		require.ErrorIs(t, err, errors.ErrUnsupported)
		write(t, dir, "x.safetensors", "")
		_, err = OpenDir(filepath.Join(dir, "x.safetensors"))
		require.ErrorContains(t, err, "want the model's directory")
	})
}

func TestOpenDirIgnores(t *testing.T) {
	dir := writeModel(t, "qwen3-tied-gqa2")
	file, err := os.ReadFile(filepath.Join(dir, singleFile))
	require.NoError(t, err)
	tensors, err := parseSafetensors(file)
	require.NoError(t, err)
	four := make([]byte, 4)
	tensors = append(tensors,
		Tensor{Name: "lm_head.weight", DType: F32, Shape: []int{1}, Data: four},
		Tensor{Name: "model.layers.1.self_attn.rotary_emb.inv_freq", DType: F32, Shape: []int{1}, Data: four},
		Tensor{Name: "model.layers.9.mlp.up_proj.weight", DType: "U8", Shape: []int{4}, Data: four}, // of a layer that the config cuts off
		Tensor{Name: "model.rotary_emb.inv_freq", DType: "F64", Shape: []int{0}})
	before, err := OpenDir(dir)
	require.NoError(t, err)
	defer before.Close()
	out, err := os.Create(filepath.Join(dir, "new"))
	require.NoError(t, err)
	require.NoError(t, WriteSafetensors(out, tensors))
	require.NoError(t, out.Close())
	require.NoError(t, os.Rename(out.Name(), filepath.Join(dir, singleFile)))
	write(t, dir, "pytorch_model.bin", "a pickle beside safetensors does no harm")
	c, err := OpenDir(dir)
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, before.Parameters(), c.Parameters(), "tensors that the model does not use count")
	require.NotEqual(t, before.Revision, c.Revision)
}

func TestWeightRefuses(t *testing.T) {
	c := NewCheckpoint("toy", Config{}, map[string]Tensor{
		"a": {Name: "a", DType: BF16, Shape: []int{2}, Data: make([]byte, 4)},
		"b": {Name: "b", DType: "I8", Shape: []int{2}, Data: make([]byte, 2)},
	}, fstest.MapFS{})
	defer c.Close()
	_, err := c.Weight("a", 2, 1)
	require.EqualError(t, err, `model: reading toy: tensor "a" has shape [2], config.json wants [2 1]`)
	_, err = c.Weight("missing", 2)
	require.ErrorContains(t, err, `tensor "missing" is missing`)
	_, err = c.Weight("b", 2)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	b, err := c.Tensor("b")
	require.NoError(t, err)
	require.EqualValues(t, "I8", b.DType)
}

func TestCheckShapesDType(t *testing.T) {
	full, err := OpenDir("testdata/goldens/qwen3-tied-gqa2")
	require.NoError(t, err)
	defer full.Close()
	tensors := maps.Clone(full.tensors)
	norm := tensors["model.norm.weight"]
	norm.DType = "F64"
	tensors["model.norm.weight"] = norm
	err = NewCheckpoint("toy", full.Config, tensors, nil).CheckShapes()
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "F64")

	delete(tensors, "model.embed_tokens.weight")
	err = NewCheckpoint("toy", full.Config, tensors, nil).CheckShapes()
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "missing: model.embed_tokens.weight")
}

func TestRevision(t *testing.T) {
	revision := func(change func(c *Config, t map[string]Tensor)) [32]byte {
		config, tensors := Config{Hidden: 8}, map[string]Tensor{"a": {Name: "a", DType: BF16, Shape: []int{100}, Data: make([]byte, 200)}}
		change(&config, tensors)
		return NewCheckpoint("toy", config, tensors, nil).Revision
	}
	replace := func(edit func(x *Tensor)) func(*Config, map[string]Tensor) {
		return func(_ *Config, all map[string]Tensor) {
			x := all["a"]
			edit(&x)
			all["a"] = x
		}
	}
	seen := map[[32]byte]string{}
	for name, change := range map[string]func(*Config, map[string]Tensor){
		"as it is": func(*Config, map[string]Tensor) {},
		"config":   func(c *Config, _ map[string]Tensor) { c.Rope.Theta = 2 },
		"shape":    replace(func(x *Tensor) { x.Shape = []int{10, 10} }),
		"dtype":    replace(func(x *Tensor) { x.DType = F16 }),
		"contents": replace(func(x *Tensor) { x.Data[100] = 1 }),
		"another":  func(_ *Config, all map[string]Tensor) { all["b"] = all["a"] },
	} {
		r := revision(change)
		require.Empty(t, seen[r], "%s: same revision", name)
		require.Equal(t, r, revision(change), "%s: not the same twice", name)
		seen[r] = name
	}
}

func TestCheckFinite(t *testing.T) {
	c, err := OpenDir("testdata/goldens/qwen3-tied-gqa2")
	require.NoError(t, err)
	defer c.Close()
	const bad = "model.layers.1.mlp.up_proj.weight"
	x := c.tensors[bad]
	x.Data = slices.Clone(x.Data)
	binary.LittleEndian.PutUint16(x.Data[10:], 0x7fc0)
	binary.LittleEndian.PutUint16(x.Data[len(x.Data)-2:], 0xff80)
	c.tensors[bad] = x
	var done, total int64
	got, err := c.CheckFinite(func(d, n int64) {
		require.Greater(t, d, done)
		done, total = d, n
	})
	require.NoError(t, err)
	require.Equal(t, []NonFinite{{Tensor: bad, NaN: 1, Inf: 1, Values: 128 * 64}}, got)
	require.Equal(t, total, done)
	require.Equal(t, c.WeightBytes(), total)
}

// TestGenerated: tensors are made when they are asked for, once, also by many goroutines.
func TestGenerated(t *testing.T) {
	config, _, err := ParseConfig(edited(t, "qwen3-moe", nil), nil)
	require.NoError(t, err)
	var calls []string // the checkpoint runs one call at a time
	c := NewGenerated("made", config, func(name string, dst []byte) {
		calls = append(calls, name)
		copy(dst, strings.Repeat(name, len(dst)/len(name)+1))
	}, nil)
	require.True(t, c.Synthetic)
	require.NoError(t, c.CheckShapes())
	require.EqualValues(t, 2*c.Parameters(), c.WeightBytes())
	require.Empty(t, calls, "made before asked for")

	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for name, shape := range config.Weights() {
				w, err := c.Weight(name, shape...)
				if err != nil || len(w.Data) != 2*elements(shape) || !strings.HasPrefix(string(w.Data), name[:10]) {
					t.Errorf("%s: got %d bytes, %v", name, len(w.Data), err)
				}
			}
		})
	}
	wg.Wait()
	require.Len(t, calls, len(c.Names()))
	other := NewGenerated("made otherwise", config, nil, nil)
	require.NotEqual(t, c.Revision, other.Revision)
	require.NoError(t, c.Close())
	require.NoError(t, other.Close())
}

func TestWeights(t *testing.T) {
	for _, dir := range goldens(t) {
		c, err := OpenDir(dir)
		require.NoError(t, err)
		var names []string
		for name := range c.Config.Weights() {
			names = append(names, name)
		}
		slices.Sort(names)
		require.Equal(t, c.Names(), names, dir)
		require.NoError(t, c.Close())

		for n := range 3 { // an early break stops the iteration
			seen := 0
			for range c.Config.Weights() {
				if seen++; seen > n {
					break
				}
			}
			require.Equal(t, n+1, seen)
		}
	}
}

func ExampleInvalidError() {
	_, err := OpenDir("testdata/evals")
	fmt.Println(err)
	// Output: model: reading testdata/evals: no config.json in the directory
}
