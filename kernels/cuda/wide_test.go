package cuda

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// wideParts is a weight in parts of so many outputs, at addresses that tell them apart.
func wideParts(outputs ...int) (w WeightParts) {
	end := 0
	for i := range w.Ends {
		if i < len(outputs) {
			end += outputs[i]
			w.Data[i] = uint64(i+1) << 32
		}
		w.Ends[i] = int32(end)
	}
	return w
}

// boxOf stands in for the driver: a map that says what it is of.
func boxOf(t TileMap) (TensorMap, error) {
	return TensorMap{t.At, uint64(t.Rows), uint64(t.Cols), uint64(t.BoxRows)}, nil
}

// TestWideTiles: every output of every row lies in exactly one tile, within a part, and the maps are of what the kernel
// reads there.
func TestWideTiles(t *testing.T) {
	const sms = 132
	for _, c := range []struct {
		parts []int
		gated bool
	}{
		{parts: []int{2048, 1024, 1024}},
		{parts: []int{1024}},
		{parts: []int{40, 24, 8, 136}},
		{parts: []int{151936}},
		{parts: []int{3072, 3072}, gated: true},
		{parts: []int{6144}, gated: true},
		{parts: []int{1000, 1000}, gated: true},
	} {
		for _, rows := range []int{65, 128, 129, 256, 1000, 8192} {
			for i := range wideTiles {
				tiles := &wideTiles[i]
				p := WideProduct{X: 1 << 20, Out: 1 << 24, W: wideParts(c.parts...), Rows: rows, Cols: 200, Gated: c.gated, Store: AddBF16}
				for _, n := range c.parts {
					p.Outputs += n
				}
				name := fmt.Sprintf("parts=%v/gated=%v/rows=%d/%s", c.parts, c.gated, rows, tiles.Kernel)
				require.True(t, p.fits(), name)
				k, err := p.Params(tiles, boxOf)
				require.NoError(t, err)
				g := p.Geometry(tiles, sms)
				require.Zero(t, g.Blocks[0]%g.Kernel.Cluster(), name)
				require.Equal(t, tiles.sharedBytes(), g.SharedBytes, name)
				require.EqualValues(t, 4, k.Steps, name)
				require.Equal(t, TensorMap{p.X, uint64(rows), 200, uint64(128 / tiles.shareX)}, k.X, name)
				require.GreaterOrEqual(t, int(k.RowTiles)*tiles.shareW*128, rows, name)
				require.Less(t, (int(k.RowTiles)-1)*tiles.shareW*128, rows, name)
				require.GreaterOrEqual(t, int(k.OutputTiles)*tiles.shareX, int(k.TileEnds[3]), name)

				outputs, own := p.Outputs, tiles.outputs
				if c.gated {
					outputs, own = outputs/2, own/2
				}
				require.EqualValues(t, outputs, k.OutStride, name)
				next := 0 // output that no tile has yet
				for tile := range int(k.TileEnds[3]) {
					part, first, end := 0, 0, 0
					for ; tile >= int(k.TileEnds[part]); part++ {
						first, end = int(k.TileEnds[part]), int(k.Ends[part])
					}
					row := (tile - first) * own
					require.Equal(t, next, end+row, "%s: tile %d", name, tile)
					next = min(next+own, int(k.Ends[part]))
					require.Greater(t, next, end+row, "%s: tile %d", name, tile)
					require.EqualValues(t, tiles.outputs/2, k.W[part][3], name)
					if !c.gated {
						require.Equal(t, p.W.Data[part], k.W[part][0], name)
						require.EqualValues(t, c.parts[part], k.W[part][1], name)
					}
				}
				require.Equal(t, outputs, next, name)
				if c.gated {
					up := p.W.Data[1]
					if len(c.parts) == 1 {
						up = p.W.Data[0] + 2*uint64(outputs)*200
					}
					require.Equal(t, [2]uint64{p.W.Data[0], up}, [2]uint64{k.W[0][0], k.W[1][0]}, name)
					require.EqualValues(t, outputs, k.W[1][1], name)
					require.Equal(t, [2]uint64{0, 0}, [2]uint64{k.Bias[0], k.Bias[1]}, name)
					p.W.Bias = [MaxParts]uint64{1 << 40}
					k, err = p.Params(tiles, boxOf)
					require.NoError(t, err)
					upBias := uint64(0)
					if len(c.parts) == 1 {
						upBias = 1<<40 + 2*uint64(outputs)
					}
					require.Equal(t, [2]uint64{1 << 40, upBias}, [2]uint64{k.Bias[0], k.Bias[1]}, name)
				}
			}
		}
	}
}

// TestWideFits: what the kernels cannot take is left to others.
func TestWideFits(t *testing.T) {
	good := func() *WideProduct {
		return &WideProduct{X: 64, Out: 64, W: wideParts(64, 64), Rows: 65, Cols: 64, Outputs: 128}
	}
	require.NotNil(t, good().Tiles(132))
	for name, spoil := range map[string]func(p *WideProduct){
		"few rows":        func(p *WideProduct) { p.Rows = WideLeastRows - 1 },
		"odd columns":     func(p *WideProduct) { p.Cols = 60 },
		"odd outputs":     func(p *WideProduct) { p.Outputs, p.W.Ends[3] = 129, 129 },
		"odd part":        func(p *WideProduct) { p.W.Ends[0] = 60 },
		"input's place":   func(p *WideProduct) { p.X = 8 },
		"output's place":  func(p *WideProduct) { p.Out = 8 },
		"weight's place":  func(p *WideProduct) { p.W.Data[1] += 8 },
		"bias's place":    func(p *WideProduct) { p.W.Bias[0] = 2 },
		"gate not as up":  func(p *WideProduct) { p.Gated, p.W.Ends[0] = true, 56 },
		"gate's outputs":  func(p *WideProduct) { p.Gated, p.W, p.Outputs = true, wideParts(72), 72 },
		"gate in 3 parts": func(p *WideProduct) { p.Gated, p.W = true, wideParts(64, 32, 32) },
	} {
		p := good()
		spoil(p)
		require.Nil(t, p.Tiles(132), name)
	}
	broken := errors.New("no map")
	_, err := good().Params(&wideTiles[0], func(TileMap) (TensorMap, error) { return TensorMap{}, broken })
	require.ErrorIs(t, err, broken)
}
