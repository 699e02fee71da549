package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/model"
)

// The defaults of Options.
const (
	defaultSequences      = 64
	defaultStepTokens     = 512  // on a CPU, which is as fast with steps of that size as with larger ones
	defaultGPUStepTokens  = 8192 // enough to keep all multiprocessors busy
	defaultQueueRequests  = 1024
	defaultBlockTokens    = 16
	defaultSequenceTokens = 512 // of cache for each sequence
	defaultGPUMemory      = 0.9 // of what is free: kernels' scratch memory comes on top of the plan
)

// settle checks all options that can be checked without a model and fills in the defaults that do not depend on one.
func (o Options) settle() (Options, error) {
	var found []string
	wrong := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }

	if o.Model == "" && o.Checkpoint == nil {
		wrong("Model is empty: name a directory, an owner/name of the Hugging Face cache, or a built-in model")
	}
	for _, n := range []struct {
		name  string
		value int
	}{
		{"CacheTokens", o.CacheTokens}, {"MaxContext", o.MaxContext}, {"MaxSequences", o.MaxSequences},
		{"StepTokens", o.StepTokens}, {"QueueRequests", o.QueueRequests},
	} {
		if n.value < 0 {
			wrong("%s must be 0 or more, not %d", n.name, n.value)
		}
	}
	switch o.BlockTokens {
	case 0:
		o.BlockTokens = defaultBlockTokens
	case 16, 32, 64:
	default:
		wrong("BlockTokens must be 16, 32 or 64, not %d", o.BlockTokens)
	}
	switch o.Weights {
	case 0:
		o.Weights = kernels.BF16
	case kernels.BF16, kernels.Int8:
	default:
		wrong("Weights is %d, which is no format", o.Weights)
	}
	if !slices.Contains(kernels.KVTypes(), o.KV) {
		wrong("KV is %d, which is no element type", o.KV)
	}
	if !(o.GPUMemory >= 0 && o.GPUMemory <= 1) {
		wrong("GPUMemory is %v, want a part of the free memory from 0 to 1", o.GPUMemory)
	}
	if o.CacheTokens > 0 && o.MaxContext > o.CacheTokens {
		wrong("MaxContext is %d, and a cache of CacheTokens %d never holds a sequence so long", o.MaxContext, o.CacheTokens)
	}
	if o.MaxSequences > 0 && o.StepTokens > 0 && o.StepTokens < o.MaxSequences {
		wrong("StepTokens is %d, and a step must take a token of each of MaxSequences %d", o.StepTokens, o.MaxSequences)
	}
	if len(found) > 0 {
		return o, fmt.Errorf("engine: options: %s", strings.Join(found, "; "))
	}
	if o.MaxSequences == 0 {
		o.MaxSequences = defaultSequences
		if o.StepTokens > 0 {
			o.MaxSequences = min(o.MaxSequences, o.StepTokens)
		}
	}
	if o.QueueRequests == 0 {
		o.QueueRequests = defaultQueueRequests
	}
	if o.Cache == nil {
		o.Cache = kvcache.Standard{}
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	return o, nil
}

// settleDevice fills in the defaults that depend on the device.
func (o Options) settleDevice(info kernels.Info) Options {
	if o.StepTokens == 0 {
		o.StepTokens = max(defaultStepTokens, o.MaxSequences)
		if info.Kind == "cuda" {
			o.StepTokens = max(defaultGPUStepTokens, o.MaxSequences)
		}
	}
	return o
}

// checkDevice checks the options that depend on the device.
func (o Options) checkDevice(info kernels.Info) error {
	if info.Kind != "" && !info.TakesKV(o.KV) {
		return fmt.Errorf("engine: options: KV is %v, which the device %q does not take: %w", o.KV, info.Name, errors.ErrUnsupported)
	}
	if info.Kind == "cuda" && o.Weights == kernels.Int8 {
		return fmt.Errorf("engine: options: Weights is int8, which only the CPU takes: %w", errors.ErrUnsupported)
	}
	return nil
}

// checkModel checks the options that depend on the model.
func (o Options) checkModel(c model.Config) error {
	if o.MaxContext > c.MaxPositions {
		return fmt.Errorf("engine: options: MaxContext is %d, and the model was made for %d tokens", o.MaxContext, c.MaxPositions)
	}
	return nil
}
