package cuda

import "slices"

// wideTiles are the kernels of gemm_sm90.cu.
var wideTiles = [...]WideTiles{
	{Sm90Gemm128W1x1k1, 128, 1, 1, 1, 6},
	{Sm90Gemm64W1x1k4, 64, 1, 1, 4, 4},
	{Sm90Gemm64W1x1k2, 64, 1, 1, 2, 4},
	{Sm90Gemm128W2x1k4, 128, 2, 1, 4, 6},
	{Sm90Gemm192W1x1k1, 192, 1, 1, 1, 5},
	{Sm90Gemm192W1x1k4, 192, 1, 1, 4, 5},
	{Sm90Gemm192W1x1k2, 192, 1, 1, 2, 5},
	{Sm90Gemm128W2x1k1, 128, 2, 1, 1, 3},
	{Sm90Gemm256W2x1k1, 256, 2, 1, 1, 4},
}

// WideKinds are all ways to cut a product, one for each kernel.
func WideKinds() []WideTiles { return slices.Clone(wideTiles[:]) }

// Tiles is how the product is best cut on a device with so many multiprocessors; nil where the kernels cannot take it.
func (p *WideProduct) Tiles(multiprocessors int) *WideTiles {
	if !p.fits() {
		return nil
	}
	best := &wideTiles[0]
	least := p.cost(best, multiprocessors)
	for i := range wideTiles[1:] {
		t := &wideTiles[i+1]
		if c := p.cost(t, multiprocessors); c < least {
			best, least = t, c
		}
	}
	return best
}

// What a product's time is made of, in hundredths of about a cycle. Found by a search for the numbers with which the
// choices come closest to the fastest of each shape, of 41 shapes with 128 to 8,192 rows of the models from 0.6B to 8B
// on an H200: most are the fastest, and none takes more than 1.2 times as long.
const (
	wideStepOutput  = 413 // of a step, for each output of a tile
	wideStepRow     = 421 // and each row
	wideStep0       = 14200
	wideStoreOutput = 681     // of storing a tile, for each output; twice as much for float32
	wideMeet        = 1279600 // where blocks divide the columns: to meet,
	wideMeetBlock   = 355300  // for each block that does,
	wideMeetOutput  = 1838    // and to exchange an output
	wideCluster     = 67600   // of blocks in clusters
)

// cost is about how long a product takes in tiles of a kind. It is right in what it compares, not in what it says.
func (p *WideProduct) cost(t *WideTiles, multiprocessors int) int {
	rows, outputs := p.clusters(t)
	waves := ceil(rows*outputs, t.places(multiprocessors))
	steps := ceil(ceil(p.Cols, wideStep), t.split)
	step := wideStepOutput*t.outputs + wideStepRow*WideGemmRows/t.shareX + wideStep0
	store := wideStoreOutput * t.outputs
	if p.Store == StoreF32 {
		store *= 2
	}
	if t.split > 1 {
		store = wideMeet + wideMeetBlock*t.split + wideMeetOutput*t.outputs
	}
	if t.pairs() {
		store = store * 72 / 100 // while one block stores, the other multiplies
	}
	cost := waves * (steps*step + store)
	if t.cluster() > 1 {
		cost += wideCluster
	}
	return cost
}
