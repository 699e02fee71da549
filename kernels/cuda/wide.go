package cuda

// WideProduct is a product of many rows, out[r] = W · x[r] + bias, as gemm_sm90.cu takes it. Gated, W is gate and up, of as
// many outputs each, and out[r] = silu(gate[r]) ⊙ up[r], rounded as silu_mul does.
type WideProduct struct {
	X, Out              uint64 // [Rows, Cols] bfloat16; [Rows, outputs] bfloat16 or, with StoreF32, float32
	W                   WeightParts
	Rows, Cols, Outputs int   // Outputs are W's
	Store               int32 // not looked at where Gated
	Gated               bool
}

// WideLeastRows is the fewest rows of such a product; gemv's kernels are for fewer. Products with ManyOutputs, a model's head, are
// such from WideLeastRowsOfMany on: reading W takes so long that it hides the multiplying of rows that are not there.
const (
	WideLeastRows       = 33
	WideLeastRowsOfMany = 17
	ManyOutputs         = 1 << 16
)

// few says whether gemv's kernels take the product where there is a choice.
func (p *WideProduct) few() bool {
	return p.Rows < WideLeastRowsOfMany || p.Rows < WideLeastRows && p.Outputs < ManyOutputs
}

// WideTiles is how a product is cut into tiles, and so which kernel takes it.
type WideTiles struct {
	Kernel  Kernel
	outputs int // of a tile, those of gate and up together
	// Blocks of a cluster: those that share rows of w, that share rows of x, that divide the columns.
	shareW, shareX, split int
	stages                int // of the ring
}

// wideStep is the columns of a step.
const wideStep = 64

func (t *WideTiles) cluster() int { return t.shareW * t.shareX * t.split }

func (t *WideTiles) threads() int {
	if t.outputs == 256 {
		return WidestGemmThreads
	}
	return WideGemmThreads
}

// sharedBytes are those of the ring, its barriers and what aligns it.
func (t *WideTiles) sharedBytes() int {
	return t.stages*(2*wideStep*(WideGemmRows+t.outputs)+2*8) + 1024
}

// pairs says whether a multiprocessor runs two blocks at once.
func (t *WideTiles) pairs() bool { return t.sharedBytes() <= 113<<10 }

// wideTilesOf is how a kernel cuts; nil for one that is not of gemm_sm90.cu.
func wideTilesOf(k Kernel) *WideTiles {
	for i := range wideTiles {
		if wideTiles[i].Kernel == k {
			return &wideTiles[i]
		}
	}
	return nil
}

// Cluster is the blocks of a cluster that the kernel is made for, 1 for none.
func (k Kernel) Cluster() int {
	if t := wideTilesOf(k); t != nil {
		return t.cluster()
	}
	return 1
}

// inner is the outputs of a gated product.
func (p *WideProduct) inner() int { return p.Outputs / 2 }

// fits says whether the kernels can take the product: see WideGemmParams.
func (p *WideProduct) fits() bool {
	if p.few() || p.Cols%Vector != 0 || p.Outputs%Vector != 0 || (p.X|p.Out)%16 != 0 {
		return false
	}
	for i, end := range p.W.Ends {
		if end%Vector != 0 || (p.W.Data[i]|p.W.Bias[i])%16 != 0 {
			return false
		}
	}
	if !p.Gated {
		return true
	}
	first := int(p.W.Ends[0]) // of one part, or of two halves
	return p.inner()%Vector == 0 && (first == p.Outputs || first == p.inner() && int(p.W.Ends[1]) == p.Outputs)
}

// tileEnds are the first tiles after each part of w.
func (p *WideProduct) tileEnds(t *WideTiles) (ends [MaxParts]int32) {
	if p.Gated {
		for i := range ends {
			ends[i] = int32(ceil(p.inner(), t.outputs/2))
		}
		return ends
	}
	tiles, last := 0, 0
	for i, end := range p.W.Ends {
		tiles += ceil(int(end)-last, t.outputs)
		last, ends[i] = int(end), int32(tiles)
	}
	return ends
}

// clusters are those that a product's tiles make: along the rows, and along the outputs.
func (p *WideProduct) clusters(t *WideTiles) (rows, outputs int) {
	ends := p.tileEnds(t)
	return ceil(ceil(p.Rows, WideGemmRows), t.shareW), ceil(int(ends[MaxParts-1]), t.shareX)
}

// TileMap is a matrix [Rows, Cols] at an address that a kernel reads in boxes of BoxRows rows.
type TileMap struct {
	At                  uint64
	Rows, Cols, BoxRows int
}

// Params are those of a launch of the kernel that t names, where tensor says what the tensor map of a matrix is.
func (p *WideProduct) Params(t *WideTiles, tensor func(TileMap) (TensorMap, error)) (k WideGemmParams, err error) {
	rows, outputs := p.clusters(t)
	k = WideGemmParams{
		Out: p.Out, Bias: p.W.Bias, OutStride: int64(p.Outputs), Ends: p.W.Ends, TileEnds: p.tileEnds(t), Rows: int32(p.Rows),
		Steps: int32(ceil(p.Cols, wideStep)), RowTiles: int32(rows), OutputTiles: int32(outputs),
		Group: int32(max(1, wideBand/t.shareW)), Store: p.Store,
	}
	if k.X, err = tensor(TileMap{p.X, p.Rows, p.Cols, WideGemmRows / t.shareX}); err != nil {
		return k, err
	}
	part := TileMap{Cols: p.Cols, BoxRows: t.outputs / 2}
	if p.Gated {
		part.Rows, k.OutStride, k.Store, k.Gated = p.inner(), int64(p.inner()), StoreBF16, 1
		up := p.W.Data[1]
		if int(p.W.Ends[0]) == p.Outputs {
			up = p.W.Data[0] + uint64(2*p.inner()*p.Cols)
			if k.Bias[1] = 0; k.Bias[0] != 0 {
				k.Bias[1] = k.Bias[0] + uint64(2*p.inner())
			}
		}
		for i, at := range [MaxParts]uint64{p.W.Data[0], up, up, up} {
			part.At, k.Ends[i] = at, int32(p.inner())
			if k.W[i], err = tensor(part); err != nil {
				return k, err
			}
		}
		return k, nil
	}
	last := 0
	for i, end := range p.W.Ends {
		if int(end) == last && i > 0 { // a part that is not there; nothing of it is stored
			k.W[i] = k.W[i-1]
			continue
		}
		part.At, part.Rows, last = p.W.Data[i], int(end)-last, int(end)
		if k.W[i], err = tensor(part); err != nil {
			return k, err
		}
	}
	return k, nil
}

// wideBand is the tiles of rows, of 128 each, that are taken before the next tile of outputs: what runs at the same time
// shares rows of both matrices.
const wideBand = 16

// Geometry of a launch on a device with so many multiprocessors: every cluster has its place at once, and takes one tile
// after the other.
func (p *WideProduct) Geometry(t *WideTiles, multiprocessors int) Geometry {
	rows, outputs := p.clusters(t)
	clusters := rows * outputs
	if t.split == 1 {
		places := t.places(multiprocessors)
		if t.pairs() {
			places *= 2
		}
		clusters = min(clusters, places)
	}
	return Geometry{Kernel: t.Kernel, Blocks: [2]int{clusters * t.cluster(), 1}, Threads: t.threads(), SharedBytes: t.sharedBytes()}
}

// places is how many clusters have room at once. A cluster lies within a group of multiprocessors, most of which have 16
// and some 18.
func (t *WideTiles) places(multiprocessors int) int {
	if t.cluster() > 2 {
		multiprocessors = multiprocessors / 16 * 16
	}
	return multiprocessors / t.cluster()
}
