package cli

import (
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/model"
)

// SamplingFlags are the flags that say how tokens are chosen.
type SamplingFlags struct {
	values      engine.Sampling
	biases      []string
	recommended bool
	flags       *pflag.FlagSet
}

// RegisterSampling adds the flags.
func (f *SamplingFlags) RegisterSampling(flags *pflag.FlagSet) {
	f.flags = flags
	s := &f.values
	flags.Float64Var(&s.Temperature, "temperature", 0, "sampling temperature; 0 takes the most likely token")
	flags.Uint64Var(&s.Seed, "seed", 0, "seed of the sampling: the same seed gives the same text")
	flags.IntVar(&s.TopK, "top-k", 0, "draw from the `k` most likely tokens (default: all)")
	flags.Float64Var(&s.TopP, "top-p", 0, "draw from the most likely tokens that together have this `probability` (default: all)")
	flags.Float64Var(&s.MinP, "min-p", 0, "draw from the tokens that have this `part` of the largest probability (default: all)")
	flags.Float64Var(&s.TypicalP, "typical-p", 0, "draw from the most typical tokens that together have this `probability` (default: all)")
	flags.Float64Var(&s.RepetitionPenalty, "repetition-penalty", 0, "`factor` against tokens of prompt and answer; above 1 discourages (default: none)")
	flags.Float64Var(&s.PresencePenalty, "presence-penalty", 0, "taken off the logit of each token of the answer; -2 to 2")
	flags.Float64Var(&s.FrequencyPenalty, "frequency-penalty", 0, "taken off for each time the token is in the answer; -2 to 2")
	flags.StringArrayVar(&f.biases, "logit-bias", nil, "`ID=BIAS` added to a token's logit, -100 to 100 or -inf; may be given several times")
	flags.IntVar(&s.MinTokens, "min-tokens", 0, "least tokens of an answer, before it may end of itself")
	flags.BoolVar(&f.recommended, "recommended", false, "temperature, top-k and top-p as the model's makers advise, where no flag says otherwise")
}

// Sampling is what the flags ask for, without a model. A bias that cannot be read is a usage error.
func (f *SamplingFlags) Sampling() (engine.Sampling, error) {
	s := f.values
	if len(f.biases) > 0 {
		s.LogitBias = map[int32]float32{}
	}
	for _, text := range f.biases {
		id, bias, _ := strings.Cut(text, "=")
		token, idErr := strconv.ParseInt(id, 10, 32)
		value, err := strconv.ParseFloat(bias, 32)
		if idErr != nil || err != nil {
			return s, UsageError("write it like 1234=-5, or 1234=-inf; 'quire tokenize' shows the ids of a text", "--logit-bias %q is no token id with a bias", text)
		}
		s.LogitBias[int32(token)] = float32(value)
	}
	return s, nil
}

// Recommend adds what the model's makers advise, where --recommended asks for it and no other flag says otherwise. A model
// whose makers advise nothing is a usage error.
func (f *SamplingFlags) Recommend(s *engine.Sampling, g model.Generation) error {
	if !f.recommended {
		return nil
	}
	if g.Temperature == nil && g.TopK == nil && g.TopP == nil && g.DoSample == nil {
		return UsageError("leave --recommended out, or give --temperature, --top-k and --top-p", "the model has no generation_config.json with sampling in it")
	}
	if g.DoSample != nil && !*g.DoSample {
		return nil // greedy
	}
	if g.Temperature == nil {
		g.Temperature = new(1.0)
	}
	if !f.flags.Changed("temperature") {
		s.Temperature = *g.Temperature
	}
	if g.TopK != nil && !f.flags.Changed("top-k") {
		s.TopK = max(*g.TopK, 0) // -1: all
	}
	if g.TopP != nil && !f.flags.Changed("top-p") {
		s.TopP = *g.TopP
	}
	return nil
}
