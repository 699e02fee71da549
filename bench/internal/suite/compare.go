package suite

import (
	"fmt"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/stats"
	"github.com/quire-llm/quire/kvcache"
)

// Comparison is a point's requests under the standard strategy: on the same engine options, with as large a cache, in turns
// with the strategy's own repeats. Ratios are of what was counted in the forward pass and in the pool.
type Comparison struct {
	TimeSeconds    float64 `json:"time_seconds"` // the median of the repeats
	TokensComputed int64   `json:"tokens_computed"`
	KVBlocksPeak   int     `json:"kv_blocks_peak"`
	KVBytesPeak    int64   `json:"kv_bytes_peak"`
	OutputSHA256   string  `json:"output_sha256"`

	SameOutput          bool    `json:"same_output"` // every answer of every repeat is the standard's, token for token
	SavedKVRatio        float64 `json:"saved_kv_ratio"`
	SavedTokensRatio    float64 `json:"saved_tokens_ratio"`
	SpeedupMedian       float64 `json:"speedup_median"` // standard's time over the strategy's, repeat by repeat
	SpeedupMin          float64 `json:"speedup_min"`
	SpeedupMax          float64 `json:"speedup_max"`
	ReusedPerInputToken float64 `json:"reused_per_input_token"`
}

// shares says whether the benchmark's strategy is compared with the standard one.
func (s *session) shares() bool { return s.benchmark.Strategy.Name() != kvcache.Standard{}.Name() }

// standardOptions are the session's with another strategy.
func (s *session) standardOptions() engine.Options {
	o := s.options
	o.Cache = kvcache.Standard{}
	return o
}

// compare sets a point's chosen sample, and all of its samples, beside the standard's; nil if there are none of those.
func compare(chosen Sample, samples, standard []Sample) *Comparison {
	if len(standard) == 0 {
		return nil
	}
	middle := standard[middle(standard)]
	c := &Comparison{
		TimeSeconds:    middle.TimeSeconds,
		TokensComputed: middle.TokensComputed,
		KVBlocksPeak:   middle.KVBlocksPeak,
		KVBytesPeak:    middle.KVBytesPeak,
		OutputSHA256:   middle.OutputSHA256,

		SameOutput:          true,
		SavedKVRatio:        saved(chosen.KVBytesPeak, middle.KVBytesPeak),
		SavedTokensRatio:    saved(chosen.TokensComputed, middle.TokensComputed),
		ReusedPerInputToken: float64(chosen.TokensReused) / float64(max(chosen.InputTokens, 1)),
	}
	var speedups []float64
	for i := range standard {
		c.SameOutput = c.SameOutput && samples[i].OutputSHA256 == middle.OutputSHA256 && standard[i].OutputSHA256 == middle.OutputSHA256
		if samples[i].TimeSeconds > 0 {
			speedups = append(speedups, standard[i].TimeSeconds/samples[i].TimeSeconds)
		}
	}
	spread := stats.Summarize(speedups)
	c.SpeedupMedian, c.SpeedupMin, c.SpeedupMax = spread.P50, spread.Min, spread.Max
	return c
}

// saved is the part of the standard's that was not needed.
func saved(ours, standard int64) float64 {
	if standard == 0 {
		return 0
	}
	return 1 - float64(ours)/float64(standard)
}

// line is the comparison for the console.
func (c *Comparison) line(s Sample) string {
	answers := "the same answers"
	if !c.SameOutput {
		answers = "other answers"
	}
	return fmt.Sprintf("Against standard: %d of %d KV blocks, %d of %d tokens computed, %.2f times as fast (%.2f to %.2f), %s",
		s.KVBlocksPeak, c.KVBlocksPeak, s.TokensComputed, c.TokensComputed, c.SpeedupMedian, c.SpeedupMin, c.SpeedupMax, answers)
}
