//go:build !cgo

package kernels

// compiledSets are the C kernels that this CPU can run: none.
func compiledSets() []kernelSet { return nil }

// whyNoCompiledSets says why there are none.
const whyNoCompiledSets = "built without cgo; the C kernels want a C compiler and CGO_ENABLED=1 when building"
