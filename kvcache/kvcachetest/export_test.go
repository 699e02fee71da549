package kvcachetest

import "github.com/quire-llm/quire/kvcache"

// VerifyWithout is Verify without one of its parts.
func VerifyWithout(t TB, s kvcache.Strategy, name string) {
	for _, part := range parts() {
		if part.name != name {
			part.run(t, s)
		}
	}
}

// VerifyRandom is the random part alone.
func VerifyRandom(t TB, s kvcache.Strategy) { random(t, s) }
