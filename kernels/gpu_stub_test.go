//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/cuda"
)

// stub is the memory that tests and the stub driver share: see cuda/testdata/stub.h. Its device memory is the host's,
// and its kernels do nothing but leave a line in the log.
type stub struct {
	version, devices, major, minor int32
	memory                         int64
	fail                           [64]byte
	failCode, failSkip             int32
	fault                          [64]byte
	faultCode, faultPending        int32
	lost                           int32
	quiet                          int32
	busy                           int32
	live                           [12]int32
	launches                       int64
	logBytes                       int32
	log                            [1 << 20]byte
}

// stubLibrary compiles the stub driver, once, and returns its bytes.
var stubLibrary = sync.OnceValues(func() ([]byte, error) { return compileStub("cuda/testdata/stub.c") })

func compileStub(source string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "stub")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "gcc"
	}
	library := filepath.Join(dir, "stub.so")
	out, err := exec.Command(compiler, "-shared", "-fPIC", "-O2", "-pthread", "-o", library, source).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("compiling %q: %w\n%s", source, err, out)
	}
	return os.ReadFile(library)
}

// newStub puts a stub driver of its own into a folder of the test.
func newStub(t testing.TB) (*stub, gpuOptions) {
	t.Helper()
	library, err := stubLibrary()
	require.NoError(t, err)
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "control"))
	require.NoError(t, err)
	defer file.Close()
	size := int(unsafe.Sizeof(stub{}))
	require.NoError(t, file.Truncate(int64(size)))
	shared, err := syscall.Mmap(int(file.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Munmap(shared)) })
	t.Setenv("QUIRE_STUB", file.Name())
	t.Setenv(ltVariable, "")
	path := filepath.Join(dir, "libcuda.so.1")
	require.NoError(t, os.WriteFile(path, library, 0o755))
	s := (*stub)(unsafe.Pointer(&shared[0]))
	s.version, s.devices, s.major, s.minor, s.memory = 13000, 1, 9, 0, 1<<30
	return s, gpuOptions{library: path, cublasLt: "libcublasLt-that-is-not-there.so", image: stubImage}
}

// stubImage is an image as the stub understands it: the names of its kernels with the sizes of their params.
func stubImage(name, target string) ([]byte, error) {
	text := "STUB"
	for k := range cuda.Kernel(cuda.Kernels) {
		if k.Image() == name {
			text += fmt.Sprintf(" %v:%d", k, k.ParamsBytes())
		}
	}
	return append([]byte(text), 0), nil
}

// openStub opens a device on a stub driver, which the test closes.
func openStub(t testing.TB) (*stub, *Device) {
	t.Helper()
	s, g := newStub(t)
	d, err := open(Options{Device: "cuda"}, g)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, d.Close())
		if s.lost == 0 {
			require.Equal(t, [12]int32{}, s.live, "contexts, streams, events, modules, graphs, executables, device memory, pinned memory... that are left")
		}
	})
	s.lines()
	return s, d
}

// failing makes a call of the driver fail after skip good ones.
func (s *stub) failing(call string, code, skip int32) {
	clear(s.fail[:])
	copy(s.fail[:], call)
	s.failCode, s.failSkip = code, skip
}

// lines is what the stub logged since the last call.
func (s *stub) lines() []string {
	text := strings.TrimSuffix(string(s.log[:s.logBytes]), "\n")
	s.logBytes = 0
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// launched is a launch that the stub logged.
type launched struct {
	kernel string
	grid   [2]int
	block  int
	shared int
	early  bool
	rest   string // what else the launch asks for
	params []byte
}

// launches are those among the lines logged since the last call.
func (s *stub) launchesSince(t testing.TB) []launched {
	t.Helper()
	var all []launched
	for _, line := range s.lines() {
		if !strings.HasPrefix(line, "launch ") {
			continue
		}
		var l launched
		var z, y1, z1 int
		var params string
		if l.early = strings.Contains(line, " early=1"); l.early {
			line = strings.Replace(line, " early=1", "", 1)
		}
		before, packed, found := strings.Cut(line, " params=")
		require.True(t, found, line)
		at := strings.Index(before, " shared=") + 1
		sizes, rest, _ := strings.Cut(before[at:], " ")
		line, l.rest = before[:at]+sizes+" params="+packed, rest
		_, err := fmt.Sscanf(line, "launch %s grid=%d,%d,%d block=%d,%d,%d shared=%d params=%s",
			&l.kernel, &l.grid[0], &l.grid[1], &z, &l.block, &y1, &z1, &l.shared, &params)
		require.NoError(t, err, line)
		require.Equal(t, [3]int{1, 1, 1}, [3]int{z, y1, z1}, line)
		l.params, err = hex.DecodeString(params)
		require.NoError(t, err)
		all = append(all, l)
	}
	return all
}

// paramsOf are a launch's.
func paramsOf[P any](t testing.TB, l launched) P {
	t.Helper()
	var p P
	require.Len(t, l.params, sizeOf[P]())
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&p)), sizeOf[P]()), l.params)
	return p
}
