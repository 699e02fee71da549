package ref

// Rotate turns the pairs (x[i], x[i+len(x)/2]) by the angles whose cosines and sines are given.
// https://arxiv.org/abs/2104.09864
func Rotate(x, cos, sin []float32) {
	half := len(x) / 2
	for i := range half {
		a, b := x[i], x[i+half]
		x[i] = float32(a*cos[i]) - float32(b*sin[i])
		x[i+half] = float32(b*cos[i]) + float32(a*sin[i])
	}
}

// RotateBack sets out to q turned by −delta positions, with the table of QKNormRopeWrite: [positions, len(q)], cosines
// then sines. YaRN's factor, which the table's entries carry and q has already, is divided out: it is the cosine of
// position 0.
func RotateBack(out, q, table []float32, delta int) {
	half, sign := len(q)/2, float32(-1)
	if delta < 0 {
		delta, sign = -delta, 1
	}
	row := table[delta*len(q):]
	for i := range half {
		cos, sin := row[i]/table[0], sign*row[i+half]/table[0]
		a, b := q[i], q[i+half]
		out[i] = float32(a*cos) - float32(b*sin)
		out[i+half] = float32(b*cos) + float32(a*sin)
	}
}

// Head normalizes one query or key head where there are norm weights, then rotates it. rope is the table's row for the
// token's position.
func Head(x []float32, norm []byte, eps float32, rope []float32) {
	if norm != nil {
		RMSNorm(x, x, norm, eps)
	}
	half := len(x) / 2
	Rotate(x, rope[:half], rope[half:2*half])
}
