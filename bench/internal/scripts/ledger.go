package scripts

// ledger counts as the original's registry of chunks does, which is a dictionary of texts: a hit is a text that was
// registered before, or asked for; a miss is a new one. It says nothing of keys and values: those are measured.
type ledger struct {
	tokens map[string]int // length of each text alone
	stats  ledgerStats
}

// ledgerStats is the original's get_chunk_stats() in its order. What memory the texts' keys and values take is what the
// model's geometry says; the original has a number written down that no model has.
type ledgerStats struct {
	TotalChunks     int     `json:"total_chunks"`
	MaxChunks       int     `json:"max_chunks"`
	CacheHits       int     `json:"cache_hits"`
	CacheMisses     int     `json:"cache_misses"`
	HitRate         float64 `json:"hit_rate"`
	Evictions       int     `json:"evictions"`
	TotalRegistered int     `json:"total_registered"`
	MemoryUsedMB    float64 `json:"memory_used_mb"`
	TotalTokens     int     `json:"total_tokens"`
}

// originalMaxChunks is more than any of the workloads has: nothing is evicted.
const originalMaxChunks = 1000

func newLedger() *ledger {
	return &ledger{tokens: map[string]int{}, stats: ledgerStats{MaxChunks: originalMaxChunks}}
}

// register takes a text of so many tokens in.
func (l *ledger) register(text string, tokens int) {
	if _, known := l.tokens[text]; known {
		l.stats.CacheHits++
		return
	}
	l.tokens[text] = tokens
	l.stats.CacheMisses++
	l.stats.TotalRegistered++
	l.stats.TotalChunks++
	l.stats.TotalTokens += tokens
}

// get asks for n registered texts.
func (l *ledger) get(n int) { l.stats.CacheHits += n }

// snapshot is how things stand.
func (l *ledger) snapshot() ledgerStats {
	s := l.stats
	if all := s.CacheHits + s.CacheMisses; all > 0 {
		s.HitRate = float64(s.CacheHits) / float64(all)
	}
	return s
}

// of fills in the memory of a model with so many key and value bytes a token.
func (s ledgerStats) of(bytesPerToken int) ledgerStats {
	s.MemoryUsedMB = float64(s.TotalTokens) * float64(bytesPerToken) / (1 << 20)
	return s
}
