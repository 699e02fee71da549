package suite

import (
	"time"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/stats"
)

// Sample is one repeat of one point, measured from the outside: what the requests' readers saw and when, and by how much
// the engine's own counters moved.
type Sample struct {
	TimeSeconds float64 `json:"time_seconds"` // from submitting the first request to the last token of the last one

	InputTokens  int `json:"input_tokens"`
	OutputTokens int `json:"output_tokens"` // that the readers received

	// Tokens that went through the forward pass, counted there. The last token of an answer is never computed on, so
	// without reuse this is input + output − requests.
	TokensComputed int64 `json:"tokens_computed"`
	TokensReused   int64 `json:"tokens_reused"` // prompt tokens that were not computed, because the cache held them

	// Prefill ends, and decode begins, with the first token of the request that got its own last.
	PrefillSeconds float64 `json:"prefill_seconds"`
	DecodeSeconds  float64 `json:"decode_seconds"`
	DecodeTokens   int     `json:"decode_tokens"` // received after that moment

	TTFTSeconds []float64 `json:"ttft_seconds"` // [requests] time to first token
	ITLSeconds  []float64 `json:"itl_seconds"`  // gaps between a request's consecutive tokens, of all requests

	// Steps of the engine; what handing them over took, and what the step loop waited for the device. The rest of the time is
	// planning and committing, beside the device where steps overlap.
	Steps         int64   `json:"steps"`
	SubmitSeconds float64 `json:"submit_seconds"`
	WaitSeconds   float64 `json:"wait_seconds"`

	KVBlocksPeak int   `json:"kv_blocks_peak"` // most blocks in use in any step
	KVBytesPeak  int64 `json:"kv_bytes_peak"`  // of those
	Preemptions  int64 `json:"preemptions"`
	// KVBlocksKept is how many blocks held content for later when the repeat ended, which nobody used any more.
	KVBlocksKept int   `json:"kv_blocks_kept,omitempty"`
	RSSBytes     int64 `json:"rss_bytes"` // of the process when the repeat ended

	Batches []BatchSample `json:"batches,omitempty"` // one each, if there were several

	// OutputSHA256 is a digest of all answers' token ids, in the order of the requests. Equal digests, equal answers.
	OutputSHA256 string `json:"output_sha256"`
	Inexact      bool   `json:"inexact,omitempty"` // something was read that was computed in another context
	Incomplete   bool   `json:"incomplete,omitempty"`

	start   time.Time // of the first batch
	results []engine.Result
}

// BatchSample is one of several batches that follow each other in one cache.
type BatchSample struct {
	TimeSeconds    float64 `json:"time_seconds"`
	TokensComputed int64   `json:"tokens_computed"`
	TokensReused   int64   `json:"tokens_reused"`
}

// Start is when the first request was submitted.
func (s *Sample) Start() time.Time { return s.start }

// Results are the answers that the sample was made of, with the time of every token.
func (s *Sample) Results() []engine.Result { return s.results }

// perSecond is a rate; 0 where no time has passed.
func perSecond(count int, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return float64(count) / seconds
}

// PerSecond is a count of the sample's tokens for each second of it.
func (s *Sample) PerSecond(count int) float64 { return perSecond(count, s.TimeSeconds) }

// PrefillTokensPerSec is prompt tokens computed in the prefill phase.
func (s *Sample) PrefillTokensPerSec() float64 {
	return perSecond(s.InputTokens-int(s.TokensReused), s.PrefillSeconds)
}

// DecodeTokensPerSec is tokens generated in the decode phase.
func (s *Sample) DecodeTokensPerSec() float64 { return perSecond(s.DecodeTokens, s.DecodeSeconds) }

// latencies sum up the time to first token and the gaps between tokens.
func (s *Sample) latencies() (firstToken, interToken stats.Summary) {
	return stats.Summarize(s.TTFTSeconds), stats.Summarize(s.ITLSeconds)
}

// middle is the sample whose time is the median: the row's figures are all its own, so that they belong together. With an
// even number of samples it is the faster of the two in the middle.
func middle(samples []Sample) int {
	times := make([]float64, len(samples))
	for i := range samples {
		times[i] = samples[i].TimeSeconds
	}
	return stats.MedianIndex(times)
}
