package scripts

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/kvcache"
)

const (
	chunkedMethod     = "Chunked API"
	independentMethod = " (Independent, approximate)"
	chunkedWarmup     = "Warmup query"
)

// The texts that the prompts are made of.
const chunkedSystem = "You are a helpful AI assistant. Answer the question from the given context."

var chunkedContexts = []string{
	"Context A: A key-value cache holds what attention has computed of earlier tokens, so that a new token is one step and not a whole text again.",
	"Context B: Memory for the cache is handed out in blocks of equal size. A sequence has a table of its blocks, which may lie anywhere.",
	"Context C: Requests often begin with the same instructions and quote the same documents. What they have in common need not be stored twice.",
}

// Chunked gives the prompts of a batch the same system text and some of three contexts, the first ones always.
func Chunked() suite.Benchmark {
	independent := chunkedIn("chunked_independent", chunkedMethod+independentMethod, kvcache.Chunked{Mode: kvcache.Independent})
	b := chunkedIn("chunked", chunkedMethod, kvcache.Chunked{})
	b.Independent = &independent
	return b
}

func chunkedIn(name, method string, strategy kvcache.Chunked) suite.Benchmark {
	return suite.Benchmark{
		Name:         name,
		Short:        "Measure a KV cache that shares chunks of the prompts by their content",
		Method:       method,
		Heading:      method,
		Strategy:     strategy,
		Counted:      outputAlone,
		WarmupPrompt: chunkedWarmup,
		Warmup: func(p *suite.Prompts, prompt string) engine.Request {
			return engine.Request{Chunks: p.Chunks(chunkedSystem, nil, prompt)}
		},
		Points: func(s suite.Settings, p *suite.Prompts) []suite.Point {
			return chunkedPoints(method, modeOf(strategy), s, p)
		},
	}
}

// outputAlone is what the throughput of the chunked scripts counts.
func outputAlone(s suite.Sample) int { return s.OutputTokens }

// modeOf is the mode's name in rows.
func modeOf(s kvcache.Chunked) string {
	if s.Mode == kvcache.Independent {
		return "independent"
	}
	return "exact"
}

// chunkedPoints are one call with n questions for each batch size n.
func chunkedPoints(method, mode string, s suite.Settings, p *suite.Prompts) []suite.Point {
	var all []suite.Point
	for _, n := range s.BatchSizes {
		l := newLedger()
		register := func(text string) { l.register(text, p.CountTokens(text)) }
		register(chunkedSystem)
		for _, c := range chunkedContexts {
			register(c)
		}
		register(chunkedSystem) // the warm-up's
		register(chunkedWarmup)
		l.get(2)
		requests := make([]engine.Request, n)
		for i := range requests {
			contexts := chunkedContexts[:p.Length(0, 2)]
			words := make([]string, p.Length(20, 50))
			for k := range words {
				words[k] = fmt.Sprintf("word%d", p.Length(0, 1000))
			}
			query := fmt.Sprintf("Question %d: %s", i, strings.Join(words, " "))
			register(query)
			l.get(2 + len(contexts))
			requests[i] = s.Request(i)
			requests[i].Chunks = p.Chunks(chunkedSystem, contexts, query)
		}
		stats := l.snapshot()
		all = append(all, suite.Point{
			Label:   fmt.Sprintf("batch size: %d", n),
			Name:    fmt.Sprintf("batch=%d", n),
			Batches: [][]engine.Request{requests},
			Row: func(m suite.Measured) any {
				return newChunkedRow(method, mode, p.Form(), n, stats, m)
			},
			Lines: func(m suite.Measured) []string { return chunkLines(stats, m) },
		})
	}
	return all
}

// chunkLines are the console lines of both chunked scripts: savings as measured, the rest as the original counts.
func chunkLines(stats ledgerStats, m suite.Measured) []string {
	lines := []string{fmt.Sprintf("Cache hits: %d", stats.CacheHits), fmt.Sprintf("Unique chunks: %d", stats.TotalChunks)}
	if m.Standard != nil {
		lines = slices.Insert(lines, 0, fmt.Sprintf("Memory savings: %.1f%%", 100*m.Standard.SavedKVRatio))
	}
	return lines
}

// chunkedRow is an object of results_chunked.json: the original's keys in their order, then ours.
type chunkedRow struct {
	Method                 string  `json:"method"`
	NumSequences           int     `json:"num_sequences"`
	NumUniqueChunks        int     `json:"num_unique_chunks"`
	CacheHits              int     `json:"cache_hits"`
	TotalOutputTokens      int     `json:"total_output_tokens"`
	TimeSeconds            float64 `json:"time_seconds"`
	ThroughputTokensPerSec float64 `json:"throughput_tokens_per_sec"`
	MemoryUsedBytes        int64   `json:"memory_used_bytes"`
	MemoryUsedFormatted    string  `json:"memory_used_formatted"`
	ChunkMemoryMB          float64 `json:"chunk_memory_mb"`
	BatchSize              int     `json:"batch_size"`

	CacheMisses      int `json:"cache_misses"`
	TotalInputTokens int `json:"total_input_tokens"`
	chunkedDetails
	suite.Details
}

// chunkedDetails is what both chunked scripts' rows hold of our own.
type chunkedDetails struct {
	Mode               string            `json:"mode"`                 // "exact" or "independent"
	PromptForm         string            `json:"prompt_form"`          // "chat", "text" or "words"
	MemorySavingsRatio float64           `json:"memory_savings_ratio"` // of the standard's KV bytes at the peak, both measured
	Standard           *suite.Comparison `json:"standard"`
	Deviation          *suite.Deviation  `json:"deviation,omitempty"` // from the standard's answers, where the mode is not exact
}

func newChunkedDetails(mode, form string, m suite.Measured) chunkedDetails {
	d := chunkedDetails{Mode: mode, PromptForm: form, Standard: m.Standard, Deviation: m.Deviation}
	if m.Standard != nil {
		d.MemorySavingsRatio = m.Standard.SavedKVRatio
	}
	return d
}

func newChunkedRow(method, mode, form string, batchSize int, stats ledgerStats, m suite.Measured) chunkedRow {
	s, d := m.Sample, m.Details
	return chunkedRow{
		Method:                 method,
		NumSequences:           batchSize,
		NumUniqueChunks:        stats.TotalChunks,
		CacheHits:              stats.CacheHits,
		TotalOutputTokens:      s.OutputTokens,
		TimeSeconds:            s.TimeSeconds,
		ThroughputTokensPerSec: s.PerSecond(outputAlone(s)),
		MemoryUsedBytes:        d.KVBytesPeak,
		MemoryUsedFormatted:    suite.FormatSize(d.KVBytesPeak),
		ChunkMemoryMB:          stats.of(d.KVBytesPerToken).MemoryUsedMB,
		BatchSize:              batchSize,
		CacheMisses:            stats.CacheMisses,
		TotalInputTokens:       s.InputTokens,
		chunkedDetails:         newChunkedDetails(mode, form, m),
		Details:                d,
	}
}
