package kernels

import (
	"sync/atomic"
	"unsafe"
)

// goProbe is the loops in plain Go: less than the machine's limit, but what there is without a C compiler.
var goProbe = probeSet{name: "go", read: kernel{compute: goProbeRead}, read4: kernel{compute: goProbeRead4}, fma: kernel{compute: goProbeFMA}, fmaOps: 2 * 8}

// words is unit u of the data.
func (a *probeArgs) words(u int) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Add(a.data, int64(u)*a.unitBytes)), a.unitBytes/8)
}

// use takes a result, so that the compiler cannot leave out what it comes from.
func (a *probeArgs) use(result uint64) { atomic.AddInt64(&a.sink, int64(result)) }

func goProbeRead(args unsafe.Pointer) {
	a := (*probeArgs)(args)
	sum := uint64(0)
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		sum ^= xor(a.words(lo))
	}
	a.use(sum)
}

func goProbeRead4(args unsafe.Pointer) {
	a := (*probeArgs)(args)
	var s [4]uint64
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		words := a.words(lo)
		n := len(words) / 4
		for p, q, v, w := words[:n], words[n:2*n], words[2*n:3*n], words[3*n:4*n]; len(p) >= 8 && len(q) >= 8 && len(v) >= 8 && len(w) >= 8; {
			s[0] ^= xor(p[:8])
			s[1] ^= xor(q[:8])
			s[2] ^= xor(v[:8])
			s[3] ^= xor(w[:8])
			p, q, v, w = p[8:], q[8:], v[8:], w[8:]
		}
	}
	a.use(xor(s[:]))
}

// xor is that of all words, in eight chains: the processor waits for memory and not for itself.
func xor(words []uint64) uint64 {
	var s [8]uint64
	for ; len(words) >= 8; words = words[8:] {
		w := words[:8:8]
		s[0] ^= w[0]
		s[1] ^= w[1]
		s[2] ^= w[2]
		s[3] ^= w[3]
		s[4] ^= w[4]
		s[5] ^= w[5]
		s[6] ^= w[6]
		s[7] ^= w[7]
	}
	for _, w := range words {
		s[0] ^= w
	}
	return s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7]
}

func goProbeFMA(args unsafe.Pointer) {
	a := (*probeArgs)(args)
	x, y := float32(0.5), 1+float32(a.ahead)
	s0, s1, s2, s3, s4, s5, s6, s7 := x, x, x, x, x, x, x, x
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		for range a.steps {
			s0, s1, s2, s3 = s0*x+y, s1*x+y, s2*x+y, s3*x+y
			s4, s5, s6, s7 = s4*x+y, s5*x+y, s6*x+y, s7*x+y
		}
	}
	a.use(uint64(s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7))
}
