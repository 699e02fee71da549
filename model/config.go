// Package model is the decoder: its configuration, its weights and its forward pass, one file per architecture.
package model

import "github.com/quire-llm/quire/kernels"

// Architecture names a decoder family by its config.json name.
type Architecture string

// The supported architectures.
const (
	Qwen3    Architecture = "Qwen3ForCausalLM"
	Qwen3MoE Architecture = "Qwen3MoeForCausalLM"
	Qwen2    Architecture = "Qwen2ForCausalLM"
	Llama    Architecture = "LlamaForCausalLM"
)

// Config is the shape of a decoder, read from config.json and checked.
type Config struct {
	Architecture Architecture
	Layers       int
	Hidden       int
	Intermediate int // of the dense MLP
	Heads        int // query heads
	KVHeads      int
	HeadDim      int
	Vocab        int
	MaxPositions int     // longest context the model was made for
	NormEps      float32 // of every RMSNorm
	TiedHead     bool    // the head is the embedding table
	QKVBias      bool
	QKNorm       bool // RMSNorm of each query and key head before RoPE
	Rope         Rope
	MoE          MoE     // zero value: dense
	EOS          []int32 // ids that end a text, from generation_config.json or config.json
	BOS          int32   // -1: none
}

// MoE is the shape of a mixture-of-experts MLP. Experts 0 means dense.
type MoE struct {
	Experts      int
	TopK         int
	Intermediate int
	NormTopK     bool
	DenseLayers  []int // layers with a dense MLP (mlp_only_layers and decoder_sparse_step)
}

// RopeType is how rotary angles are scaled.
type RopeType string

// The supported kinds of rotary embedding. Their angles do not depend on the length of the text.
const (
	RopeDefault RopeType = "default"
	RopeLinear  RopeType = "linear"
	RopeYaRN    RopeType = "yarn"
	RopeLlama3  RopeType = "llama3"
)

// Rope is the rotary position embedding of a config, old keys and new.
type Rope struct {
	Type              RopeType
	Theta             float64
	Factor            float64 // linear, yarn, llama3
	OriginalPositions int     // yarn, llama3: positions before scaling
	LowFreqFactor     float64 // llama3
	HighFreqFactor    float64 // llama3
	BetaFast          float64 // yarn, 32 if absent
	BetaSlow          float64 // yarn, 1 if absent
	AttentionFactor   float64 // yarn; 0: derived from Factor, MScale and MScaleAllDim
	MScale            float64
	MScaleAllDim      float64
	Truncate          bool // yarn: round the correction range outwards; true if absent
	// BF16Frequencies rounds the frequencies to bfloat16, as a PyTorch model that was cast as a whole has them. No config
	// says so and no real model wants it: it is for comparing with such a reference.
	BF16Frequencies bool
}

// KVBytesPerToken is the key and value bytes of one token in all layers: 2·Layers·KVHeads·t.RowBytes(HeadDim).
// For Qwen3-0.6B in bfloat16: 2 × 28 × 8 × 256 = 114,688.
func (c Config) KVBytesPerToken(t kernels.KVType) int {
	return 2 * c.Layers * c.KVHeads * t.RowBytes(c.HeadDim)
}
