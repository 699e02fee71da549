//go:build !invariants

package engine

// invariants is set by -tags invariants; see Options.CheckInvariants.
const invariants = false
