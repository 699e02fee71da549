package ref

// Dot is the product of a bfloat16 row and x. It sums in four float64 lanes; lane i takes the elements i, i+4, i+8, …
func Dot(w []byte, x []float32) float32 {
	var sum [4]float64
	n := len(x) &^ 3
	for i := 0; i < n; i += 4 {
		sum[0] += float64(BF16(w, i)) * float64(x[i])
		sum[1] += float64(BF16(w, i+1)) * float64(x[i+1])
		sum[2] += float64(BF16(w, i+2)) * float64(x[i+2])
		sum[3] += float64(BF16(w, i+3)) * float64(x[i+3])
	}
	for i := n; i < len(x); i++ {
		sum[i-n] += float64(BF16(w, i)) * float64(x[i])
	}
	return float32(sum[0] + sum[1] + (sum[2] + sum[3]))
}

// MatVec sets y[r] = sum over c of w[r,c]·x[c] + bias[r], or adds it to y[r]. w is [len(y), len(x)] bfloat16; bias is
// [len(y)] bfloat16 or nil.
func MatVec(y []float32, w []byte, x []float32, bias []byte, add bool) {
	rowBytes := 2 * len(x)
	for r := range y {
		sum := Dot(w[r*rowBytes:], x)
		if bias != nil {
			sum += BF16(bias, r)
		}
		if add {
			sum += y[r]
		}
		y[r] = sum
	}
}

// Embed sets out to row token of table, [vocab, len(out)] bfloat16.
func Embed(out []float32, table []byte, token int) {
	row := table[2*token*len(out):]
	for i := range out {
		out[i] = BF16(row, i)
	}
}
