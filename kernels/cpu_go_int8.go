package kernels

import (
	"unsafe"

	"github.com/quire-llm/quire/kernels/ref"
)

// quantizeRow replaces the float32 of a row by int16 and their scale, as quantize_row of cpu_int8.h does.
func quantizeRow(row unsafe.Pointer, cols int64) {
	scale := ref.QuantizeInt16(unsafe.Slice((*int16)(row), cols), floats(row, 0, cols))
	*(*float32)(unsafe.Add(row, int8ScaleAt(int(cols)))) = scale
}

func goInt8Norm(args unsafe.Pointer) {
	a := (*normArgs)(args)
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		for u := lo; u < hi; u++ {
			row := int64(u)
			if a.index != nil {
				row = int32At(a.index, u)
			}
			out := unsafe.Add(a.out, int64(u)*a.outStride)
			if x := floats(a.x, row*a.cols, a.cols); a.norm == nil {
				copy(floats(out, 0, a.cols), x)
			} else {
				ref.RMSNorm(floats(out, 0, a.cols), x, bf16s(a.norm, 0, a.cols), a.eps)
			}
			quantizeRow(out, a.cols)
		}
	}
}

func goInt8Gate(args unsafe.Pointer) {
	a := (*gateArgs)(args)
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		for u := int64(lo); u < int64(hi); u++ {
			gate, up := floats(a.in, 2*u*a.cols, a.cols), floats(a.in, (2*u+1)*a.cols, a.cols)
			out := unsafe.Add(a.out, u*a.outStride)
			ref.SiluMul(floats(out, 0, a.cols), gate, up)
			quantizeRow(out, a.cols)
		}
	}
}

func goInt8Matmul(args unsafe.Pointer) {
	a := (*int8Args)(args)
	for lo, hi := a.claim(); lo < hi; lo, hi = a.claim() {
		for u := int64(lo); u < int64(hi); u++ {
			chunk, first := u/a.blocks*a.chunkRows, u%a.blocks*a.blockGroups
			for r := chunk; r < min(chunk+a.chunkRows, a.rows); r++ {
				goInt8Groups(a, r, first, first+a.blockGroups)
			}
		}
	}
}

// goInt8Groups computes row r of y for the groups [first, end) of W.
func goInt8Groups(a *int8Args, r, first, end int64) {
	row := unsafe.Add(a.x, r*a.xStride)
	x, scale := unsafe.Slice((*int16)(row), a.cols), *(*float32)(unsafe.Add(row, int8ScaleAt(int(a.cols))))
	start, y := int64(0), floats(a.y, r*a.yCols, a.yCols) // group, and outputs, from the part's first row on
	for _, part := range unsafe.Slice((*matmulPart)(a.parts), a.partCount) {
		groups := (part.rows + int8Group - 1) / int8Group
		data := unsafe.Slice((*byte)(part.data), groups*a.groupBytes)
		bias := bf16s(part.bias, 0, part.rows)
		for o := max(first-start, 0) * int8Group; o < min((end-start)*int8Group, part.rows); o++ {
			sum := float32(ref.Int8RowOf(data, int(o), int(a.cols), int(a.block)).Dot(x) * scale)
			if bias != nil {
				sum += ref.BF16(bias, int(o))
			}
			if a.add != 0 {
				sum += y[o]
			}
			y[o] = sum
		}
		start, y = start+groups, y[part.rows:]
	}
}
