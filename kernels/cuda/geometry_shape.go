//go:build linux && cgo && (amd64 || arm64)

package cuda

// Shape is g as [Stream.Launch] takes it. All kernels wait for the one before, so they may start early.
func (g Geometry) Shape() Shape {
	return Shape{
		Grid:        Dim{X: uint32(g.Blocks[0]), Y: uint32(g.Blocks[1])},
		Block:       Dim{X: uint32(g.Threads)},
		SharedBytes: g.SharedBytes,
		Early:       true,
	}
}
