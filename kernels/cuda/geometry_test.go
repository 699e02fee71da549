package cuda

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGeometry(t *testing.T) {
	const h100 = 132
	for _, c := range []struct {
		name string
		got  Geometry
		want Geometry
	}{
		{"embed", (&EmbedParams{Rows: 7, Cols: 1000}).Geometry(), Geometry{EmbedBF16, [2]int{7, 1}, 256, 0}},
		{"rmsnorm", (&RMSNormParams{Rows: 17, Cols: 1000}).Geometry(), Geometry{RMSNormBF16, [2]int{3, 1}, 256, 0}},
		{"silu_mul", (&SiluMulParams{Rows: 7, Inner: 2048}).Geometry(), Geometry{SiluMulBF16, [2]int{7, 1}, 256, 0}},
		{"silu_mul, one more", (&SiluMulParams{Rows: 7, Inner: 2049}).Geometry(), Geometry{SiluMulBF16, [2]int{7, 2}, 256, 0}},
		{"heads", (&QKNormRopeWriteParams{Rows: 3, Heads: 16, KVHeads: 8}).Geometry(), Geometry{QKNormRopeWriteBF16, [2]int{24, 1}, 128, 0}},
		{"heads, odd", (&QKNormRopeWriteParams{Rows: 1, Heads: 6, KVHeads: 3}).Geometry(), Geometry{QKNormRopeWriteBF16, [2]int{3, 1}, 128, 0}},
		{"one row, few outputs", (&GemvParams{Rows: 1, Cols: 2048, Outputs: 1024, Store: AddBF16}).Geometry(h100, true), Geometry{Gemv8x32K4BF16, [2]int{128, 1}, 256, 77824}},
		{"no clusters", (&GemvParams{Rows: 1, Cols: 2048, Outputs: 1024, Store: AddBF16}).Geometry(h100, false), Geometry{Gemv8x8BF16, [2]int{128, 1}, 256, 67584}},
		{"9 rows, normalized", (&GemvParams{Rows: 9, Cols: 1024, Outputs: 4096, Norm: 1}).Geometry(h100, true), Geometry{Gemv16x32NormedBF16, [2]int{128, 1}, 256, 119808}},
		{"8 rows, gated", (&GemvParams{Rows: 8, Cols: 1024, Outputs: 3072, Norm: 1, Store: GateBF16}).Geometry(h100, true), Geometry{Gemv8x32NormedBF16, [2]int{192, 1}, 256, 92672}},
		{"16 rows, vocabulary", (&GemvParams{Rows: 16, Cols: 1024, Outputs: 151936, Norm: 1}).Geometry(h100, true), Geometry{Gemv16x32NormedBF16, [2]int{132, 1}, 256, 119808}},
		{"32 rows, few outputs", (&GemvParams{Rows: 32, Cols: 3072, Outputs: 1024, Store: AddBF16}).Geometry(h100, true), Geometry{Gemv32x32K4BF16, [2]int{128, 1}, 256, 114688}},
		{"17 rows", (&GemmParams{Rows: 17, Outputs: 331}).Geometry(h100), Geometry{GemmSmallBF16, [2]int{1, 6}, 128, 65536}},
		{"256 rows", (&GemmParams{Rows: 256, Outputs: 1024}).Geometry(h100), Geometry{GemmSmallBF16, [2]int{4, 16}, 128, 65536}},
		{"2048 rows", (&GemmParams{Rows: 2048, Outputs: 1024}).Geometry(h100), Geometry{GemmLargeBF16, [2]int{16, 8}, 256, 98304}},
		{"8192 rows", (&GemmParams{Rows: 8192, Outputs: 1024}).Geometry(h100), Geometry{GemmLargeBF16, [2]int{64, 8}, 256, 98304}},
		{"route", (&MoERouteParams{Rows: 5, Experts: 128, TopK: 8}).Geometry(), Geometry{MoERouteF32, [2]int{2, 1}, 128, 0}},
		{"sort", (&MoESortParams{Rows: 5, Experts: 128, TopK: 8}).Geometry(), Geometry{MoESort, [2]int{128, 1}, 1024, 0}},
		{"experts", (&MoEGemmParams{MaxTiles: 40, Outputs: 1536}).Geometry(), Geometry{MoEGemmBF16, [2]int{40, 24}, 128, 65536}},
		{"combine", (&MoECombineParams{Rows: 5, Cols: 1000}).Geometry(), Geometry{MoECombineBF16, [2]int{5, 4}, 256, 0}},
		{"attention plan", (&AttendPlanParams{}).Geometry(), Geometry{AttendPlan, [2]int{1, 1}, 1024, 0}},
		{"decode", AttendGeometry(AttendDecodeQ2BF16D128, 528), Geometry{AttendDecodeQ2BF16D128, [2]int{528, 1}, 128, 0}},
		{"prefill", AttendGeometry(AttendPrefillFP8D128, 264), Geometry{AttendPrefillFP8D128, [2]int{264, 1}, 128, AttendShared128}},
		{"scan a row", (&SampleParams{RowsMost: 1, Vocab: 151936}).Geometry(SampleScan, h100), Geometry{SampleScan, [2]int{75, 1}, 256, 0}},
		{"weigh many rows", (&SampleParams{RowsMost: 256, Vocab: 151936}).Geometry(SampleWeigh, h100), Geometry{SampleWeigh, [2]int{1056, 1}, 256, 0}},
		{"pick", (&SampleParams{RowsMost: 7, Vocab: 300}).Geometry(SamplePick, h100), Geometry{SamplePick, [2]int{7, 1}, 1024, 0}},
		{"largest logits of many rows", (&SampleParams{RowsMost: 300, Vocab: 300}).Geometry(SampleTop, h100), Geometry{SampleTop, [2]int{264, 1}, 1024, 0}},
	} {
		require.Equal(t, c.want, c.got, c.name)
		require.LessOrEqual(t, c.got.SharedBytes, c.got.Kernel.SharedBytes(), c.name)
	}
}

// TestGemvGeometry: every product of few rows has a kernel, which asks for no more shared memory than it may.
func TestGemvGeometry(t *testing.T) {
	for rows := 1; rows <= GemvRows; rows++ {
		for _, cols := range []int{1, 64, 1000, 1024, 2048, 4096, 20000} {
			for _, outputs := range []int{1, 30, 1024, 4100, 151936} {
				for _, store := range []int32{StoreBF16, StoreF32, AddBF16, GateBF16} {
					for _, clusters := range []bool{false, true} {
						p := GemvParams{Rows: int32(rows), Cols: int32(cols), Outputs: int32(outputs), Store: store}
						plain := p.Geometry(132, clusters)
						require.LessOrEqual(t, plain.SharedBytes, plain.Kernel.SharedBytes())
						require.LessOrEqual(t, plain.Kernel.SharedBytes(), 232448-1024)
						require.GreaterOrEqual(t, gemvOf(plain.Kernel).rows, rows)
						require.Zero(t, plain.Blocks[0]%gemvOf(plain.Kernel).ranks)
						if GemvFits(rows, cols) {
							p.Norm = 1
							normed := p.Geometry(132, clusters)
							require.LessOrEqual(t, normed.SharedBytes, normed.Kernel.SharedBytes())
							require.True(t, gemvOf(normed.Kernel).normed)
						}
					}
				}
			}
		}
	}
	require.True(t, GemvFits(8, 4096))
	require.True(t, GemvFits(16, 2048))
	require.False(t, GemvFits(16, 4096))
	require.False(t, GemvFits(17, 64))
}

// TestMoETiles: no division of the pairs among the experts has more tiles.
func TestMoETiles(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		experts, pairs := 1+r.IntN(20), 1+r.IntN(600)
		counts := make([]int, experts)
		for range pairs {
			counts[r.IntN(1+r.IntN(experts))]++
		}
		tiles := 0
		for _, n := range counts {
			tiles += ceil(n, GemmSmallRows)
		}
		require.LessOrEqual(t, tiles, MoETiles(pairs, experts), "%d pairs, %v", pairs, counts)
	}
	require.Equal(t, 8, MoETiles(8, 128), "one token")
}
