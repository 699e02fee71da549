package engine

import "fmt"

// maxAnswers is the most answers that a request may ask for.
const maxAnswers = 128

// answerSeed is the seed of answer i of a request: the request's own for the first, for the others a number far from it
// and from each other (SplitMix64; Steele et al., "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
func answerSeed(seed uint64, i int) uint64 {
	if i == 0 {
		return seed
	}
	z := seed + uint64(i)*0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// answers is how many the request asks for.
func (r *Request) answers() int {
	if r.N < 1 || r.N > maxAnswers {
		return 1 // none, or an error
	}
	return r.N
}

// answer is the request for answer i alone.
func (r *Request) answer(i int) Request {
	one := *r
	one.Sampling.Seed = answerSeed(r.Sampling.Seed, i)
	return one
}

// answerName names answer i of request n in errors.
func (r *Request) answerName(n, i int) string {
	if r.N > 1 {
		return fmt.Sprintf("request %d, answer %d", n, i)
	}
	return fmt.Sprintf("request %d", n)
}
