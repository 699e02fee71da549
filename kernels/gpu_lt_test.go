//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/cuda"
)

var stubLtLibrary = sync.OnceValues(func() ([]byte, error) { return compileStub("cuda/testdata/stublt.c") })

// newStubLt puts a stub of cuBLASLt, see cuda/testdata/stublt.c, beside the stub driver of the test. What it is asked for is in
// that one's log, and it fails as that one does.
func newStubLt(t testing.TB, o gpuOptions) (file string) {
	t.Helper()
	library, err := stubLtLibrary()
	require.NoError(t, err)
	file = filepath.Join(filepath.Dir(o.library), "libcublasLt.so")
	require.NoError(t, os.WriteFile(file, library, 0o755))
	return file
}

// openStubLt opens a device on both stubs, which the test closes.
func openStubLt(t testing.TB) (*stub, *Device) {
	t.Helper()
	s, o := newStub(t)
	o.cublasLt = newStubLt(t, o)
	d, err := open(Options{Device: "cuda"}, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		s.lines()
		require.NoError(t, d.Close())
		require.Equal(t, [12]int32{}, s.live)
		require.Equal(t, []string{"lt destroy status=0 left=0"}, s.ltLines(), "plans and the handle")
	})
	return s, d
}

// ltLines is what cuBLASLt and the kernels' launches logged since the last call; of launches the kernel's name.
func (s *stub) ltLines() (all []string) {
	for _, line := range s.lines() {
		if kernel, launched := strings.CutPrefix(line, "launch "); launched {
			kernel, _, _ = strings.Cut(kernel, " ")
			all = append(all, kernel)
		} else if strings.HasPrefix(line, "lt ") {
			all = append(all, line)
		}
	}
	return all
}

// ltLine is what the stub logs of a product.
func ltLine(g *gpu, plan int, p cuda.LtProduct) string {
	kind, beta := 14, 0
	if p.Floats {
		kind = 0
	}
	if p.Add {
		beta = 1
	}
	return fmt.Sprintf("lt matmul plan=%d rows=%d cols=%d outputs=%d ld=%d,%d,%d type=%d beta=%d w=%#x x=%#x out=%#x workspace=%#x+%d on stream 1",
		plan, p.Rows, p.Cols, p.Outputs, p.Cols, p.Cols, p.OutStride, kind, beta, p.W, p.X, p.Out, g.ltRoom, ltRoomBytes/2)
}

// TestGPULtOpens: the environment and the kernel set decide whether cuBLASLt is opened.
func TestGPULtOpens(t *testing.T) {
	const none = "libcublasLt-that-is-not-there.so"
	for _, c := range []struct {
		name     string
		variable string // FILE for the stub's
		loader   string // what it finds: FILE or none
		set      string // "" for wgmma's
		fail     string // a call of the library
		opened   bool
		want     string // in the error
	}{
		{name: "unset, found", loader: "FILE", opened: true},
		{name: "unset, none", loader: none},
		{name: "unset, broken", loader: "FILE", fail: "cublasLtCreate"},
		{name: "a file", variable: "FILE", loader: none, opened: true},
		{name: "a file that is not there", variable: "./lt.so", loader: "FILE", want: `QUIRE_CUBLASLT is "./lt.so", which cannot be had: cuda: opening cuBLASLt: ./lt.so: `},
		{name: "a broken file", variable: "FILE", loader: none, fail: "cublasLtCreate", want: "cublasLtCreate gave status 1"},
		{name: "on, found", variable: "on", loader: "FILE", opened: true},
		{name: "on, none", variable: "on", loader: none, want: `QUIRE_CUBLASLT is "on", which cannot be had: cuda: opening cuBLASLt: ` + none},
		{name: "off", variable: "off", loader: "FILE"},
		{name: "PTX", variable: "FILE", loader: "FILE", set: "cuda ptx"},
		{name: "PTX, on, none", variable: "on", loader: none, set: "cuda ptx"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, o := newStub(t)
			file := newStubLt(t, o)
			t.Setenv(ltVariable, strings.Replace(c.variable, "FILE", file, 1))
			o.cublasLt = strings.Replace(c.loader, "FILE", file, 1)
			s.failing(c.fail, 1, 0)
			for _, device := range []string{"cuda", ""} { // also where a CPU would do
				s.lines()
				d, err := open(Options{Device: device, KernelSet: c.set}, o)
				if c.want != "" {
					require.ErrorContains(t, err, c.want)
					require.NotErrorIs(t, err, errors.ErrUnsupported)
					require.Equal(t, [12]int32{}, s.live)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, "cuda", d.Info().Kind)
				require.NoError(t, d.Close())
				require.Equal(t, [12]int32{}, s.live)
				if c.opened {
					require.Equal(t, "13.2.3", d.Info().CuBLASLt)
					require.Equal(t, []string{"lt create", "lt destroy status=0 left=0"}, s.ltLines())
				} else {
					require.Empty(t, d.Info().CuBLASLt)
					require.Empty(t, s.ltLines())
				}
			}
		})
	}
}

// ltRig is a device on both stubs with operands, whose contents nobody looks at.
type ltRig struct {
	*stub
	t                    *testing.T
	d                    *Device
	g                    *gpu
	norm, x, out, logits Buffer
}

const ltRows, ltHidden = 1100, 256 // the most rows, and their columns

func newLtRig(t *testing.T) *ltRig {
	s, d := openStubLt(t)
	r := &ltRig{stub: s, t: t, d: d, g: d.backend.(*gpu)}
	r.norm, r.x, r.out = r.alloc(2*ltHidden), r.alloc(2*ltRows*ltHidden), r.alloc(2*ltRows*1024)
	r.logits = r.alloc(4 * 32 * cuda.ManyOutputs)
	return r
}

func (r *ltRig) alloc(bytes int) Buffer {
	r.t.Helper()
	b, err := r.d.Alloc(bytes)
	require.NoError(r.t, err)
	return b
}

// weight has parts in memory one after the other but where a part's rows are negative: those lie elsewhere.
func (r *ltRig) weight(cols int, parts ...int) Weight {
	w := Weight{Format: BF16, Cols: cols}
	at, used := r.alloc(2*cols*(1<<16+1024)), 0
	for _, rows := range parts {
		if rows < 0 {
			rows = -rows
			used += 512 * cols
		}
		w.Parts = append(w.Parts, Part{Rows: rows, Data: at.Slice(used, 2*rows*cols)})
		w.Rows += rows
		used += 2 * rows * cols
	}
	return w
}

// do runs an operation and returns what that logged.
func (r *ltRig) do(run func(Ops) error) []string {
	r.t.Helper()
	r.lines()
	require.NoError(r.t, r.d.Do(context.Background(), run))
	return r.ltLines()
}

func (r *ltRig) up(w Weight, rows int) func(Ops) error {
	p := NormGateUpParams{X: r.x, Norm: r.norm, Eps: 1e-6, W: w, Out: r.out, Rows: rows}
	return func(o Ops) error { return o.NormGateUp(&p) }
}

func (r *ltRig) add(w Weight, x Buffer, rows int) func(Ops) error {
	p := ProjAddParams{X: x, W: w, Out: r.out, Rows: rows}
	return func(o Ops) error { return o.ProjAdd(&p) }
}

func (r *ltRig) room(kind roomKind) uint64 { return uint64(r.g.rooms[kind].at) }

// TestGPULtProducts: what cuBLASLt is faster at goes to it, after what was launched before, and is planned once for a shape.
func TestGPULtProducts(t *testing.T) {
	r := newLtRig(t)
	w, split := r.weight(ltHidden, 256, 128, 128), r.weight(ltHidden, 256, 128, -128)
	at := func(w Weight, i int) uint64 { return address(w.Parts[i].Data) }
	x, out := address(r.x), address(r.out)
	product := cuda.LtProduct{X: x, W: at(w, 0), Out: out, Rows: 33, Cols: ltHidden, Outputs: 512, OutStride: 512, Add: true}

	require.Equal(t, []string{"lt plan 1", ltLine(r.g, 1, product)}, r.do(r.add(w, r.x, 33)), "parts that lie one after the other")
	require.Equal(t, []string{ltLine(r.g, 1, product)}, r.do(r.add(w, r.x, 33)), "planned before")

	one, other := product, product
	one.W, one.Outputs = at(split, 0), 384
	other.W, other.Outputs, other.Out = at(split, 2), 128, out+2*384
	require.Equal(t, []string{"lt plan 2", "lt plan 3", ltLine(r.g, 2, one), ltLine(r.g, 3, other)}, r.do(r.add(split, r.x, 33)), "parts that do not")

	got := r.do(r.up(w, ltRows))
	product.X, product.Rows, product.Add = r.room(roomNormed), ltRows, false
	require.Equal(t, []string{"lt plan 4", "rmsnorm_bf16", ltLine(r.g, 4, product)}, got)

	head := r.weight(ltHidden, cuda.ManyOutputs)
	index := r.alloc(4 * 32)
	logits := func(rows int) []string {
		return r.do(func(o Ops) error {
			return o.Head(&HeadParams{X: r.x, Index: index, Norm: r.norm, Eps: 1e-6, W: head, Logits: r.logits, Rows: rows})
		})
	}
	got = logits(17)
	product = cuda.LtProduct{X: r.room(roomNormed), W: at(head, 0), Out: address(r.logits), Rows: 17, Cols: ltHidden, Outputs: 1 << 16, OutStride: 1 << 16, Floats: true}
	require.Equal(t, []string{"lt plan 5", "rmsnorm_bf16", ltLine(r.g, 5, product)}, got)

	replay := func(o Ops) error {
		return o.(Replayer).Replay(&Recording{}, r.add(w, r.x, 33))
	}
	product = cuda.LtProduct{X: x, W: at(w, 0), Out: out, Rows: 33, Cols: ltHidden, Outputs: 512, OutStride: 512, Add: true}
	require.Equal(t, []string{ltLine(r.g, 1, product), ltLine(r.g, 1, product)}, r.do(replay), "run, then captured, which the stub does not tell apart")

	ours := func(name string, got []string) {
		require.NotEmpty(t, got, name)
		require.NotContains(t, strings.Join(got, " "), "lt ", name)
	}
	biased := w
	biased.Parts = slices.Clone(w.Parts)
	biased.Parts[1].Bias = r.norm.Slice(0, 2*128)
	ours("few rows", r.do(r.add(w, r.x, 32)))
	ours("few rows of many outputs", logits(16))
	ours("a bias", r.do(r.up(biased, 33)))
	ours("odd columns", r.do(r.add(r.weight(ltHidden-1, 256), r.x, 33)))
	ours("odd outputs", r.do(r.add(r.weight(ltHidden, 255), r.x, 33)))
	ours("an odd address", r.do(r.add(w, r.x.Slice(16, r.x.size-16), 33)))

	r.quiet = 1
	for name, run := range map[string]func(Ops) error{"norm and product": r.up(w, 33), "parts": r.add(split, r.x, 33)} {
		require.NoError(t, r.d.Do(context.Background(), run))
		require.Zero(t, testing.AllocsPerRun(20, func() { _ = r.d.Do(context.Background(), run) }), "allocations of %s", name)
	}
	r.quiet = 0
}

// TestGPULtMLP: gate and up of many rows stay on the chip; of fewer they are left to cuBLASLt, if it takes them.
func TestGPULtMLP(t *testing.T) {
	const inner = 128
	r := newLtRig(t)
	gateUp, down := r.weight(ltHidden, inner, inner), r.weight(inner, ltHidden)
	mlp := func(gateUp Weight, rows int) []string {
		p := MLPParams{X: r.x, Norm: r.norm, Eps: 1e-6, GateUp: gateUp, Down: down, Out: r.out, Rows: rows}
		got := r.do(func(o Ops) error { return o.(MLPOps).MLP(&p) })
		return slices.DeleteFunc(got, func(line string) bool { return strings.HasPrefix(line, "lt plan") })
	}
	for i, rows := range []int{33, cuda.LtMostGated} {
		got := mlp(gateUp, rows)
		first := cuda.LtProduct{X: r.room(roomNormed), W: address(gateUp.Parts[0].Data), Out: r.room(roomGateUp), Rows: rows, Cols: ltHidden, Outputs: 2 * inner, OutStride: 2 * inner}
		second := cuda.LtProduct{X: r.room(roomGated), W: address(down.Parts[0].Data), Out: address(r.out), Rows: rows, Cols: inner, Outputs: ltHidden, OutStride: ltHidden, Add: true}
		require.Equal(t, []string{"rmsnorm_bf16", ltLine(r.g, 2*i+1, first), "silu_mul_bf16", ltLine(r.g, 2*i+2, second)}, got)
	}
	gated := func(got []string) {
		t.Helper()
		require.Equal(t, "rmsnorm_bf16", got[0])
		require.Contains(t, got[1], "sm90_gemm")
		require.Contains(t, got[len(got)-1], "lt matmul ", "down")
		require.NotContains(t, got, "silu_mul_bf16")
	}
	gated(mlp(gateUp, cuda.LtMostGated+1))
	biased := gateUp
	biased.Parts = slices.Clone(gateUp.Parts)
	biased.Parts[0].Bias = r.norm.Slice(0, 2*inner)
	gated(mlp(biased, 33)) // once this was multiplied by our kernels, yet not kept on the chip
	r.failing("cublasLtMatmulAlgoGetHeuristic", -1, 0)
	got := mlp(gateUp, 34)
	require.Len(t, got, 3)
	require.Contains(t, got[1], "sm90_gemm", "no algorithm")
}

// TestGPULtFails: without an algorithm our kernels take a product, whole; one that fails is an error of the step.
func TestGPULtFails(t *testing.T) {
	for _, code := range []int32{-1, 15} {
		r := newLtRig(t)
		w := r.weight(ltHidden, 256, -256, 128) // two products of different shapes
		r.failing("cublasLtMatmulAlgoGetHeuristic", code, 1)
		got := r.do(r.add(w, r.x, 33))
		require.Equal(t, "lt plan 1", got[0])
		require.Len(t, got, 2, "of two products one has an algorithm: neither is queued")
		require.Contains(t, got[1], "sm90_gemm")
		r.failing("", 0, 0)
		require.Equal(t, got[1:], r.do(r.add(w, r.x, 33)), "it is asked once for a shape")
	}
	for _, call := range []string{
		"cublasLtMatmulDescCreate", "cublasLtMatmulDescSetAttribute", "cublasLtMatrixLayoutCreate", "cublasLtMatmulPreferenceCreate",
		"cublasLtMatmulPreferenceSetAttribute",
	} {
		r := newLtRig(t)
		r.failing(call, 3, 0)
		got := r.do(r.add(r.weight(ltHidden, 256), r.x, 33))
		require.Len(t, got, 1, call)
		require.Contains(t, got[0], "sm90_gemm", call)
	}

	r := newLtRig(t)
	w := r.weight(ltHidden, 256)
	r.failing("cublasLtMatmul", 13, 0)
	err := r.d.Do(context.Background(), r.add(w, r.x, 33))
	require.EqualError(t, err, "kernels: cuda: multiplying 33 rows of 256 by 256 outputs with cuBLASLt 13.2.3: status 13")
	require.NotErrorIs(t, err, ErrDevice, "as of a launch that is refused")
	r.failing("", 0, 0)
	require.Len(t, r.do(r.add(w, r.x, 33)), 1)
}

// TestGPULtLost: a product in a lost context ends the device, whether it fails or is queued, and is among what may have ended it.
func TestGPULtLost(t *testing.T) {
	for _, status := range []int32{0, 13} {
		t.Run(fmt.Sprint("status=", status), func(t *testing.T) { testGPULtLost(t, status) })
	}
}

func testGPULtLost(t *testing.T, status int32) {
	s, o := newStub(t)
	o.cublasLt = newStubLt(t, o)
	d, err := open(Options{Device: "cuda"}, o)
	require.NoError(t, err)
	r := &ltRig{stub: s, t: t, d: d}
	r.x, r.out = r.alloc(2*33*ltHidden), r.alloc(2*33*256)
	w := r.weight(ltHidden, 256)
	s.failing("cublasLtMatmul", status, 0)
	s.faultCode, s.faultPending = 700, 700
	err = d.Do(context.Background(), func(o Ops) error {
		if err := r.add(w, r.x, 33)(o); err != nil {
			return err
		}
		return o.Read(make([]byte, 4), r.out.Slice(0, 4))
	})
	require.ErrorIs(t, err, ErrDevice)
	require.ErrorContains(t, err, "a product of cuBLASLt")
	s.lines()
	require.NoError(t, d.Close())
	require.Equal(t, []string{"lt destroy status=0 left=0"}, s.ltLines())
}
