package kernels

import (
	"context"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/ref"
)

var seedFlag = flag.Uint64("seed", 0, "replay random tests with this seed")

// tolerance bounds the largest error of a kernel beside package ref, as a part of the largest number that ref gives.
var tolerance = map[string]float64{
	"product": 2e-6, // sums of up to 3,000 products
	"int16":   1e-4, // where an input may be rounded to the other of two int16
	"rounded": 3e-3, // the same where an input may be rounded to the other of two bfloat16
	"norm":    1e-6,
	"gate":    1e-6,
	"rotate":  1e-6,
	"attend":  3e-6,
	"turned":  2e-5, // keys met at another position than they were stored for, beside keys stored there

	"attend, rounded": 1e-2, // queries and weights as bfloat16
	"turned, rounded": 2e-2,

	"moe":      5e-6,
	"logsum":   1e-6,
	"bfloat16": 1.0 / 256, // one step of what is stored as bfloat16
	"int8":     1.01 / 127,
}

// eachSet runs a test on every kernel set that this machine can run. A set that the processor has, but the build does not
// offer, is a failure.
func eachSet(t *testing.T, run func(t *testing.T, set string)) {
	var names []string
	for _, set := range kernelSets() {
		names = append(names, set.name)
	}
	for _, name := range wantedSets(t) {
		if !slices.Contains(names, name) {
			t.Errorf("got kernel sets %v, want %q among them: the processor has it", names, name)
		}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) { run(t, name) })
	}
}

// wantedSets are the sets that the processor says it can run, by its own words.
func wantedSets(t *testing.T) []string {
	names := []string{"go"}
	if whyNoCompiledSets != "" {
		return names
	}
	names = append(names, "portable")
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return names
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	require.NoError(t, err)
	_, flags, _ := strings.Cut(string(info), "\nflags")
	flags, _, _ = strings.Cut(flags, "\n")
	has := strings.Fields(flags)
	if slices.Contains(has, "avx2") && slices.Contains(has, "fma") {
		names = append(names, "avx2")
	}
	if slices.Contains(has, "avx512dq") && slices.Contains(has, "avx512bw") && slices.Contains(has, "avx512vl") {
		names = append(names, "avx512")
		if slices.Contains(has, "avx512_bf16") {
			names = append(names, "avx512bf16")
		}
	}
	return names
}

// rig is a device and a source of random tensors in its memory.
type rig struct {
	tb  testing.TB
	dev *Device
	rng *rand.Rand
}

// newRig opens a device that the test closes.
func newRig(tb testing.TB, set string, threads int) *rig {
	tb.Helper()
	d, err := Open(Options{Device: "cpu", KernelSet: set, Threads: threads})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, d.Close()) })
	return &rig{tb: tb, dev: d, rng: newRand(tb)}
}

// newRand is a random source that prints its seed where the test fails.
func newRand(tb testing.TB) *rand.Rand {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("replay with -seed %d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// do runs fn on the device.
func (r *rig) do(fn func(Ops) error) {
	r.tb.Helper()
	require.NoError(r.tb, r.dev.Do(context.Background(), fn))
}

// alloc is zeroed memory.
func (r *rig) alloc(bytes int) Buffer {
	b, err := r.dev.Alloc(bytes)
	require.NoError(r.tb, err)
	return b
}

// rounds says whether the set rounds the inputs of products to bfloat16.
func (r *rig) rounds() bool { return r.dev.Info().Products == "bf16" }

// round does to an input of a product what the set does to it.
func (r *rig) round(x []float32) {
	if r.rounds() {
		for i := range x {
			x[i] = ref.RoundBF16(x[i])
		}
	}
}

// tolerance names the bound on a product of an input that was computed in float32 first.
func (r *rig) tolerance(exact string) string {
	if !r.rounds() {
		return exact
	}
	if own := exact + ", rounded"; tolerance[own] > 0 {
		return own
	}
	return "rounded"
}

// floats is n normally distributed float32.
func (r *rig) floats(n int) Buffer {
	b := r.alloc(4 * n)
	for i := range b.float32s() {
		b.float32s()[i] = float32(r.rng.NormFloat64())
	}
	return b
}

// ints is the given int32.
func (r *rig) ints(values ...int32) Buffer {
	b := r.alloc(4 * len(values))
	copy(b.int32s(), values)
	return b
}

// write is a buffer with a copy of data in it.
func write[T any](r *rig, data []T) Buffer {
	b := r.alloc(len(AsBytes(data)))
	copy(b.bytes(), AsBytes(data))
	return b
}

// bf16s is n normally distributed bfloat16 at an odd address.
func (r *rig) bf16s(n int) Buffer {
	b := r.alloc(2*n+1).Slice(1, 2*n)
	for i := range n {
		ref.PutBF16(b.bytes(), i, float32(r.rng.NormFloat64()))
	}
	return b
}

// weight is a random matrix of parts with the given rows. Every second part has a bias if biases are asked for.
func (r *rig) weight(cols int, biases bool, rows ...int) Weight {
	w := Weight{Format: BF16, Cols: cols}
	for i, n := range rows {
		part := Part{Rows: n, Data: r.bf16s(n * cols)}
		if biases && i%2 == 0 {
			part.Bias = r.bf16s(n)
		}
		w.Parts = append(w.Parts, part)
		w.Rows += n
	}
	return w
}

// product is W·x + bias by package ref, added to y, for x as the set rounds it.
func (r *rig) product(w Weight, x, y []float32) {
	if w.Format == Int8 {
		int8Product(w, x, y)
		return
	}
	x = slices.Clone(x)
	r.round(x)
	for _, part := range w.Parts {
		var bias []byte
		if !part.Bias.IsZero() {
			bias = part.Bias.bytes()
		}
		ref.MatVec(y[:part.Rows], part.Data.bytes(), x, bias, true)
		y = y[part.Rows:]
	}
}

// requireClose demands that got is within the named tolerance of want.
func requireClose(tb testing.TB, what string, got, want []float32) {
	tb.Helper()
	require.Len(tb, got, len(want))
	largest, worst, at := 1e-30, 0.0, 0
	for i := range want {
		largest = max(largest, math.Abs(float64(want[i])))
		if diff := math.Abs(float64(got[i]) - float64(want[i])); !(diff <= worst) {
			worst, at = diff, i
		}
	}
	if !(worst <= tolerance[what]*largest) {
		tb.Fatalf("%s: element %d: got %v, want %v; off by %.2g of the largest, %.2g is allowed",
			what, at, got[at], want[at], worst/largest, tolerance[what])
	}
}

// bits is a copy of a buffer's floats as bits: to compare exactly, NaN included.
func bits(b Buffer) []uint32 {
	out := make([]uint32, len(b.float32s()))
	for i, v := range b.float32s() {
		out[i] = math.Float32bits(v)
	}
	return out
}
