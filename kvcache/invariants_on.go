//go:build invariants

package kvcache

// invariants says whether books are verified after each change, at a price.
const invariants = true
