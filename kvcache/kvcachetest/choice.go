package kvcachetest

import "math/rand/v2"

// choices is where a world's decisions come from: a seeded generator, or a fuzzer's bytes.
type choices interface {
	// below chooses 0 to n-1.
	below(n int) int
}

// newRandom makes choices that the seed determines.
func newRandom(seed uint64) choices { return (*seeded)(rand.New(rand.NewPCG(seed, 0))) }

type seeded rand.Rand

func (s *seeded) below(n int) int { return (*rand.Rand)(s).IntN(n) }

// scripted takes its choices from bytes, and chooses 0 when they are used up.
type scripted struct{ data []byte }

func (s *scripted) below(n int) int {
	if len(s.data) == 0 {
		return 0
	}
	v := int(s.data[0])
	s.data = s.data[1:]
	if n > 256 && len(s.data) > 0 {
		v = v<<8 | int(s.data[0])
		s.data = s.data[1:]
	}
	return v % n
}

// oneIn is true in one of n cases on average.
func oneIn(in choices, n int) bool { return in.below(n) == n-1 }

// among chooses one of the values.
func among[T any](in choices, values ...T) T { return values[in.below(len(values))] }

// config is what varies between worlds.
type config struct {
	blockTokens, blocks, maxTokens int
	anyPosition                    bool
}

// drawConfig chooses a world: mostly pools that are too small for what is asked of them.
func drawConfig(in choices) config {
	blockTokens := among(in, 16, 16, 32, 64)
	return config{
		blockTokens: blockTokens,
		blocks:      among(in, 3, 6, 10, 16, 24, 40),
		maxTokens:   among(in, 4, 7, 12)*blockTokens + among(in, -1, 0, 3),
		anyPosition: !oneIn(in, 4),
	}
}

// pieces is how many different runs of tokens prompts are made of: few, so that prompts share prefixes, and so that the
// same run stands after different ones.
const pieces = 3

// piece is token i of a run. Runs differ in every token.
func piece(run, i int) int32 { return int32(run*100 + (i*i+run*i)%37) }

// prompt makes a prompt of n tokens out of runs as long as a block, as the choices say.
func (w *world) prompt(n int) kvPrompt {
	tokens := make([]int32, 0, n)
	var ends []int
	length := w.blockTokens
	if oneIn(w.in, 4) {
		length = among(w.in, 5, w.blockTokens-1, w.blockTokens+1) // chunks do not end with blocks
	}
	for len(tokens) < n {
		run := w.in.below(pieces)
		for i := 0; i < length && len(tokens) < n; i++ {
			tokens = append(tokens, piece(run, i))
		}
		ends = append(ends, len(tokens))
	}
	if oneIn(w.in, 4) { // the end is nobody else's
		tokens[n-1] = w.fresh()
	}
	p := kvPrompt{Tokens: tokens}
	if oneIn(w.in, 2) {
		p.Chunks = ends[:len(ends)-w.in.below(2)]
	}
	if oneIn(w.in, 5) {
		p.Salt = "tenant"
	}
	p.ComputeAll = oneIn(w.in, 10)
	return p
}

// length chooses a prompt's length, mostly about whole blocks: k·B-1, k·B, k·B+1.
func (w *world) length() int {
	if oneIn(w.in, 4) {
		return 1 + w.in.below(w.maxTokens+2)
	}
	most := min(w.pool.Blocks(), 6)
	return max(1, (1+w.in.below(most))*w.blockTokens-1+w.in.below(3))
}
