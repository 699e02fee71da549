package cuda

// wideTiles are the kernels of gemm_sm90.cu.
var wideTiles = [...]WideTiles{
	{Sm90Gemm64W1x1k8, 64, 1, 1, 8, 4},
	{Sm90Gemm64W1x2k2, 64, 1, 2, 2, 4},
	{Sm90Gemm64W2x1k4, 64, 2, 1, 4, 4},
	{Sm90Gemm96W1x2k2, 96, 1, 2, 2, 3},
	{Sm90Gemm128W1x2k2, 128, 1, 2, 2, 3},
	{Sm90Gemm128W2x2k1, 128, 2, 2, 1, 3},
	{Sm90Gemm128W2x2k2, 128, 2, 2, 2, 3},
	{Sm90Gemm128W2x1k4, 128, 2, 1, 4, 3},
	{Sm90Gemm192W2x1k1, 192, 2, 1, 1, 5},
	{Sm90Gemm192W2x2k2, 192, 2, 2, 2, 5},
	{Sm90Gemm256W2x1k1, 256, 2, 1, 1, 4},
}

// Tiles is how the product is best cut on a device with so many multiprocessors; nil where the kernels cannot take it.
func (p *WideProduct) Tiles(multiprocessors int) *WideTiles {
	if !p.fits() {
		return nil
	}
	best := &wideTiles[0]
	least := p.cycles(best, multiprocessors)
	for i := range wideTiles[1:] {
		t := &wideTiles[i+1]
		if c := p.cycles(t, multiprocessors); c < least {
			best, least = t, c
		}
	}
	return best
}

// What the cycles of a block come from.
const (
	wideStart      = 3000 // from the first copy to the first product, and what a launch costs
	wideFill       = 48   // bytes a cycle that come into a multiprocessor
	wideCache      = 24   // that the second-level cache gives for each multiprocessor
	wideStore      = 8    // cycles for each output of a tile, over its rows
	wideMeet       = 1500 // for blocks that divide the columns to meet
	wideExchange   = 12   // and to exchange an output of a tile
	wideStepFixed  = 20
	wideProducts   = 4 // cycles for an output of a step: 128 rows, 64 columns
	wideStoreFloat = 2
)

// cycles is about how long a product takes in tiles of a kind. It is right in what it compares, not in what it says.
func (p *WideProduct) cycles(t *WideTiles, multiprocessors int) int {
	rows, outputs := p.clusters(t)
	clusters := rows * outputs
	waves := ceil(clusters, t.places(multiprocessors))
	steps := ceil(ceil(p.Cols, wideStep), t.split)
	step := max(
		wideProducts*t.outputs,
		2*wideStep*(WideGemmRows+t.outputs)/wideFill,
		2*wideStep*(WideGemmRows/t.shareX+t.outputs/t.shareW)/wideCache,
	) + wideStepFixed
	store := wideStore * t.outputs
	if p.Store == StoreF32 {
		store *= wideStoreFloat
	}
	if t.split > 1 {
		store = wideMeet + wideExchange*t.outputs
	}
	return wideStart + waves*(steps*step+store)
}
