//go:build !(linux && cgo && (amd64 || arm64))

package kernels

import "github.com/quire-llm/quire/kernels/cuda"

// gpuOptions are for tests.
type gpuOptions struct{}

// openGPU fails: the error says what this build lacks.
func openGPU(Options, gpuOptions) (backend, Info, error) {
	_, err := cuda.Open(cuda.Options{})
	return nil, Info{}, err
}
