package model

import (
	"encoding/binary"
	"math"
	"slices"
)

// DType is the element type of a stored tensor, as safetensors names it.
type DType string

// The element types that can be loaded. F16 and F32 are rounded to bfloat16.
const (
	BF16 DType = "BF16"
	F16  DType = "F16"
	F32  DType = "F32"
)

// bits is the size of one element; 0 for a type that safetensors does not have.
func (t DType) bits() int {
	switch t {
	case "F4":
		return 4
	case "F6_E2M3", "F6_E3M2":
		return 6
	case "BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ":
		return 8
	case "U16", "I16", F16, BF16:
		return 16
	case "U32", "I32", F32:
		return 32
	case "U64", "I64", "F64", "C64":
		return 64
	}
	return 0
}

func (t DType) loadable() bool { return slices.Contains([]DType{BF16, F16, F32}, t) }

// roundToBF16 writes the elements of src, which are of type from, to dst as bfloat16, rounded to nearest, ties to even.
func roundToBF16(dst, src []byte, from DType) {
	switch from {
	case F32:
		for i := 0; i+4 <= len(src); i += 4 {
			bits := bf16FromF32(binary.LittleEndian.Uint32(src[i:]))
			binary.LittleEndian.PutUint16(dst[i/2:], bits)
		}
	case F16:
		for i := 0; i+2 <= len(src); i += 2 {
			bits := bf16FromF32(f32FromF16(binary.LittleEndian.Uint16(src[i:])))
			binary.LittleEndian.PutUint16(dst[i:], bits)
		}
	}
}

// bf16FromF32 rounds the float32 with these bits to nearest, ties to even. NaN stays NaN.
func bf16FromF32(bits uint32) uint16 {
	if bits&0x7fffffff > 0x7f800000 {
		return uint16(bits>>16) | 0x40
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

// f32FromF16 is the bits of the float32 that equals the float16 h.
func f32FromF16(h uint16) uint32 {
	sign := uint32(h&0x8000) << 16
	exponent, mantissa := uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exponent {
	case 0: // zero or subnormal: mantissa·2⁻²⁴ is exact in float32
		return sign | math.Float32bits(float32(mantissa)*0x1p-24)
	case 0x1f:
		return sign | 0x7f800000 | mantissa<<13
	}
	return sign | (exponent+112)<<23 | mantissa<<13
}

// countNonFinite counts what of t is NaN or infinite as bfloat16. Types that cannot be loaded count as finite.
func countNonFinite(t Tensor) NonFinite {
	n := NonFinite{Tensor: t.Name, Values: elements(t.Shape)}
	count := func(bits uint16) {
		switch {
		case bits&0x7f80 != 0x7f80:
		case bits&0x7f == 0:
			n.Inf++
		default:
			n.NaN++
		}
	}
	d := t.Data
	switch t.DType {
	case BF16:
		for ; len(d) >= 8; d = d[8:] {
			w := binary.LittleEndian.Uint64(d)
			if !anyExponentFull(w) {
				continue
			}
			for shift := 0; shift < 64; shift += 16 {
				count(uint16(w >> shift))
			}
		}
		for ; len(d) >= 2; d = d[2:] {
			count(binary.LittleEndian.Uint16(d))
		}
	case F16:
		for ; len(d) >= 2; d = d[2:] {
			count(bf16FromF32(f32FromF16(binary.LittleEndian.Uint16(d))))
		}
	case F32:
		for ; len(d) >= 4; d = d[4:] {
			count(bf16FromF32(binary.LittleEndian.Uint32(d)))
		}
	}
	return n
}

// anyExponentFull reports whether one of four bfloat16 has all exponent bits set, as NaN and infinity do: flipped, they
// are a lane of zero, from which nothing can be taken without a borrow that sets its top bit.
func anyExponentFull(w uint64) bool {
	const exponents, ones, tops = 0x7f807f807f807f80, 0x0001000100010001, 0x8000800080008000
	return (^w&exponents-ones)&tops != 0
}
