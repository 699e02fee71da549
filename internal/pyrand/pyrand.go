// Package pyrand draws the random numbers that Python's random.Random draws.
//
// The benchmark suite's workloads are defined by a Python script and a seed. With the same stream the same prompts come
// out here, so that figures can be compared with those of the original.
package pyrand

import "math/bits"

// Random is Python's random.Random: the Mersenne Twister MT19937 and the ways in which CPython (3.2 and later) makes
// integers and floats of it. It is not safe for concurrent use.
//
// Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 8(1), 1998.
type Random struct {
	state [stateWords]uint32
	next  int // index in state of the next word to give out; stateWords: twist first
}

const (
	stateWords  = 624
	shiftWords  = 397
	matrixA     = 0x9908b0df
	upperMask   = 0x80000000
	lowerMask   = 0x7fffffff
	arraySeed   = 19650218
	knuthFactor = 1812433253
)

// New is random.Random(seed). Python takes the absolute value of a seed.
func New(seed int64) *Random {
	r := &Random{}
	r.Seed(seed)
	return r
}

// Seed starts the stream again, as random.seed(seed) does.
func (r *Random) Seed(seed int64) {
	magnitude := uint64(seed)
	if seed < 0 {
		magnitude = -magnitude
	}
	key := []uint32{uint32(magnitude)}
	if high := uint32(magnitude >> 32); high != 0 {
		key = append(key, high)
	}
	r.initByArray(key)
}

// initBySeed fills the state from one word.
func (r *Random) initBySeed(seed uint32) {
	r.state[0] = seed
	for i := 1; i < stateWords; i++ {
		previous := r.state[i-1]
		r.state[i] = knuthFactor*(previous^previous>>30) + uint32(i)
	}
	r.next = stateWords
}

// initByArray fills the state from the words of an integer, least significant first.
func (r *Random) initByArray(key []uint32) {
	r.initBySeed(arraySeed)
	s := &r.state
	i, j := 1, 0
	for range max(stateWords, len(key)) {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1664525) + key[j] + uint32(j)
		i, j = i+1, j+1
		if i == stateWords {
			s[0] = s[stateWords-1]
			i = 1
		}
		if j == len(key) {
			j = 0
		}
	}
	for range stateWords - 1 {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1566083941) - uint32(i)
		i++
		if i == stateWords {
			s[0] = s[stateWords-1]
			i = 1
		}
	}
	s[0] = upperMask
}

// twist makes the next 624 words of the state.
func (r *Random) twist() {
	s := &r.state
	for i := range s {
		y := s[i]&upperMask | s[(i+1)%stateWords]&lowerMask
		mixed := y >> 1
		if y&1 == 1 {
			mixed ^= matrixA
		}
		s[i] = s[(i+shiftWords)%stateWords] ^ mixed
	}
	r.next = 0
}

// Uint32 is the next word of the stream.
func (r *Random) Uint32() uint32 {
	if r.next == stateWords {
		r.twist()
	}
	y := r.state[r.next]
	r.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// Bits is random.getrandbits(k) for k in [0, 64]. It panics for other k.
func (r *Random) Bits(k int) uint64 {
	switch {
	case k < 0 || k > 64:
		panic("pyrand: bits outside [0, 64]")
	case k == 0:
		return 0
	case k <= 32:
		return uint64(r.Uint32() >> (32 - k))
	}
	low := uint64(r.Uint32())
	return low | uint64(r.Uint32()>>(64-k))<<32
}

// Below is a uniform integer in [0, n), by rejection as Random._randbelow does it. It panics if n is not positive.
func (r *Random) Below(n int) int {
	if n <= 0 {
		panic("pyrand: empty range")
	}
	k := bits.Len(uint(n))
	for {
		if x := r.Bits(k); x < uint64(n) {
			return int(x)
		}
	}
}

// IntRange is random.randint(low, high): a uniform integer in [low, high], both ends included. It panics if high < low.
func (r *Random) IntRange(low, high int) int { return low + r.Below(high-low+1) }

// Float64 is random.random(): uniform in [0, 1) with 53 bits.
func (r *Random) Float64() float64 {
	a, b := r.Uint32()>>5, r.Uint32()>>6
	return (float64(a)*(1<<26) + float64(b)) / (1 << 53)
}

// Choice is random.choice(items). It panics if there are none.
func Choice[T any](r *Random, items []T) T { return items[r.Below(len(items))] }
