package kvcache

// Pool owns the ids, reference counts, order of eviction, placement and capacity of an engine's blocks.
type Pool struct{}
