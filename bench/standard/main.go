// Command standard measures the standard KV cache: every sequence has its own keys and values and shares nothing. It is
// the baseline of the suite.
//
//	go run ./bench/standard
package main

import (
	"fmt"
	"os"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/kvcache"
)

func main() { os.Exit(suite.Main(benchmark(), os.Args[1:], os.Stdout, os.Stderr)) }

const method = "Standard KV Cache"

func benchmark() suite.Benchmark {
	return suite.Benchmark{
		Name:     "standard",
		Short:    "Measure the standard KV cache: no sharing between sequences",
		Method:   method,
		Heading:  method + " (No Sharing)",
		Strategy: kvcache.Standard{},
		Counted:  counted,
		Points:   points,
	}
}

// counted is input and output: the original's throughput counts both.
func counted(s suite.Sample) int { return s.InputTokens + s.OutputTokens }

// points are one call with n random prompts for each batch size n.
func points(s suite.Settings, prompts *suite.Prompts) []suite.Point {
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
			Row:     func(m suite.Measured) any { return newRow(n, m) },
		})
	}
	return all
}

// row is an object of results_standard.json: the original's keys in their order, then ours.
type row struct {
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

func newRow(batchSize int, m suite.Measured) row {
	s, d := m.Sample, m.Details
	return row{
		Method:                 method,
		NumSequences:           batchSize,
		TotalInputTokens:       s.InputTokens,
		TotalOutputTokens:      s.OutputTokens,
		TotalTokens:            counted(s),
		TimeSeconds:            s.TimeSeconds,
		ThroughputTokensPerSec: s.PerSecond(counted(s)),
		MemoryUsedBytes:        d.KVBytesPeak,
		MemoryUsedFormatted:    suite.FormatSize(d.KVBytesPeak),
		BatchSize:              batchSize,
		Details:                d,
	}
}
