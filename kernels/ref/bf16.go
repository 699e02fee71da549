package ref

import (
	"encoding/binary"
	"math"
)

// BF16 is element i of b, a run of bfloat16.
func BF16(b []byte, i int) float32 {
	return math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16)
}

// PutBF16 stores x as element i of b, rounded to the nearest bfloat16, ties to even. A NaN stays one.
func PutBF16(b []byte, i int, x float32) {
	bits := math.Float32bits(x)
	if x != x {
		bits |= 1 << 22 // or the bits that say NaN might be cut off
	} else {
		bits += 0x7fff + bits>>16&1
	}
	binary.LittleEndian.PutUint16(b[2*i:], uint16(bits>>16))
}

// RoundBF16 is x rounded to bfloat16.
func RoundBF16(x float32) float32 {
	var b [2]byte
	PutBF16(b[:], 0, x)
	return BF16(b[:], 0)
}

// F32 is element i of b, a run of float32.
func F32(b []byte, i int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
}

// PutF32 stores x as element i of b.
func PutF32(b []byte, i int, x float32) {
	binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(x))
}
