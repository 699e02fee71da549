//go:build linux && cgo && (amd64 || arm64)

package cuda

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// These tests use the machine's own driver and GPU. Without one they are skipped, unless QUIRE_REQUIRE_GPU is set: then
// they fail.

// realDevice is the first GPU, in use on this thread, with a stream.
func realDevice(t *testing.T) (*Context, *Stream) {
	t.Helper()
	d, err := Open(Options{})
	if errors.Is(err, errors.ErrUnsupported) && os.Getenv("QUIRE_REQUIRE_GPU") == "" {
		t.Skipf("no GPU to test on (set QUIRE_REQUIRE_GPU=1 to make this a failure): %v", err)
	}
	require.NoError(t, err)
	c, err := d.OpenContext(0)
	require.NoError(t, err)
	runtime.LockOSThread()
	require.NoError(t, c.Use())
	s, err := c.OpenStream(StreamOptions{Name: "main"})
	require.NoError(t, err)
	t.Logf("%s, %+v", d.Version(), c.Info())
	t.Cleanup(func() {
		err := errors.Join(s.Close(), c.Close(), d.Close())
		if !errors.Is(err, ErrLost) {
			require.NoError(t, err)
		}
		runtime.UnlockOSThread()
	})
	return c, s
}

// addParams is the twin of add_u32's struct in testdata/add.ptx.
type addParams struct {
	To           Ptr
	Count, Value uint32
	_            uint64
}

func addFunction(t *testing.T, c *Context) (*Module, *Function) {
	t.Helper()
	ptx, err := os.ReadFile("testdata/add.ptx")
	require.NoError(t, err)
	m, err := c.OpenModule("add.ptx", ptx)
	require.NoError(t, err)
	f, err := m.Function("add_u32")
	require.NoError(t, err)
	return m, f
}

// TestDevice does on the device what the other tests do on the stub.
func TestDevice(t *testing.T) {
	c, s := realDevice(t)
	info := c.Info()
	require.NotEmpty(t, info.Name)
	require.Greater(t, info.SMs, 0)
	require.Greater(t, info.MemoryBytes, int64(1<<30))
	require.Greater(t, info.L2Bytes, 1<<20)
	require.GreaterOrEqual(t, info.SharedBytes, 96<<10)
	require.Regexp(t, `^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.0$`, info.PCI)
	free, total, err := c.Memory()
	require.NoError(t, err)
	require.LessOrEqual(t, free, total)
	require.Greater(t, free, int64(0))

	m, add := addFunction(t, c)
	require.Equal(t, 24, add.Info().ParamBytes)
	require.Greater(t, add.Info().Registers, 0)
	blocks, err := add.BlocksPerSM(256, 0)
	require.NoError(t, err)
	require.Greater(t, blocks, 0)
	require.NoError(t, add.AllowShared(96<<10))
	require.Error(t, add.AllowShared(info.SharedBytes+1))

	const words = 1000
	p, err := c.Alloc(2 * 4 * words)
	require.NoError(t, err)
	host, err := c.AllocHost(4 * words)
	require.NoError(t, err)
	start, err := c.OpenEvent(EventOptions{Timing: true})
	require.NoError(t, err)
	end, err := c.OpenEvent(EventOptions{Timing: true, Blocking: true})
	require.NoError(t, err)
	check := func(at Ptr, want uint32) {
		t.Helper()
		require.NoError(t, s.CopyOut(host, at))
		require.NoError(t, s.Sync())
		for i := range words {
			require.Equal(t, want, binary.LittleEndian.Uint32(host[4*i:]), "word %d", i)
		}
	}
	launch := func(at Ptr, value uint32, shared int, early bool) {
		t.Helper()
		shape := Shape{Grid: Dim{X: (words + 255) / 256}, Block: Dim{X: 256}, SharedBytes: shared, Early: early}
		require.NoError(t, Launch(s, add, shape, &addParams{To: at, Count: words, Value: value}))
	}
	require.NoError(t, s.Record(start))
	require.NoError(t, s.Fill32(p, words, 7))
	for range 100 {
		launch(p, 3, 0, false)
	}
	launch(p, 1, 96<<10, false)
	require.NoError(t, s.Record(end))
	require.NoError(t, end.Sync())
	took, err := end.Since(start)
	require.NoError(t, err)
	require.Greater(t, int64(took), int64(0))
	check(p, 308)

	// A second stream copies what the first computed.
	other, err := c.OpenStream(StreamOptions{Name: "copy", Priority: -1})
	require.NoError(t, err)
	launch(p, 2, 0, false)
	require.NoError(t, s.Record(end))
	require.NoError(t, other.Wait(end))
	require.NoError(t, other.Copy(p+4*words, p, 4*words))
	require.NoError(t, other.Sync())
	check(p+4*words, 310)

	// The same as a graph, with arguments that change; the early launch depends on nothing before it.
	capture := func(value uint32, launches int) *Graph {
		require.NoError(t, s.BeginCapture())
		require.NoError(t, s.CopyIn(p, host))
		for range launches {
			launch(p, value, 0, false)
		}
		launch(p+4*words, value, 0, info.Major >= 9)
		g, err := s.EndCapture()
		require.NoError(t, err)
		return g
	}
	g := capture(5, 3)
	x, err := g.Instantiate("add")
	require.NoError(t, err)
	require.NoError(t, s.UploadGraph(x))
	for i := range words {
		binary.LittleEndian.PutUint32(host[4*i:], 1000)
	}
	for range 10 {
		require.NoError(t, s.LaunchGraph(x))
	}
	require.NoError(t, s.Sync())
	check(p, 1015)
	check(p+4*words, 360)
	same, longer := capture(6, 3), capture(6, 4)
	require.NoError(t, x.Update(same))
	require.ErrorIs(t, x.Update(longer), ErrGraphDiffers)
	for i := range words {
		binary.LittleEndian.PutUint32(host[4*i:], 0)
	}
	require.NoError(t, s.LaunchGraph(x))
	require.NoError(t, s.Sync())
	check(p, 18)
	require.NoError(t, errors.Join(x.Close(), g.Close(), same.Close(), longer.Close()))

	_, err = c.Alloc(1 << 50)
	require.ErrorIs(t, err, ErrOutOfMemory)
	require.NotErrorIs(t, err, ErrLost)
	_, err = c.OpenModule("broken", []byte(".version 8.0\n.target sm_80\n.address_size 64\nbroken\n"))
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Contains(t, e.Log, "broken", "the compiler says where: %v", err)
	t.Logf("as it should be: %v", err)

	require.NoError(t, errors.Join(other.Close(), start.Close(), end.Close(), c.FreeHost(host), c.Free(p), m.Close()))
}

// TestDevicePages moves physical memory between addresses while a kernel knows only the addresses.
func TestDevicePages(t *testing.T) {
	c, s := realDevice(t)
	require.True(t, c.Info().VirtualMemory)
	m, add := addFunction(t, c)
	granule, err := c.Granularity()
	require.NoError(t, err)
	span, err := c.Reserve(64 * granule)
	require.NoError(t, err)
	pages, err := c.CreatePages(granule)
	require.NoError(t, err)
	words := uint32(granule / 4)
	for i, at := range []Ptr{span, span + Ptr(63*granule)} {
		require.NoError(t, c.Map(at, granule, pages))
		require.NoError(t, c.Allow(at, granule))
		if i == 0 {
			require.NoError(t, s.Fill32(at, int(words), 40))
		}
		require.NoError(t, Launch(s, add, Shape{Grid: Dim{X: words / 256}, Block: Dim{X: 256}}, &addParams{To: at, Count: words, Value: 1}))
		host := make([]byte, granule)
		require.NoError(t, s.CopyOut(host, at))
		require.NoError(t, s.Sync())
		for _, word := range []uint32{0, words / 2, words - 1} {
			require.Equal(t, uint32(41+i), binary.LittleEndian.Uint32(host[4*word:]), "word %d", word)
		}
		require.NoError(t, c.Unmap(at, granule))
	}
	require.NoError(t, errors.Join(c.ReleasePages(pages), c.Unreserve(span, 64*granule), m.Close()))
}

// TestDeviceLost lets a kernel write where nothing is, in a process of its own: no context of that process works again.
func TestDeviceLost(t *testing.T) {
	const child = "QUIRE_CUDA_TEST_CHILD"
	c, s := realDevice(t)
	if os.Getenv(child) == "" {
		self, err := os.Executable()
		require.NoError(t, err)
		command := exec.Command(self, "-test.run=^TestDeviceLost$", "-test.v")
		command.Env = append(os.Environ(), child+"=1")
		out, err := command.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	_, add := addFunction(t, c)
	require.NoError(t, Launch(s, add, Shape{Grid: Dim{X: 1}, Block: Dim{X: 32}}, &addParams{To: 4096, Count: 32}))
	err := s.Sync()
	t.Log(err)
	require.ErrorIs(t, err, ErrLost)
	require.ErrorContains(t, err, "CUDA_ERROR_ILLEGAL_ADDRESS")
	require.ErrorContains(t, err, "(queued since the last wait: add_u32)")
	_, err = c.Alloc(64)
	require.ErrorIs(t, err, ErrLost)
}
