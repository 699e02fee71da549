// Package fair measures every KV-cache strategy on the same token workloads, with the same pool, sampler and seeds, in turns
// with the standard one. It counts what had to be computed from the prompts alone, and holds the forward pass to it.
package fair

import (
	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/kvcache"
)

// strategy is a way of caching, as a row of each workload.
type strategy struct {
	label     string
	cache     kvcache.Strategy
	attention attention.Mode
	sharing   sharing // what the tokens that it computes are counted by
	repeating bool    // only for workloads that repeat something
}

// strategies are all rows of a workload. The first is what the others are compared with.
func strategies() []strategy {
	return []strategy{
		{label: "standard", cache: kvcache.Standard{}},
		{label: "cascade", cache: kvcache.Cascade{}, sharing: sharing{prefixes: true}},
		{label: "shared blocks, ordinary attention", cache: kvcache.Cascade{}, attention: attention.Ordinary, sharing: sharing{prefixes: true}},
		{label: "reuse", cache: kvcache.Reuse{Over: kvcache.Cascade{}}, sharing: sharing{prefixes: true, keeps: true}},
		{label: "chunked exact, reuse", cache: kvcache.Reuse{Over: kvcache.Chunked{}}, sharing: sharing{chunks: true, keeps: true}, repeating: true},
	}
}
