package fair

import (
	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/stats"
)

// row is an object of results_fair.json: a strategy on a workload.
type row struct {
	Method          string `json:"method"` // the strategy's name in tables
	Workload        string `json:"workload"`
	About           string `json:"about"`
	Attention       string `json:"attention"`
	SharedPrefixLen int    `json:"shared_prefix_len,omitempty"`
	BatchSize       int    `json:"batch_size"`
	NumBatches      int    `json:"num_batches"`

	TotalInputTokens       int     `json:"total_input_tokens"`
	TotalOutputTokens      int     `json:"total_output_tokens"`
	TimeSeconds            float64 `json:"time_seconds"`
	ThroughputTokensPerSec float64 `json:"throughput_tokens_per_sec"` // input and output
	PoolTokens             int     `json:"pool_tokens"`
	PoolBytes              int64   `json:"pool_bytes"`

	// Of the same run. Above 1 is faster than standard.
	Speedup spread `json:"speedup"`
	// KVRatio is peak KV bytes as a share of standard's.
	KVRatio float64 `json:"kv_ratio"`
	// SameOutput says that every answer of every repeat is the standard's, token for token.
	SameOutput bool `json:"same_output"`
	// TokensExpected is counted from the prompts alone. ExpectationHolds is false where the pool has no room for the whole
	// workload: then what is evicted or waits is computed again, and the count is no longer a matter of the prompts.
	TokensExpected   int64 `json:"tokens_expected"`
	ExpectationHolds bool  `json:"expectation_holds"`
	AsExpected       bool  `json:"computed_as_expected"` // in every repeat

	Samples []sample `json:"samples"` // instead of those of suite.Details, without the single gaps
	suite.Details
}

// sample is a repeat.
type sample struct {
	TimeSeconds    float64 `json:"time_seconds"`
	TTFTSeconds    float64 `json:"ttft_p50_seconds"`
	ITLSeconds     float64 `json:"itl_p50_seconds"`
	TokensComputed int64   `json:"tokens_computed"`
	TokensReused   int64   `json:"tokens_reused"`
	KVBytesPeak    int64   `json:"kv_bytes_peak"`
	Preemptions    int64   `json:"preemptions"`
	OutputSHA256   string  `json:"output_sha256"`
}

// spread is a ratio, repeat by repeat.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func (r *runner) newRow(w *workload, s strategy, batches [][]prompt, samples, standard []suite.Sample) row {
	m := r.rig.Sum(samples)
	chosen, d := m.Sample, m.Details
	d.Strategy = s.cache.Name()
	d.Settings.BatchSizes = []int{w.sequences}
	d.Settings.MaxInputTokens, d.Settings.MaxOutputTokens = w.longest, r.settings.Output
	d.Settings.CacheTokens = r.poolTokens(batches)
	out := row{
		Method: s.label, Workload: w.name, About: w.about, Attention: s.attention.String(),
		SharedPrefixLen: w.prefix, BatchSize: w.sequences, NumBatches: w.batches,
		TotalInputTokens: chosen.InputTokens, TotalOutputTokens: chosen.OutputTokens, TimeSeconds: chosen.TimeSeconds,
		ThroughputTokensPerSec: chosen.PerSecond(chosen.InputTokens + chosen.OutputTokens),
		PoolTokens:             d.Settings.CacheTokens, PoolBytes: int64(d.Settings.CacheTokens) * int64(d.KVBytesPerToken),
		KVRatio:          float64(chosen.KVBytesPeak) / float64(max(standard[0].KVBytesPeak, 1)),
		SameOutput:       true,
		TokensExpected:   expected(s.sharing, d.KVBlockTokens, batches, answers(standard[0])),
		ExpectationHolds: d.Settings.CacheTokens >= r.roomTokens(batches),
		AsExpected:       true,
		Details:          d,
	}
	var speedups []float64
	for i, one := range samples {
		out.Samples = append(out.Samples, sample{
			one.TimeSeconds, stats.Median(one.TTFTSeconds), stats.Median(one.ITLSeconds), one.TokensComputed, one.TokensReused,
			one.KVBytesPeak, one.Preemptions, one.OutputSHA256,
		})
		out.SameOutput = out.SameOutput && one.OutputSHA256 == standard[0].OutputSHA256
		out.AsExpected = out.AsExpected && one.TokensComputed == out.TokensExpected
		if one.TimeSeconds > 0 {
			speedups = append(speedups, standard[i].TimeSeconds/one.TimeSeconds)
		}
	}
	summary := stats.Summarize(speedups)
	out.Speedup = spread{summary.P50, summary.Min, summary.Max}
	return out
}

// failed says whether the row's answers or counts are wrong.
func (r *row) failed() bool { return !r.SameOutput || r.ExpectationHolds && !r.AsExpected }
