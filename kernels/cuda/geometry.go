package cuda

// Geometry is how a kernel is launched: which, and how many blocks of how many threads with how much dynamic shared
// memory. Params know theirs, so that who launches cannot disagree with the sources.
type Geometry struct {
	Kernel      Kernel
	Blocks      [2]int // x, y
	Threads     int
	SharedBytes int
}

func ceil(n, by int) int { return (n + by - 1) / by }

// rowBlocks is a launch of one block of RowThreads for each row, and each run of columns if those are divided.
func rowBlocks(k Kernel, rows int32, columnBlocks int) Geometry {
	return Geometry{Kernel: k, Blocks: [2]int{int(rows), columnBlocks}, Threads: RowThreads}
}

// Geometry of a launch.
func (p *EmbedParams) Geometry() Geometry { return rowBlocks(EmbedBF16, p.Rows, 1) }

// Geometry of a launch.
func (p *RMSNormParams) Geometry() Geometry {
	return Geometry{Kernel: RMSNormBF16, Blocks: [2]int{ceil(int(p.Rows), NormRows), 1}, Threads: RowThreads}
}

// Geometry of a launch.
func (p *SiluMulParams) Geometry() Geometry {
	return rowBlocks(SiluMulBF16, p.Rows, ceil(int(p.Inner), RowThreads*Vector))
}

// Geometry of a launch on a device with so many multiprocessors: which kernel the shape wants, and how it is launched. All give
// the same bits as each other, whatever the number of rows. [WideProduct] is what compute capability 9.0 does with many rows, and
// there the order depends on whether the shape has blocks divide the columns.
func (p *GemmParams) Geometry(multiprocessors int) Geometry {
	rows, outputs := int(p.Rows), int(p.Outputs)
	large := [2]int{ceil(rows, GemmLargeRows), ceil(outputs, GemmLargeOutputs)}
	if 4*large[0]*large[1] >= 3*multiprocessors { // most have one
		return Geometry{Kernel: GemmLargeBF16, Blocks: large, Threads: GemmLargeThreads, SharedBytes: GemmLargeShared}
	}
	small := [2]int{ceil(rows, GemmSmallRows), ceil(outputs, GemmSmallOutputs)}
	return Geometry{Kernel: GemmSmallBF16, Blocks: small, Threads: GemmSmallThreads, SharedBytes: GemmSmallShared}
}

// Geometry of a launch.
func (p *QKNormRopeWriteParams) Geometry() Geometry {
	units := int(p.Rows) * int(p.Heads+2*p.KVHeads)
	return Geometry{Kernel: QKNormRopeWriteBF16, Blocks: [2]int{ceil(units, HeadWarps), 1}, Threads: HeadWarps * warp}
}

const warp = 32

// Geometry of a launch.
func (p *MoERouteParams) Geometry() Geometry {
	return Geometry{Kernel: MoERouteF32, Blocks: [2]int{ceil(int(p.Rows), RouteWarps), 1}, Threads: RouteWarps * warp}
}

// Geometry of a launch.
func (p *MoESortParams) Geometry() Geometry {
	return Geometry{Kernel: MoESort, Blocks: [2]int{int(p.Experts), 1}, Threads: SortThreads}
}

// MoETiles is the most tiles that so many pairs give: every expert that has any may have one that is not full.
func MoETiles(pairs, experts int) int {
	return pairs/GemmSmallRows + min(pairs, experts)
}

// Geometry of a launch.
func (p *MoEGemmParams) Geometry() Geometry {
	return Geometry{
		Kernel:      MoEGemmBF16,
		Blocks:      [2]int{int(p.MaxTiles), ceil(int(p.Outputs), GemmSmallOutputs)},
		Threads:     GemmSmallThreads,
		SharedBytes: GemmSmallShared,
	}
}

// Geometry of a launch.
func (p *MoECombineParams) Geometry() Geometry {
	return rowBlocks(MoECombineBF16, p.Rows, ceil(int(p.Cols), RowThreads))
}
