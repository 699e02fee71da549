//go:build cgo && (windows || !(amd64 || arm64 || loong64 || riscv64))

package kernels

import "runtime"

// compiledSets are the C kernels that this CPU can run: none.
func compiledSets() []kernelSet { return nil }

// whyNoCompiledSets says why there are none.
const whyNoCompiledSets = "the C kernels are not made for " + runtime.GOOS + "/" + runtime.GOARCH
