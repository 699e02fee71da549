package ref

import "math"

// RMSNorm sets out = x / √(mean(x²) + eps) ⊙ weight; weight is [len(x)] bfloat16. out may be x.
// https://arxiv.org/abs/1910.07467
func RMSNorm(out, x []float32, weight []byte, eps float32) {
	var squares float64
	for _, v := range x {
		squares += float64(v) * float64(v)
	}
	scale := float32(1 / math.Sqrt(squares/float64(len(x))+float64(eps)))
	for i, v := range x {
		out[i] = v * scale * BF16(weight, i)
	}
}

// SiluMul sets out = silu(gate) ⊙ up, where silu(g) = g / (1 + e^−g).
func SiluMul(out, gate, up []float32) {
	for i, g := range gate {
		out[i] = g / float32(1+math.Exp(-float64(g))) * up[i]
	}
}
