package ref

import (
	"encoding/binary"
	"math"
)

// QuantizeInt16 sets q to the whole numbers nearest to x / scale, for the scale that makes 32767 of the largest magnitude.
// For numbers that are not finite, or next to nothing, q is zeros. q may lie in the memory of x, from its start on.
func QuantizeInt16(q []int16, x []float32) (scale float32) {
	var largest, rest float32
	for _, v := range x {
		rest += v - v // not zero for NaN and infinity
		if v < 0 {
			v = -v
		}
		if v > largest {
			largest = v
		}
	}
	if rest != 0 || largest <= 1e-30 {
		clear(q)
		return rest
	}
	inverse := 32767 / largest
	for i, v := range x {
		q[i] = int16(math.RoundToEven(float64(v * inverse)))
	}
	return largest / 32767
}

// Int8Row is a row of a matrix in int8, in the layout of kernels.QuantizeInt8.
type Int8Row struct {
	group []byte // of 16 rows
	row   int
	block int // columns
	cols  int
}

// Int8RowOf is row r of a matrix of cols columns, whose blocks have so many.
func Int8RowOf(data []byte, r, cols, block int) Int8Row {
	bytes := 16 * (4*((cols+block-1)/block) + (cols+7)&^7)
	return Int8Row{group: data[r/16*bytes:][:bytes], row: r % 16, block: block, cols: cols}
}

// Dot is the product of the row and x. A block's sum is a whole number; the blocks' sums times their scales are added in
// order, rounded to float32 at every step.
func (w Int8Row) Dot(x []int16) float32 {
	var total float32
	at := 0
	for first := 0; first < w.cols; first += w.block {
		n := min(w.block, w.cols-first)
		scale := math.Float32frombits(binary.LittleEndian.Uint32(w.group[at+4*w.row:]))
		at += 64
		var sum int32
		for i, v := range x[first:][:n] {
			sum += int32(int8(w.group[at+i/2*32+2*w.row+i%2])) * int32(v)
		}
		at += (n + 7) &^ 7 * 16
		total += float32(float32(sum) * scale)
	}
	return total
}

// Values writes the row's numbers to out.
func (w Int8Row) Values(out []float32) {
	at := 0
	for first := 0; first < w.cols; first += w.block {
		n := min(w.block, w.cols-first)
		scale := math.Float32frombits(binary.LittleEndian.Uint32(w.group[at+4*w.row:]))
		at += 64
		for i := range n {
			out[first+i] = float32(int8(w.group[at+i/2*32+2*w.row+i%2])) * scale
		}
		at += (n + 7) &^ 7 * 16
	}
}
