package cuda

// gemvKernel is a kernel of gemv.cu.
type gemvKernel struct {
	kernel  Kernel
	rows    int // of x, at most
	outputs int // rows of w in a group
	ranks   int // blocks that go over a group's columns together
	normed  bool
}

// gemvs are all of them; of those that take a shape equally well the first is launched.
var gemvs = []gemvKernel{
	{Gemv8x32NormedBF16, 8, 32, 1, true},
	{Gemv8x16NormedBF16, 8, 16, 1, true},
	{Gemv8x32K4BF16, 8, 32, GemvRanks, false},
	{Gemv8x32BF16, 8, 32, 1, false},
	{Gemv8x16BF16, 8, 16, 1, false},
	{Gemv8x8BF16, 8, 8, 1, false},
	{Gemv16x32NormedBF16, 16, 32, 1, true},
	{Gemv16x16NormedBF16, 16, 16, 1, true},
	{Gemv16x32K4BF16, 16, 32, GemvRanks, false},
	{Gemv16x32BF16, 16, 32, 1, false},
	{Gemv16x16BF16, 16, 16, 1, false},
	{Gemv16x8BF16, 16, 8, 1, false},
	{Gemv32x32K4BF16, 32, 32, GemvRanks, false},
	{Gemv32x32BF16, 32, 32, 1, false},
	{Gemv32x16BF16, 32, 16, 1, false},
	{Gemv32x8BF16, 32, 8, 1, false},
}

// gemvOf is the kernel k, nil if it is another file's.
func gemvOf(k Kernel) *gemvKernel {
	for i := range gemvs {
		if gemvs[i].kernel == k {
			return &gemvs[i]
		}
	}
	return nil
}

// normBytes is the shared memory that so many columns of normalized rows take; see Gemv::row_bytes.
func (k *gemvKernel) normBytes(cols int) int {
	if !k.normed {
		return 0
	}
	return k.rows * (ceil(2*cols, 128)*128 + 64)
}

// sharedBytes is a launch's shared memory but for the normalized rows; see Gemv::kFixedBytes.
func (k *gemvKernel) sharedBytes() int {
	const warps, pieces = GemvThreads / warp, 16 * GemvThreads * GemvSlots
	stride := k.outputs + 8 // of a row of a warp's sums
	if k.outputs == 8 {
		stride = 8
	}
	bytes := pieces + warps*k.rows*stride*4
	if k.ranks > 1 {
		bytes += 2 * k.rows * k.outputs * 4
	}
	return bytes
}

// GemvFits says whether a product of so many rows has a kernel that normalizes them too.
func GemvFits(rows, cols int) bool {
	for i := range gemvs {
		if k := &gemvs[i]; k.normed && rows <= k.rows && k.normBytes(cols) <= GemvNormBytes {
			return true
		}
	}
	return false
}

// Geometry of a launch on a device with so many multiprocessors, which may have clusters of blocks. How many ranks add up
// depends on w and on what is done with the sums only, so that a row's bits do not depend on its neighbours. Rows, and columns where there is a norm, are
// within [GemvRows] and [GemvFits].
func (p *GemvParams) Geometry(multiprocessors int, clusters bool) Geometry {
	rows, outputs, gated := int(p.Rows), int(p.Outputs), p.Store == GateBF16
	if gated {
		outputs *= 2
	}
	ranks := 1
	if clusters && p.Store == AddBF16 && p.Norm == 0 && GemvRanks*ceil(outputs, 32) <= multiprocessors {
		ranks = GemvRanks
	}
	const sharedOfSM = 233472 // the driver takes 1024 of it for every block
	var best *gemvKernel
	var blocks, least int
	for i := range gemvs {
		k := &gemvs[i]
		switch {
		case k.normed != (p.Norm != 0), k.ranks != ranks, k.rows < rows, gated && k.outputs == 8:
			continue
		case k.normBytes(int(p.Cols)) > GemvNormBytes:
			continue
		case best != nil && k.rows > best.rows:
			continue // made for more rows
		}
		groups, resident := ceil(outputs, k.outputs), multiprocessors
		if 2*(k.sharedBytes()+k.normBytes(int(p.Cols))+1024) <= sharedOfSM {
			resident *= 2
		}
		each := ceil(groups*k.ranks, resident) // groups of a block
		launched := ceil(groups, each) * k.ranks
		// What the busiest multiprocessor reads of w.
		if most := ceil(launched, multiprocessors) * each * k.outputs / k.ranks; best == nil || most < least {
			best, least, blocks = k, most, launched
		}
	}
	return Geometry{
		Kernel: best.kernel, Blocks: [2]int{blocks, 1}, Threads: GemvThreads, SharedBytes: best.sharedBytes() + best.normBytes(int(p.Cols)),
	}
}
