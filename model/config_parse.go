package model

import (
	"math"
	"slices"
	"strings"
)

// Limits of what a configuration may say. They are far above any model and keep every product within an int64.
const (
	maxLayers       = 1 << 10
	maxHidden       = 1 << 17
	maxIntermediate = 1 << 20
	maxHeads        = 1 << 12
	maxHeadDim      = 256 // the attention kernels' limit
	maxVocab        = 1 << 24
	maxPositions    = 1 << 30
	maxExperts      = 1 << 10
)

// supported lists the architectures in the order in which messages name them.
var supported = []string{string(Qwen3), string(Qwen3MoE), string(Qwen2), string(Llama)}

// ParseConfig reads config.json and generation_config.json (nil if there is none). It takes the keys of transformers 4
// and of transformers 5. What is not built fails with an UnsupportedError, what is out of range or contradictory with an
// InvalidError that names every bad field.
func ParseConfig(configJSON, generationJSON []byte) (Config, Generation, error) {
	return parseConfig("config.json", configJSON, "generation_config.json", generationJSON)
}

func parseConfig(configFile string, configJSON []byte, generationFile string, generationJSON []byte) (Config, Generation, error) {
	var problems []error
	f := readFields(configJSON, &problems)
	if len(problems) > 0 {
		return Config{}, Generation{}, &InvalidError{File: configFile, Problems: problems}
	}
	arch, err := architecture(configFile, f)
	if err != nil {
		return Config{}, Generation{}, err
	}
	r := configReader{fields: f, file: configFile, arch: arch}
	c := r.config()
	if err := r.err(); err != nil {
		return Config{}, Generation{}, err
	}
	g, err := parseGeneration(generationFile, generationJSON, c.Vocab)
	if err != nil {
		return Config{}, Generation{}, err
	}
	if g.EOS != nil {
		c.EOS = g.EOS
	}
	return c, g, nil
}

// architecture is the decoder family that a config names in "architectures" or, where that is absent, in "model_type".
func architecture(file string, f fields) (Architecture, error) {
	found := f.textOr("model_type", "")
	byType := map[string]Architecture{"qwen3": Qwen3, "qwen3_moe": Qwen3MoE, "qwen2": Qwen2, "llama": Llama}
	if arch, ok := byType[found]; ok && !f.has("architectures") {
		return arch, nil
	}
	if names := f.texts("architectures"); len(names) > 0 {
		if slices.Contains(supported, names[0]) {
			return Architecture(names[0]), nil
		}
		found = names[0]
	}
	if found == "" {
		found = "(none named)"
	}
	return "", &UnsupportedError{File: file, What: "architecture", Found: found, Supported: supported}
}

// configReader turns the keys of config.json into a Config.
type configReader struct {
	fields
	file string
	arch Architecture
}

func (r configReader) err() error {
	problems := *r.problems
	if len(problems) == 0 {
		return nil
	}
	if only, ok := problems[0].(*UnsupportedError); ok && len(problems) == 1 {
		return only
	}
	return &InvalidError{File: r.file, Problems: problems, Advice: "correct the named fields, or take the file that the model's makers published"}
}

func (r configReader) unsupported(what, found string, supported ...string) {
	*r.problems = append(*r.problems, &UnsupportedError{File: r.file, What: what, Found: found, Supported: supported})
}

func (r configReader) config() Config {
	c := Config{
		Architecture: r.arch,
		Layers:       r.integer("num_hidden_layers", 1, maxLayers),
		Hidden:       r.integer("hidden_size", 1, maxHidden),
		Vocab:        r.integer("vocab_size", 1, maxVocab),
		MaxPositions: r.integer("max_position_embeddings", 1, maxPositions),
		NormEps:      float32(r.floatOr("rms_norm_eps", 1e-6, 1e-30, 1)),
		TiedHead:     r.boolOr("tie_word_embeddings", false),
		QKVBias:      r.arch == Qwen2,
		QKNorm:       r.arch == Qwen3 || r.arch == Qwen3MoE,
		BOS:          -1,
	}
	r.heads(&c)
	if r.arch == Qwen3MoE {
		c.MoE = r.moe(c.Layers)
	}
	if c.MoE.Experts == 0 || len(c.MoE.DenseLayers) > 0 || r.has("intermediate_size") {
		c.Intermediate = r.integer("intermediate_size", 1, maxIntermediate)
	}
	c.Rope = r.rope(&c)
	vocab := c.Vocab
	if n, ok := asInteger(r.keys["vocab_size"]); !ok || n != vocab {
		vocab = maxVocab // vocab_size itself is bad, and that is reported already
	}
	c.EOS = r.tokens("eos_token_id", vocab)
	if ids := r.tokens("bos_token_id", vocab); len(ids) > 0 {
		c.BOS = ids[0]
	}
	r.checkSizes(c)
	r.refuseUnsupported()
	return c
}

func (r configReader) heads(c *Config) {
	c.Heads = r.integer("num_attention_heads", 1, maxHeads)
	if r.arch == Llama {
		c.KVHeads = r.integerOr("num_key_value_heads", c.Heads, 1, maxHeads)
	} else {
		c.KVHeads = r.integer("num_key_value_heads", 1, maxHeads)
	}
	if c.Heads%c.KVHeads != 0 {
		r.problem("num_attention_heads %d is not a multiple of num_key_value_heads %d", c.Heads, c.KVHeads)
	}
	switch {
	case r.has("head_dim"):
		c.HeadDim = r.integer("head_dim", 8, maxHeadDim)
	case r.arch == Qwen3: // its configurations default to 128, whatever the hidden size
		c.HeadDim = 128
	case c.Hidden%c.Heads != 0:
		r.problem("hidden_size %d is not a multiple of num_attention_heads %d and there is no head_dim", c.Hidden, c.Heads)
		return
	default:
		c.HeadDim = c.Hidden / c.Heads
	}
	if c.HeadDim < 8 || c.HeadDim > maxHeadDim || c.HeadDim%8 != 0 {
		r.problem("head_dim is %d, want a multiple of 8 up to %d", c.HeadDim, maxHeadDim)
	}
}

// moe reads the mixture of experts. Layer l is sparse if it is not in mlp_only_layers and decoder_sparse_step divides l+1.
func (r configReader) moe(layers int) MoE {
	experts := "num_experts"
	if !r.has(experts) {
		experts = "num_local_experts"
	}
	m := MoE{
		Experts:      r.integer(experts, 1, maxExperts),
		TopK:         r.integer("num_experts_per_tok", 1, maxExperts),
		Intermediate: r.integer("moe_intermediate_size", 1, maxIntermediate),
		NormTopK:     r.boolOr("norm_topk_prob", false),
	}
	if other := r.integerOr("num_local_experts", m.Experts, 1, maxExperts); other != m.Experts {
		r.problem("num_experts is %d but num_local_experts is %d", m.Experts, other)
	}
	if m.TopK > m.Experts && r.has(experts) {
		r.problem("num_experts_per_tok %d is more than the %d experts", m.TopK, m.Experts)
	}
	step := r.integerOr("decoder_sparse_step", 1, 1, maxLayers)
	dense := r.integers("mlp_only_layers", 0, maxLayers-1)
	for l := range layers {
		if slices.Contains(dense, l) || (l+1)%step != 0 {
			m.DenseLayers = append(m.DenseLayers, l)
		}
	}
	return m
}

// checkSizes reports tensors whose bytes this machine's int cannot count. The limits above see to it on 64-bit machines.
func (r configReader) checkSizes(c Config) {
	largest := max(c.Vocab, c.Intermediate, c.MoE.Intermediate, c.Heads*c.HeadDim)
	if bytes := uint64(largest) * uint64(c.Hidden) * 4; bytes > math.MaxInt {
		r.problem("a tensor of %d bytes is too large for this machine", bytes)
	}
}

// refuseUnsupported names every key that asks for something which the forward pass does not do. To ignore one would give
// fluent nonsense.
func (r configReader) refuseUnsupported() {
	if act := r.textOr("hidden_act", "silu"); act != "silu" && act != "swish" {
		r.unsupported("hidden_act", act, "silu")
	}
	if r.boolOr("use_sliding_window", false) && r.has("sliding_window") {
		r.unsupported("attention", "sliding window (use_sliding_window)", "full attention")
	}
	for _, kind := range r.texts("layer_types") {
		if kind != "full_attention" {
			r.unsupported("layer type", kind, "full_attention")
			break
		}
	}
	if r.boolOr("attention_bias", false) && r.arch != Qwen2 { // here it means a bias on o_proj too
		r.unsupported("attention_bias", "true", "false; Qwen2's biases of q, k and v")
	}
	if r.boolOr("mlp_bias", false) {
		r.unsupported("mlp_bias", "true", "false")
	}
	if r.has("quantization_config") {
		method := r.object("quantization_config").textOr("quant_method", "unnamed")
		r.unsupported("quantization", strings.ToLower(method), "BF16, F16 and F32 weights")
	}
	if r.has("dual_chunk_attention_config") {
		r.unsupported("attention", "dual_chunk_attention_config", "full attention")
	}
}
