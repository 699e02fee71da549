package engine

import (
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
	defaultStepTokens     = 512
	defaultQueueRequests  = 1024
	defaultBlockTokens    = 16
	defaultSequenceTokens = 512 // of cache for each sequence
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
	if o.CacheTokens > 0 && o.MaxContext > o.CacheTokens {
		wrong("MaxContext is %d, and a cache of CacheTokens %d never holds a sequence so long", o.MaxContext, o.CacheTokens)
	}
	if o.MaxSequences > 0 && o.StepTokens > 0 && o.StepTokens < o.MaxSequences {
		wrong("StepTokens is %d, and a step must take a token of each of MaxSequences %d", o.StepTokens, o.MaxSequences)
	}
	if len(found) > 0 {
		return o, fmt.Errorf("engine: options: %s", strings.Join(found, "; "))
	}
	switch {
	case o.MaxSequences == 0 && o.StepTokens == 0:
		o.MaxSequences, o.StepTokens = defaultSequences, defaultStepTokens
	case o.MaxSequences == 0:
		o.MaxSequences = min(defaultSequences, o.StepTokens)
	case o.StepTokens == 0:
		o.StepTokens = max(defaultStepTokens, o.MaxSequences)
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

// checkModel checks the options that depend on the model.
func (o Options) checkModel(c model.Config) error {
	if o.MaxContext > c.MaxPositions {
		return fmt.Errorf("engine: options: MaxContext is %d, and the model was made for %d tokens", o.MaxContext, c.MaxPositions)
	}
	return nil
}
