package cuda

// SampleChunks is how many chunks a row of logits has.
func SampleChunks(vocab int) int { return ceil(vocab, SampleChunk) }

// sampleBlocks is the most blocks of sample_scan and sample_weigh for each multiprocessor: they take chunks in turn.
const sampleBlocks = 8

// Geometry of a launch of one of the sampling kernels on a device with so many multiprocessors.
func (p *SampleParams) Geometry(k Kernel, multiprocessors int) Geometry {
	rows := int(p.RowsMost)
	if k == SamplePick || k == SampleTop {
		return Geometry{Kernel: k, Blocks: [2]int{min(rows, 2*multiprocessors), 1}, Threads: SampleThreads}
	}
	units := rows * SampleChunks(int(p.Vocab))
	return Geometry{Kernel: k, Blocks: [2]int{min(units, sampleBlocks*multiprocessors), 1}, Threads: SampleScanThreads}
}
