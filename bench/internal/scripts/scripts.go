// Package scripts holds the benchmarks of the original suite, one for each of its scripts: what they ask, in the order in
// which the original draws it from Python's random numbers, and what they call the answer.
package scripts

import "github.com/quire-llm/quire/bench/internal/suite"

// All are the benchmarks in the original's order.
func All() []suite.Benchmark {
	return []suite.Benchmark{Standard(), Cascade(), Chunked(), ChunkedReuse()}
}
