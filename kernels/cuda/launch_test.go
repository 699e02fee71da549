//go:build linux && cgo && (amd64 || arm64)

package cuda

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// normParams is the twin of a kernel's struct: it has padding, as C would put it.
type normParams struct {
	X    Ptr
	Rows int32
	Eps  float32
	Last uint16
	_    [6]byte
}

// TestLaunchArguments compares what a kernel gets with what was asked for.
func TestLaunchArguments(t *testing.T) {
	many := make([]byte, 4096)
	for i := range many {
		many[i] = byte(i * 7)
	}
	for _, c := range []struct {
		name   string
		launch func(*rig) error
		want   string
	}{
		{"a struct", func(r *rig) error {
			return Launch(r.stream, r.function("norm"), Shape{Grid: Dim{X: 3}, Block: Dim{X: 128}}, &normParams{X: 0x1122334455667788, Rows: -2, Eps: 1.5, Last: 0xabcd})
		}, "launch norm grid=3,1,1 block=128,1,1 shared=0 params=8877665544332211" + "feffffff" + "0000c03f" + "cdab000000000000"},
		{"no arguments", func(r *rig) error { return r.stream.Launch(r.function("none"), one, nil) },
			"launch none grid=1,1,1 block=32,1,1 shared=0 params="},
		{"the most that old drivers take", func(r *rig) error { return r.stream.Launch(r.function("big"), one, many) },
			"launch big grid=1,1,1 block=32,1,1 shared=0 params=" + hex.EncodeToString(many[:4046])},
		{"two parameters packed", func(r *rig) error { return r.stream.Launch(r.function("two"), one, many[:112]) },
			"launch two grid=1,1,1 block=32,1,1 shared=0 params=" + hex.EncodeToString(many[:112])},
		{"three dimensions and shared memory", func(r *rig) error {
			f := r.function("norm")
			require.NoError(r.t, f.AllowShared(200<<10))
			return r.stream.Launch(f, Shape{Grid: Dim{1, 2, 3}, Block: Dim{4, 5, 6}, SharedBytes: 200 << 10}, make([]byte, 24))
		}, "launch norm grid=1,2,3 block=4,5,6 shared=204800 params=" + strings.Repeat("00", 24)},
		{"early", func(r *rig) error {
			return r.stream.Launch(r.function("none"), Shape{Grid: Dim{X: 1}, Block: Dim{X: 32}, Early: true}, nil)
		},
			"launch none grid=1,1,1 block=32,1,1 shared=0 early=1 params="},
		{"cooperative", func(r *rig) error {
			return r.stream.Launch(r.function("none"), Shape{Grid: Dim{X: 132}, Block: Dim{X: 32}, Cooperative: true}, nil)
		}, "launch none grid=132,1,1 block=32,1,1 shared=0 cooperative=1 params="},
		{"clusters, early", func(r *rig) error {
			return r.stream.Launch(r.function("none"), Shape{Grid: Dim{8, 4, 1}, Block: Dim{X: 32}, Cluster: Dim{X: 2, Y: 4}, Early: true}, nil)
		}, "launch none grid=8,4,1 block=32,1,1 shared=0 cluster=2,4,1 early=1 params="},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			require.NoError(t, c.launch(r))
			require.Empty(t, r.lines(), "before it is flushed")
			require.NoError(t, r.stream.Flush())
			got := r.lines()
			require.Len(t, got, 1)
			require.True(t, strings.HasPrefix(got[0], c.want), "got %s, want %s", got[0], c.want)
		})
	}
}

func TestLaunchRefuses(t *testing.T) {
	params := make([]byte, 24)
	for _, c := range []struct {
		name   string
		shape  Shape
		params []byte
		want   string
	}{
		{"no blocks", Shape{Block: Dim{X: 32}}, params, `cuda: launching "norm": grid of [0 1 1] blocks of [32 1 1] threads`},
		{"no threads", Shape{Grid: Dim{X: 1}}, params, `cuda: launching "norm": grid of [1 1 1] blocks of [0 1 1] threads`},
		{"too few arguments", one, params[:20], `cuda: launching "norm": 20 bytes of parameters, want 24`},
		{"too many threads", Shape{Grid: Dim{X: 1}, Block: Dim{64, 64, 1}}, params, `cuda: launching "norm": block of [64 64 1] threads, want at most 1024`},
		{"threads past 32 bits", Shape{Grid: Dim{X: 1}, Block: Dim{1 << 31, 2, 1}}, params, `cuda: launching "norm": block of [2147483648 2 1] threads, want at most 1024`},
		{"too much shared memory", Shape{Grid: Dim{X: 1}, Block: Dim{X: 32}, SharedBytes: 48<<10 + 1}, params, `cuda: launching "norm": 49153 bytes of shared memory, want at most 49152`},
		{"broken clusters", Shape{Grid: Dim{X: 9}, Block: Dim{X: 32}, Cluster: Dim{X: 2}}, params, `cuda: launching "norm": grid of [9 1 1] blocks is not whole clusters of [2 1 1]`},
		{"clusters without a width", Shape{Grid: Dim{X: 8}, Block: Dim{X: 32}, Cluster: Dim{Y: 1}}, params, `cuda: launching "norm": grid of [8 1 1] blocks is not whole clusters of [0 1 1]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			require.EqualError(t, r.stream.Launch(r.function("norm"), c.shape, c.params), c.want)
			require.NoError(t, r.stream.Flush())
			require.Empty(t, r.lines(), "nothing was launched")
		})
	}
}

// TestQueueKeepsOrder launches more than fits the queue, in number and in bytes, among other work.
func TestQueueKeepsOrder(t *testing.T) {
	for _, launches := range []int{1, 3, 32, 0} {
		t.Run(fmt.Sprintf("launches=%d", launches), func(t *testing.T) {
			r := newRig(t)
			add, big := r.function("add"), r.function("big")
			s, err := r.context.OpenStream(StreamOptions{Launches: launches})
			require.NoError(t, err)
			p := r.alloc(256)
			r.lines()
			var want []string
			params := make([]byte, 4096)
			for i := range 200 {
				binary.LittleEndian.PutUint64(params, uint64(i))
				switch {
				case i%50 == 49:
					require.NoError(t, s.Fill(p, 256, byte(i)))
					want = append(want, fmt.Sprintf("fill bytes=256 value=%d", i))
				case i >= 120 && i < 160: // 40 × 4096 bytes: past the memory for arguments
					require.NoError(t, s.Launch(big, one, params))
					want = append(want, "launch big grid=1,1,1 block=32,1,1 shared=0 params="+hex.EncodeToString(params[:8]))
				default:
					require.NoError(t, s.Launch(add, one, params[:8]))
					want = append(want, "launch add grid=1,1,1 block=32,1,1 shared=0 params="+hex.EncodeToString(params[:8]))
				}
			}
			require.NoError(t, s.Sync())
			got := r.lines()
			require.Len(t, got, len(want)+1)
			for i, line := range want {
				require.True(t, strings.HasPrefix(got[i], line), "line %d: got %.80s, want %s", i, got[i], line)
			}
			require.Contains(t, got[len(want)], "sync stream")
			require.NoError(t, s.Close())
		})
	}
}

// TestLaunchFails: the error names the launch, those before it ran and those after it are dropped.
func TestLaunchFails(t *testing.T) {
	r := newRig(t)
	add, none := r.function("add"), r.function("none")
	for i := range 5 {
		if i == 3 {
			require.NoError(t, r.stream.Launch(add, one, make([]byte, 8)))
		}
		require.NoError(t, r.stream.Launch(none, one, nil))
	}
	r.failing("cuLaunchKernelEx", codeInvalidValue, 3)
	require.EqualError(t, r.stream.Sync(), `cuda: launching "add": CUDA_ERROR_INVALID_VALUE: invalid argument`)
	require.Len(t, r.lines(), 3)
	r.failing("", 0, 0)
	require.NoError(t, r.stream.Sync())
	require.Equal(t, []string{"sync stream 1"}, r.lines())
}

func TestFunction(t *testing.T) {
	r := newRig(t)
	f := r.function("two")
	require.Equal(t, "two", f.Name())
	require.Equal(t, FunctionInfo{Threads: 1024, Registers: 40, SharedBytes: 1024, LocalBytes: 8, ConstBytes: 64, ParamBytes: 112, Capability: 90}, f.Info())
	blocks, err := f.BlocksPerSM(256, 100<<10)
	require.NoError(t, err)
	require.Equal(t, 2, blocks)
	require.EqualError(t, f.AllowShared(1<<20), `cuda: allowing function "two" 1048576 bytes of shared memory: CUDA_ERROR_INVALID_VALUE: invalid argument`)

	_, err = r.module.Function("missing")
	require.EqualError(t, err, `cuda: finding function "missing" in module "kernels": CUDA_ERROR_NOT_FOUND: named symbol not found`)

	_, err = r.context.OpenModule("ptx", []byte(".version 9.0"))
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "ptxas application ptx input, line 1; fatal: not a STUB: .version 9.0", e.Log)
	require.EqualError(t, err, "cuda: loading module \"ptx\": CUDA_ERROR_INVALID_PTX: a PTX JIT compilation failed\n"+e.Log)
	_, err = r.context.OpenModule("nothing", nil)
	require.EqualError(t, err, `cuda: loading module "nothing": the image is empty`)

	other, err := r.context.OpenModule("other", []byte(image)[:len(image):len(image)])
	require.NoError(t, err)
	f, err = other.Function("none")
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, other.Close(), "closing twice is fine")
	}
	require.ErrorIs(t, r.stream.Launch(f, one, nil), ErrClosed)
	require.ErrorIs(t, f.AllowShared(1), ErrClosed)
	_, err = f.BlocksPerSM(32, 0)
	require.ErrorIs(t, err, ErrClosed)
	_, err = other.Function("none")
	require.EqualError(t, err, `cuda: finding function "none": module "other": cuda: already closed`)
}

// TestNoAllocations: launches and copies leave the Go heap alone, also across automatic flushes and within captures.
func TestNoAllocations(t *testing.T) {
	r := newRig(t)
	norm, event := r.function("norm"), r.event(EventOptions{})
	p := r.alloc(256)
	host, err := r.context.AllocHost(256)
	require.NoError(t, err)
	require.NoError(t, r.stream.BeginCapture())
	require.NoError(t, Launch(r.stream, norm, one, &normParams{X: p}))
	g, err := r.stream.EndCapture()
	require.NoError(t, err)
	x, err := g.Instantiate("step")
	require.NoError(t, err)
	r.quiet = 1
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for i := range 100 {
			params := normParams{X: p, Rows: int32(i)}
			if Launch(r.stream, norm, Shape{Grid: Dim{X: 7}, Block: Dim{X: 64}, Early: true}, &params) != nil {
				panic("launch")
			}
		}
		if r.stream.CopyIn(p, host) != nil || r.stream.CopyOut(host, p) != nil || r.stream.Copy(p, p+128, 128) != nil ||
			r.stream.Fill(p, 8, 1) != nil || r.stream.Fill32(p, 8, 1) != nil || r.stream.Record(event) != nil ||
			r.stream.Wait(event) != nil || r.stream.LaunchGraph(x) != nil || event.Sync() != nil || r.stream.Sync() != nil {
			panic("work")
		}
		if done, err := event.Done(); !done || err != nil {
			panic("event")
		}
	}))
	r.quiet = 0
	require.NoError(t, x.Close())
	require.NoError(t, g.Close())
	require.NoError(t, r.context.FreeHost(host))
}

// TestQueueMemory: arguments lie where a tensor map may lie, wherever the memory came from.
func TestQueueMemory(t *testing.T) {
	for launches := 1; launches < 9; launches++ {
		var q queue
		q.open(launches)
		require.Zero(t, uintptr(unsafe.Pointer(&q.params[0]))%paramAlign)
		require.Len(t, q.params, queueParamBytes)
		require.Len(t, q.launches, launches)
		q.close()
	}
}
