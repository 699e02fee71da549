package cli

import (
	"github.com/spf13/pflag"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/model"
	"github.com/quire-llm/quire/model/synthetic"
	"github.com/quire-llm/quire/model/tiny"
)

// Providers serve the models that are not directories, in every program of the project.
func Providers() []model.Provider {
	return []model.Provider{tiny.Provider{}, synthetic.Provider{}}
}

// EngineFlags are the flags that say how an engine runs a model. Every program that opens one registers the groups that
// it needs.
type EngineFlags struct {
	Model string

	Device    string
	GPUMemory float64
	Threads   int
	KernelSet string

	Weights      string
	WeightsCache string

	Cache       StrategyFlags
	Attention   string
	KV          string
	BlockTokens int
	CacheTokens int
	Context     int
}

// RegisterModel adds --model and -m.
func (f *EngineFlags) RegisterModel(flags *pflag.FlagSet) {
	flags.StringVarP(&f.Model, "model", "m", "",
		"`name` of a model: a directory, owner/name in the Hugging Face cache, tiny, or synthetic:qwen3-0.6b\n(default: ~/huggingface/Qwen3-0.6B, else Qwen/Qwen3-0.6B in the cache, else tiny)")
}

// RegisterDevice adds the flags of the device.
func (f *EngineFlags) RegisterDevice(flags *pflag.FlagSet) {
	flags.StringVar(&f.Device, "device", "", "`device` to run on: cpu or cuda (default: cuda where a GPU can be used)")
	flags.Float64Var(&f.GPUMemory, "gpu-memory", 0, "`share` of the GPU's free memory to take, with a KV cache as large as that allows (default: 0.9 at most, and a cache by the context)")
	flags.IntVar(&f.Threads, "threads", 0, "CPU worker threads (default: one for each core)")
	flags.StringVar(&f.KernelSet, "kernel-set", "", "CPU kernels: avx512bf16, avx512, avx2, portable or go; GPU kernels: \"cuda sm_90a\" or \"cuda ptx\" (default: the best that the device runs)")
	flags.StringVar(&f.Weights, "weights", kernels.BF16.String(), "format of the weights that products read: bf16, or int8, made while the model is loaded")
	flags.StringVar(&f.WeightsCache, "weights-cache", "", "`directory` where int8 weights are kept for the next time (default: they are made every time)")
}

// RegisterCache adds the flags of the KV cache, but for the strategy.
func (f *EngineFlags) RegisterCache(flags *pflag.FlagSet) {
	flags.StringVar(&f.KV, "kv", kernels.KVBF16.String(), "element `type` of the KV cache: bf16, f32, int8 (CPU) or fp8 (CUDA)")
	flags.IntVar(&f.BlockTokens, "block-tokens", 0, "tokens in a block of the KV cache: 16, 32 or 64 (default 16)")
	flags.IntVar(&f.CacheTokens, "cache-tokens", 0, "capacity of the KV cache in tokens (default: by the context and by memory)")
}

// registerAttention adds --attention.
func (f *EngineFlags) registerAttention(flags *pflag.FlagSet) {
	flags.StringVar(&f.Attention, "attention", attention.Auto.String(),
		"how tokens that sequences of a step share are attended: once for all where it pays (auto), never (ordinary) or always (shared)")
}

// RegisterContext adds --context.
func (f *EngineFlags) RegisterContext(flags *pflag.FlagSet) {
	flags.IntVar(&f.Context, "context", 0, "longest text in tokens, prompt and answer together (default: the model's own limit)")
}

// Options are the engine's options that the flags ask for, without a model. A value that does not exist is a usage error.
func (f *EngineFlags) Options() (engine.Options, error) {
	o := engine.Options{
		DeviceOptions: kernels.Options{Device: f.Device, Threads: f.Threads, KernelSet: f.KernelSet},
		WeightsCache:  f.WeightsCache,
		GPUMemory:     f.GPUMemory,
		BlockTokens:   f.BlockTokens,
		CacheTokens:   f.CacheTokens,
		MaxContext:    f.Context,
	}
	var err error
	if o.Weights, err = parseWeights(f.Weights); err != nil {
		return o, err
	}
	if o.KV, err = ParseKV(f.KV); err != nil {
		return o, err
	}
	if o.Cache, err = f.Cache.Strategy(); err != nil {
		return o, err
	}
	if o.Attention, err = parseAttention(f.Attention); err != nil {
		return o, err
	}
	for _, n := range []struct {
		flag  string
		value int
	}{{"threads", f.Threads}, {"block-tokens", f.BlockTokens}, {"cache-tokens", f.CacheTokens}, {"context", f.Context}} {
		if n.value < 0 {
			return o, UsageError("leave the flag out for its default", "--%s must not be negative, got %d", n.flag, n.value)
		}
	}
	if f.GPUMemory < 0 || f.GPUMemory > 1 {
		return o, UsageError("take 0.9, or leave the flag out", "--gpu-memory must be from 0 to 1, got %v", f.GPUMemory)
	}
	switch f.BlockTokens {
	case 0, 16, 32, 64:
	default:
		return o, UsageError("take 16, 32 or 64", "no block size of %d tokens", f.BlockTokens)
	}
	if f.CacheTokens > 0 && f.Context > f.CacheTokens {
		return o, UsageError("raise --cache-tokens or lower --context", "a cache of %d tokens never holds a context of %d", f.CacheTokens, f.Context)
	}
	return o, nil
}

// ParseKV finds an element type of the KV cache by its name; "" is the default.
func ParseKV(name string) (kernels.KVType, error) {
	for _, t := range kernels.KVTypes() {
		if name == t.String() || name == "" {
			return t, nil
		}
	}
	return 0, UsageError("take bf16, f32, int8 (CPU) or fp8 (CUDA)", "no KV type %q", name)
}

// parseWeights finds a format of weights by its name; "" is the default.
func parseWeights(name string) (kernels.Format, error) {
	for _, f := range []kernels.Format{kernels.BF16, kernels.Int8} {
		if name == f.String() || name == "" {
			return f, nil
		}
	}
	return 0, UsageError("take bf16 or int8", "no weight format %q", name)
}

// parseAttention finds a mode of attention by its name; "" is the default.
func parseAttention(name string) (attention.Mode, error) {
	for _, m := range attention.Modes() {
		if name == m.String() || name == "" {
			return m, nil
		}
	}
	return 0, UsageError("take auto, ordinary or shared", "no way of attention %q", name)
}
