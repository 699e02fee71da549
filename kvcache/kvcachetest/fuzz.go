package kvcachetest

import "github.com/quire-llm/quire/kvcache"

// FuzzOps decodes operations from data and does them beside the twin, under the rules of [Run]. It is the body of a fuzz
// target:
//
//	func FuzzMine(f *testing.F) {
//		for _, seed := range kvcachetest.FuzzSeeds() {
//			f.Add(seed)
//		}
//		f.Fuzz(func(t *testing.T, data []byte) { kvcachetest.FuzzOps(t, Mine{}, data) })
//	}
func FuzzOps(t TB, s kvcache.Strategy, data []byte) {
	t.Helper()
	in := &scripted{data: data[:min(len(data), fuzzBytes)]}
	w := newWorld(t, s, drawConfig(in), in)
	w.replay = "the fuzzer's input"
	w.guard(func() {
		for len(in.data) > 0 {
			w.operate()
		}
		w.finish()
	})
}

// fuzzBytes is how much of an input counts: a longer one finds nothing more and takes its time.
const fuzzBytes = 1024

// FuzzSeeds are inputs for FuzzOps that reach most operations.
func FuzzSeeds() [][]byte {
	seeds := [][]byte{nil}
	for seed := range uint64(12) {
		in := newRandom(seed)
		data := make([]byte, 40<<(seed%4))
		for i := range data {
			data[i] = byte(in.below(256))
		}
		seeds = append(seeds, data)
	}
	return seeds
}
