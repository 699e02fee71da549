package ref

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// random is a source with a fixed seed: these tests compare formulas, not implementations.
func random() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// normals is n normally distributed numbers.
func normals(rng *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(rng.NormFloat64())
	}
	return out
}

// encode stores numbers as bfloat16.
func encode(values []float32) []byte {
	out := make([]byte, 2*len(values))
	for i, v := range values {
		PutBF16(out, i, v)
	}
	return out
}

func TestBF16RoundTrip(t *testing.T) {
	b := make([]byte, 2)
	for bits := range 1 << 16 { // every bfloat16 is stored as itself
		want := math.Float32frombits(uint32(bits) << 16)
		PutBF16(b, 0, want)
		if got := BF16(b, 0); got != want && !(got != got && want != want) {
			t.Fatalf("%04x: got %v, want %v", bits, got, want)
		}
	}
}

func TestBF16RoundsToNearestEven(t *testing.T) {
	for _, c := range []struct{ value, want float32 }{
		{1 + 1.0/256, 1}, // between 1 and 1+1/128: to the even one
		{1 + 3.0/256, 1 + 2.0/128},
		{1 + 1.0/256 + 1e-6, 1 + 1.0/128},
		{1 + 1.0/256 - 1e-6, 1},
		{-1 - 3.0/256, -1 - 2.0/128},
		{math.MaxFloat32, float32(math.Inf(1))},
		{float32(math.Inf(-1)), float32(math.Inf(-1))},
	} {
		b := make([]byte, 2)
		PutBF16(b, 0, c.value)
		require.Equal(t, c.want, BF16(b, 0), "rounding %v", c.value)
	}
}

func TestMatVec(t *testing.T) {
	w := encode([]float32{1, 2, 3, 4, 5, 6})
	x, bias := []float32{10, 100, 1000}, encode([]float32{0.5, -0.5})
	y := []float32{1, 2}
	MatVec(y, w, x, nil, false)
	require.Equal(t, []float32{3210, 6540}, y)
	MatVec(y, w, x, bias, true)
	require.Equal(t, []float32{6420.5, 13079.5}, y)
}

func TestRMSNorm(t *testing.T) {
	x := []float32{3, 4, 0, 0}
	out := make([]float32, 4)
	RMSNorm(out, x, encode([]float32{1, 2, 1, 1}), 0) // the root of the mean square is 2.5
	require.InDeltaSlice(t, []float32{1.2, 3.2, 0, 0}, out, 1e-6)
	RMSNorm(out, make([]float32, 4), encode([]float32{1, 1, 1, 1}), 1e-6)
	require.Equal(t, make([]float32, 4), out)
}

func TestSiluMul(t *testing.T) {
	out := make([]float32, 3)
	SiluMul(out, []float32{0, 1, -200}, []float32{5, 2, 1})
	require.InDeltaSlice(t, []float32{0, 2 / (1 + float32(math.Exp(-1))), 0}, out, 1e-6)
}

// table is a rope table of two-dimensional rotations by its position's angle.
func table(positions, dim int, factor float64) []float32 {
	out := make([]float32, positions*dim)
	for p := range positions {
		for i := range dim / 2 {
			angle := float64(p) / float64(1+i)
			out[p*dim+i], out[p*dim+dim/2+i] = float32(factor*math.Cos(angle)), float32(factor*math.Sin(angle))
		}
	}
	return out
}

func TestRotate(t *testing.T) {
	x := []float32{1, 0, 0, 1}                  // the pairs (1, 0) and (0, 1)
	Rotate(x, []float32{0, 0}, []float32{1, 1}) // by a quarter
	require.Equal(t, []float32{0, -1, 1, 0}, x)
}

func TestRotateBack(t *testing.T) {
	rng := random()
	const dim = 16
	for _, factor := range []float64{1, 1.3} {
		rope := table(100, dim, factor)
		for _, c := range []struct{ at, delta int }{{at: 50, delta: 20}, {at: 50, delta: -20}, {at: 3, delta: 3}, {at: 9, delta: 0}} {
			raw := normals(rng, dim)
			got, want := slices.Clone(raw), slices.Clone(raw)
			Rotate(got, rope[c.at*dim:][:dim/2], rope[c.at*dim+dim/2:][:dim/2])
			RotateBack(got, slices.Clone(got), rope, c.delta)
			to := c.at - c.delta
			Rotate(want, rope[to*dim:][:dim/2], rope[to*dim+dim/2:][:dim/2])
			require.InDeltaSlice(t, want, got, 1e-5, "from %d by %d, factor %v", c.at, c.delta, factor)
		}
	}
}

// TestAttend compares with a softmax written down in full.
func TestAttend(t *testing.T) {
	rng := random()
	const dim, heads, blockTokens, blocks = 8, 2, 4, 5
	c := &Cache{Type: CacheF32, BlockTokens: blockTokens, VOffset: 4 * heads * dim, TokenStride: 8 * heads * dim}
	c.BlockStride = blockTokens * c.TokenStride
	c.Base = make([]byte, blocks*c.BlockStride)
	keys, values := make([][]float32, blocks*blockTokens), make([][]float32, blocks*blockTokens)
	for slot := range keys {
		keys[slot], values[slot] = normals(rng, dim), normals(rng, dim)
		c.Store(keys[slot], values[slot], slot, 1)
	}
	rope := table(50, dim, 1)
	segments := []Segment{{Block: 0, Off: 1, Len: 6, Pos: 0, Stored: 0}, {Block: 2, Off: 0, Len: 5, Pos: 6, Stored: 20}, {Block: 4, Off: 2, Len: 2, Pos: 11, Stored: 11}}
	ids := []int32{3, 0, 4, 2, 1}
	q := normals(rng, dim)
	for pos := -1; pos < 14; pos++ {
		var scores []float64
		var seen [][]float32
		for _, s := range segments {
			query := slices.Clone(q)
			RotateBack(query, q, rope, int(s.Pos-s.Stored))
			for i := range int(s.Len) {
				at := int(s.Off) + i
				slot := int(ids[int(s.Block)+at/blockTokens])*blockTokens + at%blockTokens
				if int(s.Pos)+i <= pos {
					var dot float64
					for j := range query {
						dot += float64(query[j]) * float64(keys[slot][j])
					}
					scores, seen = append(scores, dot*0.4), append(seen, values[slot])
				}
			}
		}
		want, sum := make([]float64, dim), 0.0
		for i, s := range scores {
			sum += math.Exp(s)
			for j, v := range seen[i] {
				want[j] += math.Exp(s) * float64(v)
			}
		}
		for j := range want {
			if sum > 0 {
				want[j] /= sum
			}
		}
		got := make([]float32, dim)
		Attend(got, q, c, 1, pos, segments, ids, rope, 0.4)
		for j := range want {
			require.InDelta(t, want[j], got[j], 1e-6, "position %d", pos)
		}
	}
}

func TestRoute(t *testing.T) {
	rng := random()
	for range 200 {
		n := 1 + rng.IntN(12)
		k := 1 + rng.IntN(n)
		logits := make([]float32, n)
		for i := range logits {
			logits[i] = float32(rng.IntN(6)) // with ties
		}
		order := make([]int32, n)
		for i := range order {
			order[i] = int32(i)
		}
		slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(logits[b], logits[a]) })
		want := slices.Sorted(slices.Values(order[:k]))
		for _, normalize := range []bool{false, true} {
			experts, weights := make([]int32, k), make([]float32, k)
			Route(experts, weights, logits, normalize)
			require.Equal(t, want, experts, "logits %v", logits)
			var all, chosen float64
			for _, l := range logits {
				all += math.Exp(float64(l))
			}
			for _, e := range experts {
				chosen += math.Exp(float64(logits[e]))
			}
			if normalize {
				all = chosen
			}
			for i, e := range experts {
				require.InDelta(t, math.Exp(float64(logits[e]))/all, weights[i], 1e-6)
			}
		}
	}
}

func TestTop(t *testing.T) {
	rng := random()
	for range 200 {
		logits := make([]float32, 1+rng.IntN(30))
		order := make([]int32, len(logits))
		for i := range logits {
			logits[i], order[i] = float32(rng.IntN(8)), int32(i)
		}
		slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(logits[b], logits[a]) })
		n := 1 + rng.IntN(len(logits))
		tokens, values := make([]int32, n), make([]float32, n)
		Top(tokens, values, logits)
		require.Equal(t, order[:n], tokens, "logits %v", logits)
		for i, id := range tokens {
			require.Equal(t, logits[id], values[i])
		}
	}
}

// TestPhilox has the known answers of the authors' Random123 library, kat_vectors, philox4x32 10.
func TestPhilox(t *testing.T) {
	const f = 0xffffffff
	for _, c := range []struct {
		counter [4]uint32
		key     [2]uint32
		want    [4]uint32
	}{
		{want: [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{counter: [4]uint32{f, f, f, f}, key: [2]uint32{f, f}, want: [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{
			counter: [4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, key: [2]uint32{0xa4093822, 0x299f31d0},
			want: [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
		},
	} {
		require.Equal(t, c.want, Philox(c.counter, c.key))
	}
}

func TestUniform(t *testing.T) {
	var sum float64
	const n = 10000
	for i := range uint64(n) {
		u := Uniform(i/100, i%100)
		require.True(t, 0 <= u && u < 1)
		sum += u
	}
	require.InDelta(t, 0.5, sum/n, 0.02)
}

func TestDraw(t *testing.T) {
	logits := []float32{0, float32(math.Log(3)), 0, float32(math.Inf(-1))} // probabilities 0.2 0.6 0.2 0
	for _, c := range []struct {
		temperature float32
		want        int
		uniform     float64
		token       int
	}{
		{temperature: 0, want: -1, uniform: 0.99, token: 1},
		{temperature: 1, want: -1, uniform: 0, token: 0},
		{temperature: 1, want: -1, uniform: 0.199, token: 0},
		{temperature: 1, want: -1, uniform: 0.201, token: 1},
		{temperature: 1, want: -1, uniform: 0.799, token: 1},
		{temperature: 1, want: -1, uniform: 0.801, token: 2},
		{temperature: 1, want: -1, uniform: 1, token: 2}, // past the end: the last with any probability
		{temperature: 1, want: 3, uniform: 0, token: 3},
	} {
		got := Draw(logits, c.temperature, c.want, c.uniform)
		require.Equal(t, c.token, got.Token, "%+v", c)
		require.Equal(t, 1, got.Argmax)
		require.Equal(t, logits[c.token], got.Logit)
		require.InDelta(t, math.Log(5), got.LogSumExp, 1e-6)
		require.False(t, got.Finite)
	}
	require.True(t, Draw(logits[:3], 0, -1, 0).Finite)
}
