package model

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
)

// object is a part of a config.json.
type object = map[string]any

// absent removes a key in edited.
type absent struct{}

// edited is a golden's config.json with keys replaced, added or removed.
func edited(t testing.TB, golden string, changes object) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/goldens", golden, "config.json"))
	require.NoError(t, err)
	var config object
	require.NoError(t, json.Unmarshal(data, &config))
	maps.Copy(config, changes)
	maps.DeleteFunc(config, func(_ string, v any) bool { return v == absent{} })
	data, err = json.Marshal(config)
	require.NoError(t, err)
	return data
}

func TestParseConfigGoldens(t *testing.T) {
	theta := func(x float64) Rope { return Rope{Type: RopeDefault, Theta: x} }
	dense := Config{Architecture: Qwen3, Layers: 2, Hidden: 64, Intermediate: 128, Heads: 4, KVHeads: 2, HeadDim: 128, Vocab: 320,
		MaxPositions: 2048, NormEps: 1e-6, TiedHead: true, QKNorm: true, Rope: theta(1e6), EOS: []int32{2}, BOS: 1}
	with := func(change func(c *Config)) Config { c := dense; change(&c); return c }
	for name, want := range map[string]Config{
		"qwen3-tied-gqa2":      dense,
		"qwen3-f16-file":       dense,
		"qwen3-f32-file":       dense,
		"qwen3-knorm-outliers": dense,
		"qwen3-mha-head64-theta1e4": with(func(c *Config) {
			c.Heads, c.HeadDim, c.Rope = 2, 64, theta(1e4)
		}),
		"qwen3-oddvocab-oddinter": with(func(c *Config) {
			c.Heads, c.KVHeads, c.Intermediate, c.Vocab = 6, 3, 104, 331
		}),
		"qwen3-untied-gqa8-sharded": with(func(c *Config) {
			c.Heads, c.HeadDim, c.TiedHead = 16, 64, false
		}),
		"qwen3-yarn": with(func(c *Config) {
			c.Rope = Rope{Type: RopeYaRN, Theta: 1e6, Factor: 4, OriginalPositions: 256, BetaFast: 32, BetaSlow: 1, Truncate: true}
		}),
		"qwen3-moe": with(func(c *Config) {
			c.Architecture, c.HeadDim, c.TiedHead = Qwen3MoE, 64, false
			c.MoE = MoE{Experts: 8, TopK: 2, Intermediate: 32, NormTopK: true}
		}),
		"qwen2-bias": with(func(c *Config) {
			c.Architecture, c.Hidden, c.HeadDim, c.QKVBias, c.QKNorm = Qwen2, 128, 32, true, false
		}),
		"llama-gqa4": with(func(c *Config) {
			c.Architecture, c.Hidden, c.Intermediate, c.Heads, c.HeadDim = Llama, 256, 192, 8, 32
			c.QKNorm, c.TiedHead, c.Rope = false, false, theta(5e5)
		}),
		"llama3-rope-scaling": with(func(c *Config) {
			c.Architecture, c.Hidden, c.HeadDim, c.QKNorm = Llama, 128, 32, false
			c.Rope = Rope{Type: RopeLlama3, Theta: 5e5, Factor: 8, OriginalPositions: 256, LowFreqFactor: 1, HighFreqFactor: 4}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			got, g, err := ParseConfig(edited(t, name, nil), []byte(`{"eos_token_id": 2}`))
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.Equal(t, []int32{2}, g.EOS)
		})
	}
}

func TestParseConfigAccepts(t *testing.T) {
	noRope := func(more object) object {
		o := object{"rope_parameters": absent{}}
		maps.Copy(o, more)
		return o
	}
	for _, tt := range []struct {
		name, golden string
		changes      object
		check        func(t *testing.T, c Config)
	}{
		{"old rope_theta", "qwen3-tied-gqa2", noRope(object{"rope_theta": 5e6}), func(t *testing.T, c Config) {
			require.Equal(t, Rope{Type: RopeDefault, Theta: 5e6}, c.Rope)
		}},
		{"no rope keys", "qwen3-tied-gqa2", noRope(nil), func(t *testing.T, c Config) {
			require.Equal(t, Rope{Type: RopeDefault, Theta: 1e4}, c.Rope)
		}},
		{"rope_scaling null", "qwen3-tied-gqa2", noRope(object{"rope_theta": 1e6, "rope_scaling": nil}), func(t *testing.T, c Config) {
			require.Equal(t, Rope{Type: RopeDefault, Theta: 1e6}, c.Rope)
		}},
		{"both spellings of theta", "qwen3-tied-gqa2", object{"rope_theta": 1e6}, func(t *testing.T, c Config) {
			require.Equal(t, 1e6, c.Rope.Theta)
		}},
		{"old linear by type", "llama-gqa4", noRope(object{"rope_theta": 1e4, "rope_scaling": object{"type": "linear", "factor": 4}}), func(t *testing.T, c Config) {
			require.Equal(t, Rope{Type: RopeLinear, Theta: 1e4, Factor: 4}, c.Rope)
			require.Equal(t, 2048, c.MaxPositions)
		}},
		{"old yarn, as makers advise for Qwen3", "qwen3-tied-gqa2", noRope(object{
			"rope_theta": 1e6, "max_position_embeddings": 40960,
			"rope_scaling": object{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
		}), func(t *testing.T, c Config) {
			require.Equal(t, Rope{Type: RopeYaRN, Theta: 1e6, Factor: 4, OriginalPositions: 32768, BetaFast: 32, BetaSlow: 1, Truncate: true}, c.Rope)
			require.Equal(t, 131072, c.MaxPositions)
		}},
		{"yarn with everything said", "qwen3-yarn", object{"rope_parameters": object{
			"rope_type": "yarn", "rope_theta": 1e6, "factor": 2, "original_max_position_embeddings": 1024.0, "beta_fast": 16,
			"beta_slow": 2, "attention_factor": 1.5, "mscale": 0.7, "mscale_all_dim": 0.9, "truncate": false,
		}}, func(t *testing.T, c Config) {
			require.Equal(t, Rope{Type: RopeYaRN, Theta: 1e6, Factor: 2, OriginalPositions: 1024, BetaFast: 16, BetaSlow: 2,
				AttentionFactor: 1.5, MScale: 0.7, MScaleAllDim: 0.9}, c.Rope)
		}},
		{"yarn without factor or original", "qwen3-yarn", object{"original_max_position_embeddings": 512, "rope_parameters": object{"rope_type": "yarn"}}, func(t *testing.T, c Config) {
			require.Equal(t, 512, c.Rope.OriginalPositions)
			require.Equal(t, 4.0, c.Rope.Factor)
		}},
		{"llama3 without original", "llama3-rope-scaling", object{"rope_parameters": object{
			"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
		}}, func(t *testing.T, c Config) {
			require.Equal(t, 2048, c.Rope.OriginalPositions)
		}},
		{"num_experts", "qwen3-moe", object{"num_experts": 8, "num_local_experts": absent{}}, func(t *testing.T, c Config) {
			require.Equal(t, 8, c.MoE.Experts)
		}},
		{"dense layers in a mixture", "qwen3-moe", object{"num_hidden_layers": 6, "mlp_only_layers": []int{1}, "decoder_sparse_step": 2, "norm_topk_prob": absent{}}, func(t *testing.T, c Config) {
			require.Equal(t, []int{0, 1, 2, 4}, c.MoE.DenseLayers)
			require.False(t, c.MoE.NormTopK)
		}},
		{"no dense MLP in a mixture", "qwen3-moe", object{"intermediate_size": absent{}}, func(t *testing.T, c Config) {
			require.Zero(t, c.Intermediate)
		}},
		{"Qwen3's head_dim absent", "qwen3-tied-gqa2", object{"head_dim": absent{}}, func(t *testing.T, c Config) {
			require.Equal(t, 128, c.HeadDim)
		}},
		{"mixture's head_dim absent", "qwen3-moe", object{"head_dim": nil}, func(t *testing.T, c Config) {
			require.Equal(t, 16, c.HeadDim)
		}},
		{"Llama without num_key_value_heads", "llama-gqa4", object{"num_key_value_heads": absent{}}, func(t *testing.T, c Config) {
			require.Equal(t, 8, c.KVHeads)
		}},
		{"architecture by model_type", "qwen2-bias", object{"architectures": absent{}}, func(t *testing.T, c Config) {
			require.Equal(t, Qwen2, c.Architecture)
		}},
		{"several EOS ids", "qwen3-tied-gqa2", object{"eos_token_id": []int{2, 0}}, func(t *testing.T, c Config) {
			require.Equal(t, []int32{2, 0}, c.EOS)
		}},
		{"no special ids", "qwen3-tied-gqa2", object{"eos_token_id": nil, "bos_token_id": absent{}}, func(t *testing.T, c Config) {
			require.Empty(t, c.EOS)
			require.EqualValues(t, -1, c.BOS)
		}},
		{"a window that is switched off", "qwen2-bias", object{"use_sliding_window": false, "sliding_window": 4096}, func(*testing.T, Config) {}},
		{"unknown keys", "qwen3-tied-gqa2", object{"future": object{"x": 1}}, func(*testing.T, Config) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _, err := ParseConfig(edited(t, tt.golden, tt.changes), nil)
			require.NoError(t, err)
			tt.check(t, c)
		})
	}
}

func TestParseConfigUnsupported(t *testing.T) {
	rope := func(kind string) object {
		return object{"rope_parameters": object{"rope_type": kind, "rope_theta": 1e6, "factor": 2}}
	}
	for _, tt := range []struct {
		name, golden string
		changes      object
		want         []string // all in the message
	}{
		{"architecture", "qwen3-tied-gqa2", object{"architectures": []string{"GPT2LMHeadModel"}}, []string{"config.json", `architecture "GPT2LMHeadModel"`, "supported: Qwen3ForCausalLM, Qwen3MoeForCausalLM, Qwen2ForCausalLM, LlamaForCausalLM"}},
		{"no architecture", "qwen3-tied-gqa2", object{"architectures": nil, "model_type": nil}, []string{"none named"}},
		{"model_type", "qwen3-tied-gqa2", object{"architectures": absent{}, "model_type": "mam\nba"}, []string{`"mam\nba"`}},
		{"dynamic rope", "qwen3-tied-gqa2", rope("dynamic"), []string{`rope type "dynamic"`, "default, linear, yarn, llama3"}},
		{"longrope", "qwen3-tied-gqa2", rope("longrope"), []string{`rope type "longrope"`}},
		{"mrope", "qwen3-tied-gqa2", rope("mrope"), []string{`rope type "mrope"`}},
		{"rope for each layer type", "qwen3-tied-gqa2", object{"rope_parameters": object{"full_attention": object{"rope_type": "default"}}}, []string{"one for each layer type"}},
		{"partial rotary", "qwen3-tied-gqa2", object{"partial_rotary_factor": 0.5}, []string{`partial_rotary_factor "0.5"`}},
		{"partial rotary in rope_parameters", "llama-gqa4", object{"rope_parameters": object{"partial_rotary_factor": 0.25}}, []string{`partial_rotary_factor "0.25"`}},
		{"sliding window", "qwen2-bias", object{"use_sliding_window": true, "sliding_window": 4096}, []string{"use_sliding_window"}},
		{"layer types", "qwen3-tied-gqa2", object{"layer_types": []string{"full_attention", "sliding_attention"}}, []string{`layer type "sliding_attention"`}},
		{"activation", "llama-gqa4", object{"hidden_act": "gelu"}, []string{`hidden_act "gelu"`, "silu"}},
		{"attention bias of Llama", "llama-gqa4", object{"attention_bias": true}, []string{`attention_bias "true"`}},
		{"attention bias of Qwen3", "qwen3-tied-gqa2", object{"attention_bias": true}, []string{`attention_bias "true"`}},
		{"MLP bias", "llama-gqa4", object{"mlp_bias": true}, []string{`mlp_bias "true"`}},
		{"quantization", "qwen3-tied-gqa2", object{"quantization_config": object{"quant_method": "FP8"}}, []string{`quantization "fp8"`, "BF16"}},
		{"dual chunk attention", "qwen2-bias", object{"dual_chunk_attention_config": object{}}, []string{"dual_chunk_attention_config"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := ParseConfig(edited(t, tt.golden, tt.changes), nil)
			require.ErrorIs(t, err, errors.ErrUnsupported)
			var typed *UnsupportedError
			require.ErrorAs(t, err, &typed)
			require.NotEmpty(t, typed.Hint())
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestParseConfigInvalid(t *testing.T) {
	rope := func(o object) object { return object{"rope_parameters": o} }
	for _, tt := range []struct {
		name, golden string
		changes      object
		want         []string
	}{
		{"all at once", "qwen3-tied-gqa2", object{"hidden_size": -3, "num_hidden_layers": 1.5, "vocab_size": "many", "rms_norm_eps": "x", "head_dim": absent{}, "max_position_embeddings": absent{}},
			[]string{"hidden_size is -3", "num_hidden_layers is 1.5", `vocab_size is "many"`, "rms_norm_eps", "max_position_embeddings is missing"}},
		{"heads and key heads", "qwen3-tied-gqa2", object{"num_key_value_heads": 3}, []string{"num_attention_heads 4 is not a multiple of num_key_value_heads 3"}},
		{"no key heads", "qwen3-tied-gqa2", object{"num_key_value_heads": 0}, []string{"num_key_value_heads is 0"}},
		{"odd head_dim", "qwen3-tied-gqa2", object{"head_dim": 12}, []string{"head_dim is 12, want a multiple of 8"}},
		{"large head_dim", "qwen3-tied-gqa2", object{"head_dim": 512}, []string{"head_dim is 512"}},
		{"derived head_dim too large", "qwen2-bias", object{"hidden_size": 8192, "num_attention_heads": 2}, []string{"head_dim is 4096"}},
		{"hidden size and heads", "qwen2-bias", object{"hidden_size": 130}, []string{"hidden_size 130 is not a multiple"}},
		{"more layers than any model", "qwen3-tied-gqa2", object{"num_hidden_layers": 1e9}, []string{"num_hidden_layers"}},
		{"number beyond int64", "qwen3-tied-gqa2", object{"hidden_size": 1e300}, []string{"hidden_size"}},
		{"EOS outside the vocabulary", "qwen3-tied-gqa2", object{"eos_token_id": []int{2, 320}}, []string{"eos_token_id 320 is outside the vocabulary of 320"}},
		{"EOS outside a vocabulary of one", "qwen3-tied-gqa2", object{"vocab_size": 1, "bos_token_id": 0}, []string{"eos_token_id 2 is outside the vocabulary of 1"}},
		{"negative BOS", "qwen3-tied-gqa2", object{"bos_token_id": -1}, []string{"bos_token_id"}},
		{"flag that is a string", "qwen3-tied-gqa2", object{"tie_word_embeddings": "yes"}, []string{"tie_word_embeddings"}},
		{"architectures that are numbers", "qwen3-tied-gqa2", object{"hidden_act": 3}, []string{"hidden_act is 3"}},
		{"no experts", "qwen3-moe", object{"num_local_experts": absent{}}, []string{"num_local_experts is missing"}},
		{"two counts of experts", "qwen3-moe", object{"num_experts": 16}, []string{"num_experts is 16 but num_local_experts is 8"}},
		{"more chosen than there are", "qwen3-moe", object{"num_experts_per_tok": 9}, []string{"num_experts_per_tok 9 is more than the 8"}},
		{"sparse step 0", "qwen3-moe", object{"decoder_sparse_step": 0}, []string{"decoder_sparse_step is 0"}},
		{"dense layer without intermediate_size", "qwen3-moe", object{"mlp_only_layers": []int{0}, "intermediate_size": nil}, []string{"intermediate_size is missing"}},
		{"two thetas", "qwen3-tied-gqa2", object{"rope_theta": 5e5}, []string{"rope_theta is 500000 but rope_parameters.rope_theta is 1e+06"}},
		{"theta 0", "qwen3-tied-gqa2", rope(object{"rope_theta": 0}), []string{"rope_parameters.rope_theta is 0"}},
		{"rope that is a list", "qwen3-tied-gqa2", object{"rope_parameters": []int{1}}, []string{"rope_parameters is [1], want an object"}},
		{"linear without factor", "llama-gqa4", rope(object{"rope_type": "linear"}), []string{"rope_parameters.factor is missing"}},
		{"yarn factor below 1", "qwen3-yarn", rope(object{"rope_type": "yarn", "factor": 0.5}), []string{"rope_parameters.factor is 0.5"}},
		{"yarn betas swapped", "qwen3-yarn", rope(object{"rope_type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 32}), []string{"beta_fast 1 is less than beta_slow 32"}},
		{"llama3 frequencies swapped", "llama3-rope-scaling", rope(object{"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}), []string{"high_freq_factor 4 is not more than low_freq_factor 4"}},
		{"llama3 without factors", "llama3-rope-scaling", rope(object{"rope_type": "llama3"}), []string{"factor is missing", "low_freq_factor is missing", "high_freq_factor is missing"}},
		{"invalid and unsupported", "qwen3-tied-gqa2", object{"hidden_size": 0, "hidden_act": "gelu"}, []string{"hidden_size is 0", `hidden_act "gelu" is not supported`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := ParseConfig(edited(t, tt.golden, tt.changes), nil)
			var typed *InvalidError
			require.ErrorAs(t, err, &typed)
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
			require.Len(t, typed.Problems, len(tt.want), "problems that follow from others: %v", err)
			require.NotContains(t, err.Error(), "\n")
		})
	}
	for name, data := range map[string]string{"empty": "", "list": "[]", "null": "null", "cut": `{"hidden_size": 3`, "NaN": `{"x": NaN}`, "deep": strings.Repeat("[", 20_000)} {
		t.Run(name, func(t *testing.T) {
			_, _, err := ParseConfig([]byte(data), nil)
			require.Error(t, err)
		})
	}
}

func TestParseGeneration(t *testing.T) {
	config := edited(t, "qwen3-tied-gqa2", nil)
	c, g, err := ParseConfig(config, []byte(`{"eos_token_id": [5, 2], "temperature": 0.6, "top_p": 0.95, "top_k": 20, "do_sample": true}`))
	require.NoError(t, err)
	require.Equal(t, []int32{5, 2}, c.EOS)
	require.Equal(t, Generation{EOS: []int32{5, 2}, Temperature: new(0.6), TopP: new(0.95), TopK: new(20), DoSample: new(true)}, g)

	c, g, err = ParseConfig(config, []byte(`{"temperature": null}`))
	require.NoError(t, err)
	require.Equal(t, []int32{2}, c.EOS, "config.json's ids where generation_config.json has none")
	require.Equal(t, Generation{}, g)

	_, _, err = ParseConfig(config, []byte(`{"eos_token_id": 400, "temperature": -1, "top_p": 2, "top_k": 1.5, "do_sample": 1}`))
	var typed *InvalidError
	require.ErrorAs(t, err, &typed)
	require.Equal(t, "generation_config.json", typed.File)
	require.Len(t, typed.Problems, 5)
}

func TestKVBytesPerToken(t *testing.T) {
	c := Config{Layers: 28, KVHeads: 8, HeadDim: 128}
	require.Equal(t, 114_688, c.KVBytesPerToken(kernels.KVBF16))
	require.Equal(t, 28*2*8*(128+4), c.KVBytesPerToken(kernels.KVFP8))
}

func FuzzConfig(f *testing.F) {
	for _, dir := range goldens(f) {
		config, err := os.ReadFile(filepath.Join(dir, "config.json"))
		require.NoError(f, err)
		generation, err := os.ReadFile(filepath.Join(dir, "generation_config.json"))
		require.NoError(f, err)
		f.Add(config, generation)
	}
	f.Add([]byte(`{"architectures":["Qwen3ForCausalLM"],"hidden_size":1e400}`), []byte(`[]`))
	f.Fuzz(func(t *testing.T, config, generation []byte) {
		c, _, err := ParseConfig(config, generation)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.Zero(t, c.Heads%c.KVHeads)
		require.Zero(t, c.HeadDim%8)
		require.LessOrEqual(t, c.MoE.TopK, c.MoE.Experts)
		require.Positive(t, c.KVBytesPerToken(kernels.KVI8))
		require.GreaterOrEqual(t, c.Rope.Theta, 1.0)
		for _, id := range c.EOS {
			require.Less(t, int(id), c.Vocab)
		}
	})
}
