//go:build linux && cgo && (amd64 || arm64)

package cuda

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// control is the memory that tests and the stub driver share: see testdata/stub.h.
type control struct {
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

var kinds = [...]string{
	"contexts", "streams", "events", "modules", "graphs", "executable graphs", "device memory", "pinned memory",
	"registered memory", "reservations", "pages", "maps",
}

// stubLibrary compiles the stub driver, once, and returns its bytes.
var stubLibrary = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "stub")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	library := filepath.Join(dir, "libcuda.so.1")
	out, err := exec.Command(compiler(), "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", library,
		"testdata/stub.c").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("compiling the stub driver: %w\n%s", err, out)
	}
	return os.ReadFile(library)
})

// compiler is the C compiler that cgo uses.
func compiler() string {
	if cc := os.Getenv("CC"); cc != "" {
		return cc
	}
	return "gcc"
}

// newStub puts a stub driver of its own into a folder of the test. Its state begins when it is opened.
func newStub(t testing.TB) (*control, Options) {
	t.Helper()
	library, err := stubLibrary()
	require.NoError(t, err)
	return newStubOf(t, library)
}

func newStubOf(t testing.TB, library []byte) (*control, Options) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "control"))
	require.NoError(t, err)
	defer file.Close()
	size := int(unsafe.Sizeof(control{}))
	require.NoError(t, file.Truncate(int64(size)))
	shared, err := syscall.Mmap(int(file.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Munmap(shared)) })
	t.Setenv("QUIRE_STUB", file.Name())
	path := filepath.Join(filepath.Dir(file.Name()), "libcuda.so.1")
	require.NoError(t, os.WriteFile(path, library, 0o755))
	c := (*control)(unsafe.Pointer(&shared[0]))
	c.version, c.devices, c.major, c.minor, c.memory = 13000, 1, 9, 0, 1<<30
	return c, Options{Library: path}
}

// failing makes a call of the driver fail after skip good ones.
func (c *control) failing(call string, code Result, skip int) {
	clear(c.fail[:])
	copy(c.fail[:], call)
	c.failCode, c.failSkip = int32(code), int32(skip)
}

// faulting makes a kernel end the context.
func (c *control) faulting(kernel string, code Result) {
	copy(c.fault[:], kernel)
	c.faultCode = int32(code)
}

// lines is what the stub logged since the last call.
func (c *control) lines() []string {
	text := strings.TrimSuffix(string(c.log[:c.logBytes]), "\n")
	c.logBytes = 0
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// alive is what was opened and not closed.
func (c *control) alive() []string {
	var all []string
	for kind, n := range c.live {
		if n != 0 {
			all = append(all, fmt.Sprintf("%d %s", n, kinds[kind]))
		}
	}
	return all
}

// rig is an opened stub with what most tests need.
type rig struct {
	*control
	t       testing.TB
	driver  *Driver
	context *Context
	stream  *Stream
	module  *Module
}

// image is a module that the stub understands: kernels with the size of their parameters.
const image = "STUB none:0 norm:24 add:8 big:4096 two:112"

func newRig(t testing.TB) *rig {
	t.Helper()
	c, o := newStub(t)
	r := &rig{control: c, t: t}
	var err error
	r.driver, err = Open(o)
	require.NoError(t, err)
	r.context, err = r.driver.OpenContext(0)
	require.NoError(t, err)
	runtime.LockOSThread()
	require.NoError(t, r.context.Use())
	r.stream, err = r.context.OpenStream(StreamOptions{Name: "main"})
	require.NoError(t, err)
	r.module, err = r.context.OpenModule("kernels", []byte(image))
	require.NoError(t, err)
	c.lines()
	t.Cleanup(func() {
		err := errors.Join(r.module.Close(), r.stream.Close(), r.context.Close(), r.driver.Close())
		if c.lost == 0 {
			require.NoError(t, err)
			require.Empty(t, c.alive(), "left after everything was closed")
		} else {
			require.ErrorIs(t, err, ErrLost)
		}
		runtime.UnlockOSThread()
	})
	return r
}

func (r *rig) function(name string) *Function {
	r.t.Helper()
	f, err := r.module.Function(name)
	require.NoError(r.t, err)
	return f
}

func (r *rig) event(o EventOptions) *Event {
	r.t.Helper()
	e, err := r.context.OpenEvent(o)
	require.NoError(r.t, err)
	r.t.Cleanup(func() {
		if err := e.Close(); r.lost == 0 {
			require.NoError(r.t, err)
		}
	})
	return e
}

func (r *rig) alloc(bytes int) Ptr {
	r.t.Helper()
	p, err := r.context.Alloc(bytes)
	require.NoError(r.t, err)
	r.t.Cleanup(func() {
		if err := r.context.Free(p); r.lost == 0 {
			require.NoError(r.t, err)
		}
	})
	return p
}

// read is device memory as the host sees it.
func (r *rig) read(p Ptr, bytes int) []byte {
	r.t.Helper()
	b := make([]byte, bytes)
	require.NoError(r.t, r.stream.CopyOut(b, p))
	require.NoError(r.t, r.stream.Sync())
	return b
}

// one is the smallest launch.
var one = Shape{Grid: Dim{X: 1}, Block: Dim{X: 32}}
