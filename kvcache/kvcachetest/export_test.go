package kvcachetest

import (
	"slices"

	"github.com/quire-llm/quire/kvcache"
)

// VerifyWithout is Verify without one of its parts, and with the random one, which finds most bugs soonest, first.
func VerifyWithout(t TB, s kvcache.Strategy, name string) {
	all := parts()
	slices.Reverse(all)
	for _, part := range all {
		if part.name != name {
			part.run(t, s)
		}
	}
}

// VerifyRandom is the random part alone.
func VerifyRandom(t TB, s kvcache.Strategy) { random(t, s) }
