package model

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBF16FromF32(t *testing.T) {
	for _, tt := range []struct {
		name string
		bits uint32
		want uint16
	}{
		{"zero", 0, 0},
		{"minus zero", 0x80000000, 0x8000},
		{"one", 0x3f800000, 0x3f80},
		{"below half rounds down", 0x3f807fff, 0x3f80},
		{"half to even, down", 0x3f808000, 0x3f80},
		{"half to even, up", 0x3f818000, 0x3f82},
		{"above half rounds up", 0x3f808001, 0x3f81},
		{"carry into the exponent", 0x3fffffff, 0x4000},
		{"smallest subnormal", 1, 0},
		{"largest subnormal", 0x007fffff, 0x0080},
		{"largest goes to infinity", 0x7f7fffff, 0x7f80},
		{"infinity", 0x7f800000, 0x7f80},
		{"minus infinity", 0xff800000, 0xff80},
		{"NaN", 0x7fc00000, 0x7fc0},
		{"NaN whose upper half looks infinite", 0x7f800001, 0x7fc0},
	} {
		if got := bf16FromF32(tt.bits); got != tt.want {
			t.Errorf("%s: got %#04x, want %#04x", tt.name, got, tt.want)
		}
	}
}

// TestF32FromF16 compares all 65,536 values with the definition.
func TestF32FromF16(t *testing.T) {
	for h := range 1 << 16 {
		sign, exponent, mantissa := 1-2*float64(h>>15), h>>10&31, float64(h&1023)
		var want float64
		switch {
		case exponent == 0:
			want = sign * math.Ldexp(mantissa, -24)
		case exponent < 31:
			want = sign * math.Ldexp(1024+mantissa, exponent-25)
		case mantissa == 0:
			want = math.Inf(int(sign))
		default:
			want = math.NaN()
		}
		got := float64(math.Float32frombits(f32FromF16(uint16(h))))
		if math.Float64bits(got) != math.Float64bits(want) && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Fatalf("%#04x: got %g, want %g", h, got, want)
		}
	}
}

func TestCountNonFinite(t *testing.T) {
	const seed = 7
	r := rand.New(rand.NewPCG(seed, 0))
	for n := range 40 { // every length around the words of the fast path
		x := Tensor{Name: "x", DType: BF16, Shape: []int{n}, Data: make([]byte, 2*n)}
		want := NonFinite{Tensor: "x", Values: n}
		for i := range n {
			bits := uint16(r.Uint32())
			switch r.IntN(6) {
			case 0:
				bits |= 0x7f81
			case 1:
				bits = bits&0x8000 | 0x7f80
			case 2:
				bits = bits&0x807f | 0x7f00 // almost
			}
			switch f := float64(math.Float32frombits(uint32(bits) << 16)); {
			case math.IsNaN(f):
				want.NaN++
			case math.IsInf(f, 0):
				want.Inf++
			}
			binary.LittleEndian.PutUint16(x.Data[2*i:], bits)
		}
		require.Equal(t, want, countNonFinite(x), "seed %d, n %d", seed, n)
	}
	f32 := binary.LittleEndian.AppendUint32(nil, math.Float32bits(math.MaxFloat32)) // infinite when rounded
	require.Equal(t, NonFinite{Inf: 1, Values: 1}, countNonFinite(Tensor{DType: F32, Shape: []int{1}, Data: f32}))
	f16 := []byte{0, 0x7c, 1, 0x7c, 0xff, 0x7b} // infinity, NaN, 65504
	require.Equal(t, NonFinite{NaN: 1, Inf: 1, Values: 3}, countNonFinite(Tensor{DType: F16, Shape: []int{3}, Data: f16}))
}

func BenchmarkCountNonFinite(b *testing.B) {
	x := Tensor{DType: BF16, Shape: []int{1 << 22}, Data: make([]byte, 1<<23)}
	b.SetBytes(int64(len(x.Data)))
	for b.Loop() {
		countNonFinite(x)
	}
}
