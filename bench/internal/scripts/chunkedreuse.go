package scripts

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/kvcache"
)

const reuseMethod = "Chunked API (Cross-batch Reuse)"

// The texts that the prompts are made of.
var (
	reuseSystems = []string{
		"You are a helpful AI assistant.",
		"You are an expert who explains technical matters in plain words.",
		"You are a teacher who answers with short examples.",
	}
	reuseContexts = []string{
		"Context 1: Attention compares each token with all those before it, so that its cost grows with the length of the text.",
		"Context 2: A cache of keys and values trades memory for time: what was computed once is read and not computed again.",
		"Context 3: Blocks of a cache that several sequences use are counted. A block is free when the last of them has ended.",
		"Context 4: What nobody uses now may be wanted soon. It is kept until its place is needed for something better.",
		"Context 5: Requests come in batches. Later ones quote the same documents as earlier ones, in the same order or in another.",
	}
)

// ChunkedReuse draws the prompts of batches that follow each other from three system texts and five contexts.
func ChunkedReuse() suite.Benchmark {
	independent := reuseIn("chunked_reuse_independent", reuseMethod+independentMethod, kvcache.Chunked{Mode: kvcache.Independent})
	b := reuseIn("chunked_reuse", reuseMethod, kvcache.Chunked{})
	b.Independent = &independent
	return b
}

func reuseIn(name, method string, over kvcache.Chunked) suite.Benchmark {
	return suite.Benchmark{
		Name:     name,
		Short:    "Measure a KV cache that keeps chunks from one batch to the next",
		Method:   method,
		Heading:  method,
		Strategy: kvcache.Reuse{Over: over},
		Counted:  outputAlone,
		Cold:     true,
		Flags: func(f *pflag.FlagSet, s *suite.Settings) {
			f.IntVar(&s.Batches, "batches", 5, "batches that follow each other in one cache")
		},
		Points: func(s suite.Settings, p *suite.Prompts) []suite.Point { return reusePoints(method, modeOf(over), s, p) },
	}
}

// reusePoints are five calls with n questions each, for each batch size n.
func reusePoints(method, mode string, s suite.Settings, p *suite.Prompts) []suite.Point {
	var all []suite.Point
	for _, n := range s.BatchSizes {
		l := newLedger()
		register := func(text string) { l.register(text, p.CountTokens(text)) }
		for _, text := range append(reuseSystems[:len(reuseSystems):len(reuseSystems)], reuseContexts...) {
			register(text)
		}
		batches := make([][]engine.Request, s.Batches)
		stats := make([]ledgerStats, s.Batches)
		for b := range batches {
			for i := range n {
				system := reuseSystems[p.Length(0, len(reuseSystems)-1)]
				contexts := make([]string, p.Length(0, 3))
				for k := range contexts {
					contexts[k] = reuseContexts[p.Length(0, len(reuseContexts)-1)]
				}
				topics := make([]string, 5)
				for k := range topics {
					topics[k] = fmt.Sprintf("topic%d", p.Length(0, 100))
				}
				query := fmt.Sprintf("Batch %d, Query %d: What is %s?", b, i, strings.Join(topics, " "))
				register(query)
				l.get(2 + len(contexts))
				request := s.Request(b*n + i)
				request.Chunks = p.Chunks(system, contexts, query)
				batches[b] = append(batches[b], request)
			}
			stats[b] = l.snapshot()
		}
		all = append(all, suite.Point{
			Label:   fmt.Sprintf("batch size: %d", n),
			Name:    fmt.Sprintf("batch=%d", n),
			Batches: batches,
			Row:     func(m suite.Measured) any { return newReuseRow(method, mode, p.Form(), n, stats, m) },
			Ahead:   func(m suite.Measured) []string { return batchLines(stats, m.Sample) },
			Lines: func(m suite.Measured) []string {
				kept := fmt.Sprintf("KV kept for later: %s in %d blocks", suite.FormatSize(keptBytes(m)), m.Sample.KVBlocksKept)
				return append(chunkLines(stats[len(stats)-1], m), kept)
			},
		})
	}
	return all
}

// batchLines are the original's lines of the batches, which it prints while they run, and then what was measured of each.
func batchLines(stats []ledgerStats, s suite.Sample) []string {
	var lines []string
	for i, b := range s.Batches {
		lines = append(lines,
			fmt.Sprintf("  Batch %d: %.2fs, Cache hits: %d", i+1, b.TimeSeconds, stats[i].CacheHits),
			fmt.Sprintf("    %d tokens computed, %d reused", b.TokensComputed, b.TokensReused))
	}
	return lines
}

func keptBytes(m suite.Measured) int64 {
	return int64(m.Sample.KVBlocksKept) * int64(m.Details.KVBlockTokens) * int64(m.Details.KVBytesPerToken)
}

// reuseRow is an object of results_chunked_reuse.json: the original's keys in their order, then ours.
type reuseRow struct {
	Method                 string        `json:"method"`
	NumBatches             int           `json:"num_batches"`
	BatchSize              int           `json:"batch_size"`
	TotalSequences         int           `json:"total_sequences"`
	NumUniqueChunks        int           `json:"num_unique_chunks"`
	TotalCacheHits         int           `json:"total_cache_hits"`
	TotalOutputTokens      int           `json:"total_output_tokens"`
	TimeSeconds            float64       `json:"time_seconds"`
	ThroughputTokensPerSec float64       `json:"throughput_tokens_per_sec"`
	MemoryUsedBytes        int64         `json:"memory_used_bytes"`
	MemoryUsedFormatted    string        `json:"memory_used_formatted"`
	ChunkMemoryMB          float64       `json:"chunk_memory_mb"`
	BatchStats             []ledgerStats `json:"batch_stats"`

	CacheMisses      int                 `json:"cache_misses"`
	TotalInputTokens int                 `json:"total_input_tokens"`
	KVBlocksKept     int                 `json:"kv_blocks_kept"` // for later, when the last batch had ended
	KVBytesKept      int64               `json:"kv_bytes_kept"`
	Batches          []suite.BatchSample `json:"batches"` // measured, of the same repeat as the row
	chunkedDetails
	suite.Details
}

func newReuseRow(method, mode, form string, batchSize int, stats []ledgerStats, m suite.Measured) reuseRow {
	s, d := m.Sample, m.Details
	filled := make([]ledgerStats, len(stats))
	for i := range stats {
		filled[i] = stats[i].of(d.KVBytesPerToken)
	}
	last := filled[len(filled)-1]
	return reuseRow{
		Method:                 method,
		NumBatches:             len(stats),
		BatchSize:              batchSize,
		TotalSequences:         len(stats) * batchSize,
		NumUniqueChunks:        last.TotalChunks,
		TotalCacheHits:         last.CacheHits,
		TotalOutputTokens:      s.OutputTokens,
		TimeSeconds:            s.TimeSeconds,
		ThroughputTokensPerSec: s.PerSecond(outputAlone(s)),
		MemoryUsedBytes:        d.KVBytesPeak,
		MemoryUsedFormatted:    suite.FormatSize(d.KVBytesPeak),
		ChunkMemoryMB:          last.MemoryUsedMB,
		BatchStats:             filled,
		CacheMisses:            last.CacheMisses,
		TotalInputTokens:       s.InputTokens,
		KVBlocksKept:           s.KVBlocksKept,
		KVBytesKept:            keptBytes(m),
		Batches:                s.Batches,
		chunkedDetails:         newChunkedDetails(mode, form, m),
		Details:                d,
	}
}
