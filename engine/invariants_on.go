//go:build invariants

package engine

// invariants: every engine of a test build verifies the cache's books after each step.
const invariants = true
