package tokenizer

import "sync/atomic"

// answer is what is known about a token.
type answer uint32

const (
	unknown answer = iota
	yes
	no
)

// answers remembers an answer for each token, found at any time by any goroutine: two bits each. All who find one find
// the same.
type answers []atomic.Uint32

func newAnswers(tokens int) answers { return make(answers, tokens/16+1) }

func (a answers) get(id int32) answer {
	return answer(a[id>>4].Load()>>(id&15*2)) & 3
}

func (a answers) set(id int32, is bool) {
	found := no
	if is {
		found = yes
	}
	a[id>>4].Or(uint32(found) << (id & 15 * 2))
}
