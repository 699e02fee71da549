package kvcachetest

import "github.com/quire-llm/quire/kvcache"

// VerifyWithout is Verify without one of its parts, and with the random one, which finds most bugs soonest, first.
func VerifyWithout(t TB, s kvcache.Strategy, name string) {
	random(t, s)
	for _, part := range parts() {
		if part.name != name && part.name != "random" {
			part.run(t, s)
		}
	}
}

// VerifyPart is one part alone.
func VerifyPart(t TB, s kvcache.Strategy, name string) {
	for _, part := range parts() {
		if part.name == name {
			part.run(t, s)
		}
	}
}
