package kernels

import (
	"context"
	"fmt"
	"time"
	"unsafe"
)

// Roofs are what a device reached in loops that do nothing else. Several shapes of a loop are tried, because which is the
// fastest differs from machine to machine and from second to second; the best of them counts.
type Roofs struct {
	Set  string     `json:"loops"`          // for which processors the loops are compiled, or "go"
	Read []RoofLoop `json:"read"`           // bytes a second from memory, all threads together
	FMA  []RoofLoop `json:"fma,omitempty"`  // float32 operations a second, a multiply-add being two; of CPUs
	BF16 []RoofLoop `json:"bf16,omitempty"` // the same of bfloat16 dot products; none where the processor has no such thing
}

// RoofLoop is what one loop reached.
type RoofLoop struct {
	Loop      string  `json:"loop"`
	PerSecond float64 `json:"per_second"`
}

// ReadBytesPerSec is the best of the reading loops.
func (r Roofs) ReadBytesPerSec() float64 { return fastest(r.Read) }

// FMAPerSec is the best rate of float32 operations.
func (r Roofs) FMAPerSec() float64 { return fastest(r.FMA) }

// BF16PerSec is the best rate of bfloat16 operations; 0 without any.
func (r Roofs) BF16PerSec() float64 { return fastest(r.BF16) }

func fastest(loops []RoofLoop) float64 {
	best := 0.0
	for _, l := range loops {
		best = max(best, l.PerSecond)
	}
	return best
}

// ProbeOptions say how a machine is measured. The zero value is what benchmarks use.
type ProbeOptions struct {
	// ReadBytes is the memory that is read again and again. It must be larger than the last cache, or that is measured
	// instead. Default 512 MiB.
	ReadBytes int
	// LoopTime is how long each loop is tried. Default 60 ms.
	LoopTime time.Duration
}

// Probe measures what a device can do at best: the threads of a CPU, with the best loops for the machine, whatever kernel set
// the device has; or a GPU.
type Probe struct {
	device  *Device
	options ProbeOptions
	data    Buffer

	// Of a CPU.
	pool   *pool // the device's; nil for a GPU
	set    probeSet
	args   *probeArgs // outside the Go heap
	memory Buffer     // of args
}

// measurer is a backend with loops of its own. Its goroutine owns the device; the data is at least one unit.
type measurer interface {
	measure(ctx context.Context, data Buffer, each time.Duration) (Roofs, error)
}

// probeSet is the loops compiled for one family of processors.
type probeSet struct {
	name           string
	read, read4    kernel
	fma, dot       kernel // dot may be zero
	fmaOps, dotOps int64  // operations of one step
}

// probeArgs are the arguments of all loops. A unit of reading is unitBytes of data, one of computing is steps.
type probeArgs struct {
	queue
	data      unsafe.Pointer // 64-byte aligned
	unitBytes int64          // a multiple of 2048
	ahead     int64          // prefetch so many bytes ahead
	steps     int64
	sink      int64
}

// NewProbe makes a probe and the memory that it reads.
func NewProbe(d *Device, o ProbeOptions) (*Probe, error) {
	if o.ReadBytes == 0 {
		o.ReadBytes = 512 << 20
	}
	if o.LoopTime == 0 {
		o.LoopTime = 60 * time.Millisecond
	}
	if o.ReadBytes < probeUnitBytes || o.LoopTime < 0 {
		return nil, fmt.Errorf("kernels: measuring the machine: %d bytes for %v; at least %d bytes are read", o.ReadBytes, o.LoopTime, probeUnitBytes)
	}
	p := &Probe{device: d, options: o, set: bestProbeSet()}
	var err error
	c, ok := d.backend.(*cpu)
	if !ok {
		p.data, err = d.Alloc(o.ReadBytes / probeUnitBytes * probeUnitBytes)
		return p, err
	}
	p.pool = c.pool
	if p.memory, err = d.Alloc(sizeOf[probeArgs]()); err != nil {
		return nil, err
	}
	if p.data, err = d.Alloc(o.ReadBytes / probeUnitBytes * probeUnitBytes); err != nil {
		p.Close()
		return nil, err
	}
	p.args = (*probeArgs)(p.memory.addr)
	words := unsafe.Slice((*uint64)(p.data.addr), p.data.size/8)
	for i := range words {
		words[i] = uint64(i) // pages that nobody has written may all be one page of zeros
	}
	return p, nil
}

// Close gives the memory back.
func (p *Probe) Close() {
	p.device.Free(p.data)
	p.device.Free(p.memory)
	p.data, p.memory = Buffer{}, Buffer{}
}

const (
	probeUnitBytes = 256 << 10 // read by one thread in one go
	probeUnits     = 64        // of computing in a round
	probeSteps     = 8 << 10   // in a unit: tens of microseconds
)

// Measure runs all loops, for about half a second. The device is busy meanwhile.
func (p *Probe) Measure(ctx context.Context) (Roofs, error) {
	if m, ok := p.device.backend.(measurer); ok {
		r := Roofs{}
		err := p.device.Do(ctx, func(Ops) (err error) {
			r, err = m.measure(ctx, p.data, p.options.LoopTime)
			return err
		})
		return r, err
	}
	r := Roofs{Set: p.set.name}
	err := p.device.Do(ctx, func(Ops) error {
		for _, l := range []struct {
			name  string
			loop  kernel
			ahead int64
		}{
			{"in order", p.set.read, 0},
			{"in order, prefetching 2 KiB ahead", p.set.read, 2 << 10},
			{"four streams", p.set.read4, 0},
			{"four streams, prefetching 1 KiB ahead", p.set.read4, 1 << 10},
		} {
			*p.args = probeArgs{data: p.data.addr, unitBytes: probeUnitBytes, ahead: l.ahead}
			rate := p.rate(ctx, l.loop, p.data.size/probeUnitBytes, float64(p.data.size))
			r.Read = append(r.Read, RoofLoop{l.name, rate})
		}
		*p.args = probeArgs{steps: probeSteps}
		r.FMA = append(r.FMA, RoofLoop{"12 chains", p.rate(ctx, p.set.fma, probeUnits, float64(probeUnits*probeSteps*p.set.fmaOps))})
		if p.set.dot.compute != nil {
			r.BF16 = append(r.BF16, RoofLoop{"12 chains", p.rate(ctx, p.set.dot, probeUnits, float64(probeUnits*probeSteps*p.set.dotOps))})
		}
		return ctx.Err()
	})
	return r, err
}

// rate runs a loop again and again and returns the work of a round over the time of the fastest one.
func (p *Probe) rate(ctx context.Context, k kernel, units int, work float64) float64 {
	best := time.Duration(0)
	for begin := time.Now(); best == 0 || time.Since(begin) < p.options.LoopTime && ctx.Err() == nil; {
		start := time.Now()
		p.pool.run(k, &p.args.queue, units, 1)
		if took := max(time.Since(start), 1); best == 0 || took < best {
			best = took
		}
	}
	return work / best.Seconds()
}
