// Package ref computes every operation of package kernels in plain Go.
//
// It is the definition that the other kernels are tested against, and what runs where there is no C compiler. Sums are
// taken in float64 and rounded once; nothing else is done for speed or for accuracy. Weights and stored keys and values
// are little-endian bytes, because they may lie at odd addresses of a mapped file.
package ref
