//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/ref"
)

// twin is a GPU beside a CPU with the kernels of package ref: operands are made on the CPU, in numbers that the GPU can
// hold, and copied.
type twin struct {
	*rig // of the CPU
	gpu  *Device
	puts []Buffer // on the GPU
}

// newTwin makes operands for a GPU, which may be a stub.
func newTwin(t testing.TB, gpu *Device) *twin { return &twin{rig: newRig(t, "go", 1), gpu: gpu} }

// on runs fn on the GPU.
func (w *twin) on(fn func(Ops) error) {
	w.tb.Helper()
	require.NoError(w.tb, w.gpu.Do(context.Background(), fn))
}

// put copies bytes to the GPU, into an allocation of exactly their size.
func (w *twin) put(data []byte) Buffer {
	w.tb.Helper()
	b, err := w.gpu.Alloc(len(data))
	require.NoError(w.tb, err)
	w.puts = append(w.puts, b)
	w.on(func(o Ops) error { return o.Write(b, data) })
	return b
}

// same is a buffer's copy, bytes as they are; the zero Buffer's is zero.
func (w *twin) same(b Buffer) Buffer {
	if b.IsZero() {
		return b
	}
	return w.put(b.bytes())
}

// get copies a buffer of the GPU back.
func (w *twin) get(b Buffer) []byte {
	w.tb.Helper()
	data := make([]byte, b.size)
	w.on(func(o Ops) error { return o.Read(data, b) })
	return data
}

// bf16Numbers reads bfloat16.
func bf16Numbers(b []byte) []float32 {
	out := make([]float32, len(b)/2)
	for i := range out {
		out[i] = ref.BF16(b, i)
	}
	return out
}

// acts is n random activations, on both sides the same.
func (w *twin) acts(n int) (cpu, gpu Buffer) {
	cpu = w.floats(n)
	for i, v := range cpu.float32s() {
		cpu.float32s()[i] = ref.RoundBF16(v)
	}
	return cpu, w.activations(cpu)
}

// activations is the copy of a CPU's activations, rounded.
func (w *twin) activations(cpu Buffer) Buffer {
	data := make([]byte, cpu.size/2)
	for i, v := range cpu.float32s() {
		ref.PutBF16(data, i, v)
	}
	return w.put(data)
}

// weightOf is a weight's copy.
func (w *twin) weightOf(cpu Weight) Weight {
	gpu := Weight{Format: cpu.Format, Rows: cpu.Rows, Cols: cpu.Cols}
	for _, p := range cpu.Parts {
		gpu.Parts = append(gpu.Parts, Part{Rows: p.Rows, Data: w.same(p.Data), Bias: w.same(p.Bias)})
	}
	return gpu
}

// scaledWeight is a random matrix whose products with normal inputs are about normal too.
func (w *twin) scaledWeight(cols int, biases bool, rows ...int) Weight {
	m := w.weight(cols, biases, rows...)
	for _, p := range m.Parts {
		scale(p.Data, cols)
	}
	return m
}

// scale divides bfloat16 numbers by the root of n.
func scale(b Buffer, n int) {
	root := float32(1)
	for root*root < float32(n) {
		root *= 1.25
	}
	for i := range b.size / 2 {
		ref.PutBF16(b.bytes(), i, ref.BF16(b.bytes(), i)/root)
	}
}

// sameWeights are copies.
func (w *twin) sameWeights(cpu []Weight) []Weight {
	var gpu []Weight
	for _, m := range cpu {
		gpu = append(gpu, w.weightOf(m))
	}
	return gpu
}
