//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/quire-llm/quire/kernels/cuda"
)

// gpu is the operations on a GPU: it checks shapes, lays out scratch memory and queues the kernels on one stream. Grids
// and addresses follow from shapes only, so that what is queued can be captured.
type gpu struct {
	driver  *cuda.Driver
	context *cuda.Context
	sms     int
	set     string // the kernel set
	wide    bool   // it has the kernels of gemm_sm90.cu
	// clusters of blocks are launched: only the machine code has them.
	clusters bool
	// tiles is how every wide product is cut in tests that want each kernel; nil for the best way.
	tiles *cuda.WideTiles

	// Memory is shared with whoever allocates, frees or uploads.
	memory  gpuMemory
	uploads uploads

	// The rest belongs to the goroutine that owns the device.
	stream    *cuda.Stream
	modules   []*cuda.Module
	functions [cuda.Kernels]gpuFunction
	writes    ring   // pinned, on the way to the device
	reads     []byte // pinned, on the way back
	lost      error  // the ErrDevice that ended the device

	rooms     [roomKinds]gpuScratch
	maps      tensorMaps
	lt        *cuda.Lt // nil for doing without
	ltRoom    cuda.Ptr // its workspace
	experts   expertTables
	attention attention
	graphs    graphs
	fetches   fetches
	transfers transfers
	early     bool // kernels may start while the one before them ends: they are made for it, see cuda.Shape

	// simpleAttention computes attention with the kernel that the others are compared with.
	simpleAttention bool
}

// gpuFunction is a kernel on this device.
type gpuFunction struct {
	*cuda.Function
	blocks int   // that the device runs at once, where launches have as many
	err    error // why it cannot be launched here
}

// gpuOptions are what tests set. The zero value is the machine's own driver.
type gpuOptions struct {
	library  string
	cublasLt string // "" for what the loader finds
	image    func(name, target string) ([]byte, error)
	exact    bool // each buffer is an allocation of its own and of exactly its size, so that a checker finds overruns
}

// imageVariable names the environment variable that forces PTX.
const imageVariable = "QUIRE_CUDA_IMAGE"

// launchVariable names the environment variable that turns ways to launch off, for who measures what they give: "eager" for
// no graphs, "serial" for no launch before the kernel ahead has ended, or both with a comma.
const launchVariable = "QUIRE_CUDA_LAUNCH"

// openGPU opens the first GPU that can be used. The error says what was found.
func openGPU(o Options, g gpuOptions) (b backend, info Info, err error) {
	driver, err := cuda.Open(cuda.Options{Library: g.library})
	if err != nil {
		info.DriverFound = !errors.Is(err, cuda.ErrNoDriver)
		return nil, info, err
	}
	info.DriverFound, info.Driver = true, driver.Version().String()
	d := &gpu{driver: driver}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.context, err = openContext(driver, o.CUDAContext); err != nil {
		return nil, info, err
	}
	if err := d.context.Use(); err != nil {
		return nil, info, err
	}
	target, err := imageTarget(o.KernelSet, d.context.Info())
	if err != nil {
		return nil, info, err
	}
	off := os.Getenv(launchVariable)
	d.graphs.off = strings.Contains(off, "eager")
	d.early = target == cuda.SM90a && !strings.Contains(off, "serial")
	if err := d.open(target, g); err != nil {
		return nil, info, err
	}
	device := d.context.Info()
	info.Kind, info.Name, info.Capability = "cuda", device.Name, device.Capability()
	d.set = gpuSetName(target)
	info.KernelSet, info.Products, info.Images, info.SharedAttention = d.set, "bf16", cuda.ImagesHash(), true
	if d.lt != nil {
		info.CuBLASLt = d.lt.Version()
	}
	return d, info, nil
}

// openContext is the context that the options give, or else the primary one of the first GPU that can be used.
func openContext(driver *cuda.Driver, given uintptr) (*cuda.Context, error) {
	if given != 0 {
		return driver.Adopt(given)
	}
	index, err := firstSupported(driver)
	if err != nil {
		return nil, err
	}
	return driver.OpenContext(index)
}

// firstSupported is the index of the first GPU that the kernels are made for.
func firstSupported(driver *cuda.Driver) (int, error) {
	devices, err := driver.Devices()
	if err != nil {
		return 0, err
	}
	var unsupported []error
	for _, d := range devices {
		if err = d.Supported(); err == nil {
			return d.Index, nil
		}
		unsupported = append(unsupported, err)
	}
	if len(unsupported) == 0 {
		return 0, fmt.Errorf("%s shows no GPU: %w", driver.Version(), errors.ErrUnsupported)
	}
	return 0, errors.Join(unsupported...)
}

// gpuSetName is the kernel set of an image's target.
func gpuSetName(target string) string {
	if target == cuda.Compute80 {
		return gpuSetPrefix + "ptx"
	}
	return gpuSetPrefix + target
}

// imageTarget is the target whose images a device runs: machine code where there is some for it.
func imageTarget(set string, device cuda.DeviceInfo) (string, error) {
	if set == "" && os.Getenv(imageVariable) == "ptx" {
		set = gpuSetName(cuda.Compute80)
	}
	own := device.Major == 9 && device.Minor == 0
	switch {
	case set == gpuSetName(cuda.Compute80), set == "" && !own:
		return cuda.Compute80, nil
	case set == gpuSetName(cuda.SM90a), set == "":
		if !own {
			return "", fmt.Errorf("kernel set %q is for compute capability 9.0, %q has %s: %w", set, device.Name, device.Capability(), errors.ErrUnsupported)
		}
		return cuda.SM90a, nil
	}
	return "", fmt.Errorf("no kernel set %q: there are %q and %q: %w", set, gpuSetName(cuda.SM90a), gpuSetName(cuda.Compute80), errors.ErrUnsupported)
}

// open makes what the device needs, on a thread that uses its context.
func (g *gpu) open(target string, o gpuOptions) error {
	g.sms, g.wide = g.context.Info().SMs, target == cuda.SM90a
	g.clusters = g.wide
	g.memory.exact = o.exact
	var err error
	if g.stream, err = g.context.OpenStream(cuda.StreamOptions{Name: "steps"}); err != nil {
		return err
	}
	if err := g.memory.open(g.context); err != nil {
		return err
	}
	g.uploads.context = g.context
	if err := g.openLt(o.cublasLt); err != nil {
		return err
	}
	if err := g.writes.open(g.context); err != nil {
		return err
	}
	if g.reads, err = g.context.AllocHost(readBytes); err != nil {
		return err
	}
	image := o.image
	if image == nil {
		image = cuda.Image
	}
	return g.load(target, image)
}

// load brings all kernels onto the device.
func (g *gpu) load(target string, image func(name, target string) ([]byte, error)) error {
	modules := map[string]*cuda.Module{}
	for k := range cuda.Kernel(cuda.Kernels) {
		m := modules[k.Image()]
		if m == nil {
			data, err := image(k.Image(), target)
			if err != nil {
				return err
			}
			if m, err = g.context.OpenModule(k.Image(), data); err != nil {
				return err
			}
			modules[k.Image()] = m
			g.modules = append(g.modules, m)
		}
		f := &g.functions[k]
		var err error
		if f.Function, err = m.Function(k.String()); err != nil {
			return err
		}
		if f.Info().ParamBytes != k.ParamsBytes() {
			return fmt.Errorf("kernel %q takes %d bytes, want %d", k, f.Info().ParamBytes, k.ParamsBytes())
		}
		if shared := k.SharedBytes(); shared > 0 {
			if f.err = f.AllowShared(shared); f.err != nil {
				continue // another GPU's shared memory is smaller; what does not need this kernel works
			}
		}
		if g.early {
			if err := f.KeepShared(); err != nil {
				return err
			}
		}
		if k.Persistent() {
			blocks, err := f.BlocksPerSM(cuda.AttendThreads, k.SharedBytes())
			if err != nil {
				return err
			}
			f.blocks = max(blocks, 1) * g.sms
		}
	}
	return nil
}

// begin makes the context the calling thread's.
func (g *gpu) begin() error { return g.fail(g.context.Use()) }

// prepare waits for uploads, so that what is queued from now on sees them.
func (g *gpu) prepare() (Ops, error) {
	if g.lost != nil {
		return nil, g.lost
	}
	if err := g.fail(g.uploads.wait()); err != nil {
		return nil, err
	}
	g.forgetGraphs()
	return g, nil
}

// settle gives the driver what was queued, and nobody waits for it. While the device works, graphs are made.
func (g *gpu) settle() error {
	if g.lost != nil {
		return g.lost
	}
	if err := g.fail(g.stream.Flush()); err != nil {
		return err
	}
	return g.capture()
}

// fail turns the driver's errors into the package's. One that says that the device is lost is kept.
func (g *gpu) fail(err error) error {
	switch {
	case err == nil:
		return nil
	case g.lost != nil:
		return g.lost
	case errors.Is(err, cuda.ErrLost):
		g.lost = fmt.Errorf("%w: %w", ErrDevice, err)
		return g.lost
	case errors.Is(err, cuda.ErrOutOfMemory):
		return fmt.Errorf("%w: %w", ErrNoMemory, err)
	}
	return fmt.Errorf("kernels: %w", err)
}

func (g *gpu) activationBytes() int { return 2 }

// memoryBytes is the device's memory, and what no process has taken of it.
func (g *gpu) memoryBytes() (total, available int64) {
	err := g.memory.use(func() error {
		var err error
		available, total, err = g.context.Memory()
		return err
	})
	if err != nil {
		return g.context.Info().MemoryBytes, 0
	}
	return total, available
}

// close frees everything. Errors are of no use: the device may be lost, and then nothing works.
func (g *gpu) close() {
	if g.context != nil {
		_ = g.context.Use()
		_ = g.uploads.wait()
		if g.stream != nil {
			_ = g.stream.Sync()
			for _, r := range g.graphs.live {
				r.forget()
			}
			_ = g.stream.Close()
		}
		if g.lt != nil {
			g.lt.Close()
			_ = g.context.Free(g.ltRoom)
		}
		for _, m := range g.modules {
			_ = m.Close()
		}
		g.writes.close(g.context)
		g.fetches.close(g.context)
		g.transfers.close()
		_ = g.context.FreeHost(g.reads)
		g.memory.close()
		_ = g.context.Close()
	}
	_ = g.driver.Close()
}

// launch queues a kernel. What the kernel's params point at stays until it has run, which later work on the stream does
// by itself.
func launch[P any](g *gpu, geometry cuda.Geometry, params *P) error {
	f := &g.functions[geometry.Kernel]
	if f.err != nil {
		return g.fail(f.err)
	}
	shape := cuda.Shape{
		Grid:        cuda.Dim{X: uint32(geometry.Blocks[0]), Y: uint32(geometry.Blocks[1])},
		Block:       cuda.Dim{X: uint32(geometry.Threads)},
		SharedBytes: geometry.SharedBytes,
		Early:       g.early,
	}
	if blocks := geometry.Kernel.Cluster(); blocks > 1 {
		shape.Cluster = cuda.Dim{X: uint32(blocks)}
	}
	if err := cuda.Launch(g.stream, f.Function, shape, params); err != nil {
		return g.fail(err)
	}
	return nil
}

// address is a buffer's on the device.
func address(b Buffer) uint64 { return uint64(uintptr(b.addr)) }

// deviceBuffer is the buffer at an address.
func deviceBuffer(p cuda.Ptr, bytes int) Buffer { return bufferAt(uintptr(p), bytes) }
