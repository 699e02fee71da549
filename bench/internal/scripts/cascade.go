package scripts

import (
	"fmt"
	"slices"

	"github.com/spf13/pflag"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/kvcache"
)

const cascadeMethod = "Cascade Attention (Prefix Sharing)"

// minOwnTokens is the fewest tokens that follow a shared prefix, where --max-input leaves room for them.
const minOwnTokens = 50

// Cascade gives the prompts of a batch the same beginning.
func Cascade() suite.Benchmark {
	return suite.Benchmark{
		Name:     "cascade",
		Short:    "Measure a KV cache that shares the prompts' common beginning",
		Method:   cascadeMethod,
		Heading:  cascadeMethod,
		Strategy: kvcache.Cascade{},
		Counted:  inputAndOutput,
		Flags: func(f *pflag.FlagSet, s *suite.Settings) {
			f.IntSliceVar(&s.Prefixes, "prefixes", []int{50, 100, 200}, "`tokens` that the prompts of a batch have in common, one result each")
		},
		Points: cascadePoints,
	}
}

// cascadePoints are one call with n prompts for each batch size n and each length of the prefix.
func cascadePoints(s suite.Settings, prompts *suite.Prompts) []suite.Point {
	var all []suite.Point
	for _, n := range s.BatchSizes {
		for _, length := range s.Prefixes {
			shared := prompts.IDs(length)
			requests := make([]engine.Request, n)
			for i := range requests {
				most := s.MaxInputTokens - length
				own := prompts.IDs(prompts.Length(min(minOwnTokens, most), most))
				requests[i] = s.Request(i)
				requests[i].Tokens = slices.Concat(shared, own)
			}
			all = append(all, suite.Point{
				Label:   fmt.Sprintf("batch size: %d, prefix length: %d", n, length),
				Name:    fmt.Sprintf("batch=%d/prefix=%d", n, length),
				Batches: [][]engine.Request{requests},
				Row:     func(m suite.Measured) any { return newCascadeRow(n, length, m) },
				Lines: func(m suite.Measured) []string {
					r := newCascadeRow(n, length, m)
					return []string{
						fmt.Sprintf("Memory savings: %.1f%%", 100*r.MemorySavingsRatio),
						fmt.Sprintf("Input tokens saved if every prefix were stored once: %.1f%%", 100*r.OriginalSavingsRatio),
					}
				},
			})
		}
	}
	return all
}

// cascadeRow is an object of results_cascade.json: the original's keys in their order, then ours.
type cascadeRow struct {
	Method                 string  `json:"method"`
	SharedPrefixLen        int     `json:"shared_prefix_len"`
	NumSequences           int     `json:"num_sequences"`
	TotalInputTokens       int     `json:"total_input_tokens"`
	UniqueInputTokens      int     `json:"unique_input_tokens"`
	MemorySavingsRatio     float64 `json:"memory_savings_ratio"` // of the standard's KV bytes at the peak, both measured
	TotalOutputTokens      int     `json:"total_output_tokens"`
	TotalTokens            int     `json:"total_tokens"`
	TimeSeconds            float64 `json:"time_seconds"`
	ThroughputTokensPerSec float64 `json:"throughput_tokens_per_sec"`
	MemoryUsedBytes        int64   `json:"memory_used_bytes"`
	MemoryUsedFormatted    string  `json:"memory_used_formatted"`
	BatchSize              int     `json:"batch_size"`

	// OriginalSavingsRatio is what the original calls its savings: arithmetic on the prompts' lengths.
	OriginalSavingsRatio float64           `json:"memory_savings_ratio_original"`
	Standard             *suite.Comparison `json:"standard"`
	suite.Details
}

func newCascadeRow(batchSize, prefix int, m suite.Measured) cascadeRow {
	s, d := m.Sample, m.Details
	r := cascadeRow{
		Method:                 cascadeMethod,
		SharedPrefixLen:        prefix,
		NumSequences:           batchSize,
		TotalInputTokens:       s.InputTokens,
		UniqueInputTokens:      s.InputTokens - prefix*(batchSize-1),
		TotalOutputTokens:      s.OutputTokens,
		TotalTokens:            inputAndOutput(s),
		TimeSeconds:            s.TimeSeconds,
		ThroughputTokensPerSec: s.PerSecond(inputAndOutput(s)),
		MemoryUsedBytes:        d.KVBytesPeak,
		MemoryUsedFormatted:    suite.FormatSize(d.KVBytesPeak),
		BatchSize:              batchSize,
		Standard:               m.Standard,
		Details:                d,
	}
	if s.InputTokens > 0 {
		r.OriginalSavingsRatio = 1 - float64(r.UniqueInputTokens)/float64(s.InputTokens)
	}
	if m.Standard != nil {
		r.MemorySavingsRatio = m.Standard.SavedKVRatio
	}
	return r
}
