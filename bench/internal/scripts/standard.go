package scripts

import (
	"fmt"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/kvcache"
)

const standardMethod = "Standard KV Cache"

// Standard is the baseline: every sequence has its own keys and values and shares nothing.
func Standard() suite.Benchmark {
	return suite.Benchmark{
		Name:     "standard",
		Short:    "Measure the standard KV cache: no sharing between sequences",
		Method:   standardMethod,
		Heading:  standardMethod + " (No Sharing)",
		Strategy: kvcache.Standard{},
		Counted:  inputAndOutput,
		Points:   standardPoints,
	}
}

// inputAndOutput is what the throughput of two scripts counts; that of the others counts output alone.
func inputAndOutput(s suite.Sample) int { return s.InputTokens + s.OutputTokens }

// standardPoints are one call with n random prompts for each batch size n.
func standardPoints(s suite.Settings, prompts *suite.Prompts) []suite.Point {
	var all []suite.Point
	for _, n := range s.BatchSizes {
		requests := make([]engine.Request, n)
		for i := range requests {
			requests[i] = s.Request(i)
			requests[i].Tokens = prompts.Draw(s.MaxInputTokens)
		}
		all = append(all, suite.Point{
			Label:   fmt.Sprintf("batch size: %d", n),
			Name:    fmt.Sprintf("batch=%d", n),
			Batches: [][]engine.Request{requests},
			Row:     func(m suite.Measured) any { return newStandardRow(n, m) },
		})
	}
	return all
}

// standardRow is an object of results_standard.json: the original's keys in their order, then ours.
type standardRow struct {
	Method                 string  `json:"method"`
	NumSequences           int     `json:"num_sequences"`
	TotalInputTokens       int     `json:"total_input_tokens"`
	TotalOutputTokens      int     `json:"total_output_tokens"`
	TotalTokens            int     `json:"total_tokens"`
	TimeSeconds            float64 `json:"time_seconds"`
	ThroughputTokensPerSec float64 `json:"throughput_tokens_per_sec"`
	MemoryUsedBytes        int64   `json:"memory_used_bytes"`
	MemoryUsedFormatted    string  `json:"memory_used_formatted"`
	BatchSize              int     `json:"batch_size"`
	suite.Details
}

func newStandardRow(batchSize int, m suite.Measured) standardRow {
	s, d := m.Sample, m.Details
	return standardRow{
		Method:                 standardMethod,
		NumSequences:           batchSize,
		TotalInputTokens:       s.InputTokens,
		TotalOutputTokens:      s.OutputTokens,
		TotalTokens:            inputAndOutput(s),
		TimeSeconds:            s.TimeSeconds,
		ThroughputTokensPerSec: s.PerSecond(inputAndOutput(s)),
		MemoryUsedBytes:        d.KVBytesPeak,
		MemoryUsedFormatted:    suite.FormatSize(d.KVBytesPeak),
		BatchSize:              batchSize,
		Details:                d,
	}
}
