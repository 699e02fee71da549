package kernels

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/ref"
)

// weightIn is a random matrix in the given format.
func (r *rig) weightIn(format Format, cols int, biases bool, rows ...int) Weight {
	w := r.weight(cols, biases, rows...)
	if format == Int8 {
		r.toInt8(&w, 0, 127)
	}
	return w
}

// toInt8 makes int8 of a matrix, with blocks of so many columns and numbers up to most.
func (r *rig) toInt8(w *Weight, block, most int) {
	w.Format, w.Block = Int8, block
	for i := range w.Parts {
		p := &w.Parts[i]
		plain := p.Data.bytes()
		p.Data = r.alloc(w.bytes(p.Rows))
		require.NoError(r.tb, quantizeInt8(p.Data.bytes(), plain, p.Rows, w.Cols, w.block(), most))
	}
}

// int8Product is W·x + bias by package ref, added to y.
func int8Product(w Weight, x, y []float32) {
	q := make([]int16, len(x))
	scale := ref.QuantizeInt16(q, x)
	for _, part := range w.Parts {
		for o := range part.Rows {
			sum := float32(ref.Int8RowOf(part.Data.bytes(), o, w.Cols, w.block()).Dot(q) * scale)
			if !part.Bias.IsZero() {
				sum += ref.BF16(part.Bias.bytes(), o)
			}
			y[o] = sum + y[o]
		}
		y = y[part.Rows:]
	}
}

// TestInt8Blocks multiplies with blocks of every size, which end in the middle of a row too.
func TestInt8Blocks(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 2)
		for _, block := range []int{8, 32, 64, 200, 512} {
			for _, rows := range []int{1, 2, 3, 9, 30} {
				const cols = 525
				w := r.weight(cols, true, 37, 16)
				r.toInt8(&w, block, 127)
				x, out := r.floats(rows*cols), r.floats(rows*w.Rows)
				want := r.wantProduct(w, x, Buffer{}, out, rows)
				r.do(func(o Ops) error { return o.ProjAdd(&ProjAddParams{X: x, W: w, Out: out, Rows: rows}) })
				require.Equal(t, want, out.float32s(), "blocks of %d, %d rows", block, rows)
			}
		}
	})
}

// TestInt8Largest fills blocks with the largest numbers of one sign, so that the sum of a block is as large as it can get.
func TestInt8Largest(t *testing.T) {
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 1)
		const cols = 3 * maxInt8Block
		w := r.weight(cols, false, 5)
		for i := range 5 * cols {
			ref.PutBF16(w.Parts[0].Data.bytes(), i, -2)
		}
		r.toInt8(&w, maxInt8Block, 127)
		x := r.alloc(4 * cols)
		for i := range x.float32s() {
			x.float32s()[i] = -3
		}
		out := r.alloc(4 * 5)
		r.do(func(o Ops) error { return o.ProjAdd(&ProjAddParams{X: x, W: w, Out: out, Rows: 1}) })
		for _, y := range out.float32s() {
			require.InDelta(t, 6*cols, y, 0.01)
		}
	})
}

// TestInt8Specials: zeros stay zeros, and a number that is not finite spoils its own row alone.
func TestInt8Specials(t *testing.T) {
	infinity := float32(math.Inf(1))
	eachSet(t, func(t *testing.T, set string) {
		r := newRig(t, set, 1)
		const cols = 70
		w := r.weightIn(Int8, cols, false, 20)
		for _, bad := range []float32{0, 1e-38, float32(math.NaN()), infinity, -infinity} {
			x, out := r.floats(3*cols), r.alloc(4*3*20)
			for i := range cols {
				x.float32s()[cols+i] = 0
			}
			x.float32s()[cols+69] = bad
			r.do(func(o Ops) error { return o.ProjAdd(&ProjAddParams{X: x, W: w, Out: out, Rows: 3}) })
			for i, y := range out.float32s() {
				switch {
				case i/20 != 1:
					require.False(t, y == 0 || y-y != 0, "%v beside %v", y, bad)
				case bad-bad != 0:
					require.True(t, y-y != 0, "got %v of %v", y, bad)
				default:
					require.Zero(t, y)
				}
			}
		}
		plain := r.weight(cols, false, 20)
		ref.PutBF16(plain.Parts[0].Data.bytes(), 3*cols+5, infinity)
		r.toInt8(&plain, 0, 127)
		out := r.alloc(4 * 20)
		r.do(func(o Ops) error { return o.ProjAdd(&ProjAddParams{X: r.floats(cols), W: plain, Out: out, Rows: 1}) })
		for i, y := range out.float32s() {
			require.Equal(t, i == 3, y-y != 0, "row %d: %v", i, y)
		}
	})
}

// TestQuantizeInt8 compares every number with what it was made from.
func TestQuantizeInt8(t *testing.T) {
	r := newRig(t, "go", 1)
	for _, s := range []struct{ rows, cols int }{{1, 1}, {3, 7}, {16, 128}, {17, 129}, {100, 300}} {
		src := r.bf16s(s.rows * s.cols).bytes()
		dst := make([]byte, Int8Bytes(s.rows, s.cols))
		for i := range dst {
			dst[i] = 0xaa // all of it is written
		}
		require.NoError(t, QuantizeInt8(dst, src, s.rows, s.cols))
		got := make([]float32, s.cols)
		for row := range s.rows {
			ref.Int8RowOf(dst, row, s.cols, Int8Block).Values(got)
			for first := 0; first < s.cols; first += Int8Block {
				n, largest := min(Int8Block, s.cols-first), 0.0
				for i := range n {
					largest = max(largest, math.Abs(float64(ref.BF16(src, row*s.cols+first+i))))
				}
				for i := range n {
					want := ref.BF16(src, row*s.cols+first+i)
					require.InDelta(t, want, got[first+i], largest/127/2*1.0001, "[%d, %d] of %v", row, first+i, s)
				}
			}
		}
		again := make([]byte, len(dst))
		require.NoError(t, QuantizeInt8(again, src, s.rows, s.cols))
		require.Equal(t, dst, again)
	}
	require.EqualError(t, QuantizeInt8(make([]byte, 10), make([]byte, 6), 1, 3), "kernels: quantizing [1, 3]: 10 bytes from 6")
	require.Error(t, QuantizeInt8(nil, nil, 0, 3))
}

func TestInt8Checks(t *testing.T) {
	r := newRig(t, "go", 1)
	cases := []struct {
		change func(w *Weight)
		want   string
	}{
		{func(w *Weight) { w.Format = 3 }, "W.Format is 3, want BF16 or Int8"},
		{func(w *Weight) { w.Block = 12 }, "W.Block is 12, want a multiple of 8 up to 512"},
		{func(w *Weight) { w.Block = 520 }, "W.Block is 520"},
		{func(w *Weight) { w.Block = -8 }, "W.Block is -8"},
		{func(w *Weight) { w.Block = 64 }, "W.Parts[0].Data has 2432 bytes, want 2560 for [20, 70]"},
		{func(w *Weight) { w.Parts[0].Data.size-- }, "W.Parts[0].Data has 2431 bytes, want 2432"},
		{func(w *Weight) { w.Parts[0].Data = r.alloc(2500).Slice(8, 2432) }, "W.Parts[0].Data is not aligned to 64 bytes"},
		{func(w *Weight) { w.Parts[0].Scales = r.floats(20) }, "W.Parts[0].Scales are given"},
	}
	for _, c := range cases {
		w := r.weightIn(Int8, 70, false, 20)
		x, out := r.floats(70), r.floats(20)
		before := bits(out)
		c.change(&w)
		err := r.dev.Do(context.Background(), func(o Ops) error {
			return o.ProjAdd(&ProjAddParams{X: x, W: w, Out: out, Rows: 1})
		})
		require.ErrorContains(t, err, c.want)
		require.Equal(t, before, bits(out))
	}
}

func TestFormatNames(t *testing.T) {
	require.Equal(t, "bf16 int8 Format(9)", fmt.Sprint(BF16, " ", Int8, " ", Format(9)))
}

// int8Operations are the products of a fixture with weights in Int8.
func (r *rig) int8Operations(rows int) map[string]func(Ops) error {
	f := r.fixture(rows)
	head := f.Head.W
	head.Parts = append([]Part(nil), head.Parts...)
	f.Head.W = head // it shares its parts with Embed's table
	f.MoE = *r.moe(Int8, 64, 32, 4, 2, rows)
	for _, w := range []*Weight{&f.NormQKV.W, &f.ProjAdd.W, &f.NormGateUp.W, &f.SiluDownAdd.W, &f.Head.W} {
		r.toInt8(w, 0, 127)
	}
	return f.operations()
}
