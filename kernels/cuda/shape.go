//go:build linux && cgo && (amd64 || arm64)

package cuda

import "fmt"

// Dim is a size in up to three dimensions. Y and Z may be left zero for 1.
type Dim struct{ X, Y, Z uint32 }

func (d Dim) full() [3]uint32 { return [3]uint32{d.X, max(d.Y, 1), max(d.Z, 1)} }

// Shape is how a kernel is launched.
type Shape struct {
	Grid  Dim // blocks
	Block Dim // threads of a block
	// Cluster is the blocks of a cluster, which divide those of the grid; zero for no clusters.
	Cluster Dim
	// SharedBytes is the dynamic shared memory of a block.
	SharedBytes int
	// Early is programmatic dependent launch: the kernel may start while the one before it on the stream is still running,
	// and itself waits (griddepcontrol.wait) before it reads what that one writes. Only for kernels that do so.
	Early bool
	// Cooperative lets all blocks wait for each other; the grid must fit the device at once.
	Cooperative bool
}

// FunctionInfo describes a kernel on the device where it was loaded.
type FunctionInfo struct {
	Threads     int // that a block may have at most
	Registers   int // of a thread
	SharedBytes int // static shared memory of a block
	LocalBytes  int // of a thread: spilled registers and local arrays
	ConstBytes  int // constant memory
	ParamBytes  int // of the packed parameters
	ParamOffset int // where they begin: not at 0 where the first has a stricter alignment than the constant memory they lie in
	Capability  int // compute capability of the machine code: 90 for 9.0
}

// check says what is wrong with a launch of the function, given the limit of its dynamic shared memory.
func (i *FunctionInfo) check(name string, dynamicBytes int, s *Shape, paramBytes int) error {
	grid, block := s.Grid.full(), s.Block.full()
	threads := uint64(block[0]) * uint64(block[1]) * uint64(block[2])
	switch {
	case grid[0] == 0 || block[0] == 0:
		return fmt.Errorf("cuda: launching %q: grid of %v blocks of %v threads", name, grid, block)
	case paramBytes != i.ParamBytes:
		return fmt.Errorf("cuda: launching %q: %d bytes of parameters, want %d", name, paramBytes, i.ParamBytes)
	case threads > uint64(i.Threads):
		return fmt.Errorf("cuda: launching %q: block of %v threads, want at most %d", name, block, i.Threads)
	case s.SharedBytes < 0 || s.SharedBytes > dynamicBytes:
		return fmt.Errorf("cuda: launching %q: %d bytes of shared memory, want at most %d", name, s.SharedBytes, dynamicBytes)
	case s.Cluster == Dim{}:
		return nil
	}
	cluster := s.Cluster.full()
	for d := range grid {
		if cluster[d] == 0 || grid[d]%cluster[d] != 0 {
			return fmt.Errorf("cuda: launching %q: grid of %v blocks is not whole clusters of %v", name, grid, cluster)
		}
	}
	return nil
}
