package suite

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
)

// Settings are what a result depends on besides model and machine. The defaults are the original suite's.
type Settings struct {
	BatchSizes      []int   `json:"batch_sizes"`
	MaxInputTokens  int     `json:"max_input_len"`
	MaxOutputTokens int     `json:"max_output_len"`
	Temperature     float64 `json:"temperature"`
	IgnoreEOS       bool    `json:"ignore_eos"`
	Seed            int64   `json:"-"` // in the row itself
	Repeats         int     `json:"repeats"`
	WarmupPrompt    string  `json:"warmup_prompt"`
	WarmupTokens    int     `json:"warmup_tokens"`
	MaxContext      int     `json:"max_model_len"`
	// Of some benchmarks only, which say them in their rows.
	Prefixes   []int `json:"-"`           // tokens that the prompts of a batch share
	Batches    int   `json:"-"`           // that follow each other in one cache
	Settles    bool  `json:"-"`           // a batch begins when what the cache's tier keeps of the one before has been stored
	TouchCache bool  `json:"touch_cache"` // all of the cache's memory is there when the clock starts

	// As the engine took them.
	Weights     string `json:"weights"`
	KV          string `json:"kv"`
	BlockTokens int    `json:"block_tokens"`
	CacheTokens int    `json:"cache_tokens"`
}

// The original opens its model with this context, whatever the model could do.
const originalContext = 4096

// DefaultSettings are the original suite's, and three repeats.
func DefaultSettings() Settings {
	return Settings{
		BatchSizes: []int{1, 2, 4}, MaxInputTokens: 256, MaxOutputTokens: 128,
		Temperature: 0.6, IgnoreEOS: true, Seed: 42, Repeats: 3,
		WarmupPrompt: "Benchmark warmup", WarmupTokens: 10, MaxContext: originalContext,
	}
}

// register adds a flag for each setting, with the setting's value as default.
func (s *Settings) register(flags *pflag.FlagSet) {
	flags.IntSliceVar(&s.BatchSizes, "batch-sizes", s.BatchSizes, "`sizes` of the batches, one result each")
	flags.IntVar(&s.MaxInputTokens, "max-input", s.MaxInputTokens, "longest prompt in tokens; prompts have 100 to that many (exactly that many if it is below 100)")
	flags.IntVar(&s.MaxOutputTokens, "max-output", s.MaxOutputTokens, "tokens generated for each prompt")
	flags.Float64Var(&s.Temperature, "temperature", s.Temperature, "sampling temperature; 0 is greedy")
	flags.BoolVar(&s.IgnoreEOS, "ignore-eos", s.IgnoreEOS, "go on after an end-of-text token")
	flags.Int64Var(&s.Seed, "seed", s.Seed, "seed of the prompts, as Python's random.seed takes it, and of the sampling")
	flags.IntVar(&s.Repeats, "repeats", s.Repeats, "repeats of each point; the one with the median time is reported, all are recorded")
	flags.IntVar(&s.WarmupTokens, "warmup", s.WarmupTokens, "tokens generated before each repeat to warm up; 0 for no warm-up")
}

// check says what is wrong with the settings, all at once.
func (s *Settings) check() error {
	var wrong []string
	atLeast := func(flag string, value, least int) {
		if value < least {
			wrong = append(wrong, fmt.Sprintf("--%s must be at least %d, got %d", flag, least, value))
		}
	}
	atLeast("max-input", s.MaxInputTokens, 1)
	atLeast("max-output", s.MaxOutputTokens, 1)
	atLeast("repeats", s.Repeats, 1)
	atLeast("warmup", s.WarmupTokens, 0)
	if len(s.BatchSizes) == 0 {
		wrong = append(wrong, "--batch-sizes must name at least one size")
	}
	for _, n := range s.BatchSizes {
		atLeast("batch-sizes", n, 1)
	}
	for _, n := range s.Prefixes {
		atLeast("prefixes", n, 1)
		if n >= s.MaxInputTokens {
			wrong = append(wrong, fmt.Sprintf("--prefixes must be below --max-input, got %d and %d", n, s.MaxInputTokens))
		}
	}
	if s.Batches < 0 {
		wrong = append(wrong, fmt.Sprintf("--batches must be at least 1, got %d", s.Batches))
	}
	if s.Temperature < 0 {
		wrong = append(wrong, fmt.Sprintf("--temperature must be at least 0, got %v", s.Temperature))
	}
	if len(wrong) == 0 {
		return nil
	}
	return cli.UsageError("leave a flag out for its default", "%s", strings.Join(wrong, "; "))
}

// longest is the most tokens that a prompt and its answer have.
func (s *Settings) longest() int { return s.MaxInputTokens + s.MaxOutputTokens }

// Request is request number i of a batch, with everything but its prompt. Its seed is its own, and the same in every
// repeat and under every strategy.
func (s *Settings) Request(i int) engine.Request {
	return engine.Request{
		MaxTokens: s.MaxOutputTokens,
		IgnoreEOS: s.IgnoreEOS,
		Sampling:  engine.Sampling{Temperature: s.Temperature, Seed: uint64(s.Seed) + uint64(i)},
	}
}
