//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quire-llm/quire/kernels/cuda"
)

// How a GPU is measured: loops in a round, of which the time is taken as a whole, so that starting one does not count; steps
// of products in a loop; and the operations of a step, see probe.cu.
const (
	probeLoops         = 4
	probeProductSteps  = 4096
	probeStepOps       = 65536
	probeReadBlocks    = 8 // of a multiprocessor
	probeReadBlocksFew = 4
	probeMmaBlocks     = 2
)

// measure runs all loops on the device.
func (g *gpu) measure(ctx context.Context, data Buffer, each time.Duration) (Roofs, error) {
	r := Roofs{Set: g.set}
	var start, end *cuda.Event
	var err error
	for _, e := range []**cuda.Event{&start, &end} {
		if *e, err = g.context.OpenEvent(cuda.EventOptions{Timing: true}); err != nil {
			return r, g.fail(err)
		}
		defer (*e).Close()
	}
	// The sink is the last 16 bytes.
	params := cuda.ProbeParams{Data: address(data), Sink: address(data) + uint64(data.size-16), Count: int64(data.size/16 - 1), Steps: probeProductSteps}
	rate := func(blocks int, k cuda.Kernel, work float64) (float64, error) {
		geometry := cuda.Geometry{Kernel: k, Blocks: [2]int{blocks * g.sms, 1}, Threads: cuda.ProbeThreads}
		best := time.Duration(0)
		for begin := time.Now(); best == 0 || time.Since(begin) < each && ctx.Err() == nil; {
			err := g.stream.Record(start)
			for range probeLoops {
				err = errors.Join(err, launch(g, geometry, &params))
			}
			if err = errors.Join(err, g.stream.Record(end), end.Sync()); err != nil {
				return 0, g.fail(err)
			}
			took, err := end.Since(start)
			if err != nil {
				return 0, g.fail(err)
			}
			if took = max(took, 1); best == 0 || took < best {
				best = took
			}
		}
		return probeLoops * work / best.Seconds(), nil
	}
	for _, blocks := range []int{probeReadBlocksFew, probeReadBlocks} {
		perSecond, err := rate(blocks, cuda.ProbeRead, float64(16*params.Count))
		if err != nil {
			return r, err
		}
		r.Read = append(r.Read, RoofLoop{fmt.Sprintf("%d blocks on each multiprocessor", blocks), perSecond})
	}
	work := float64(probeMmaBlocks * g.sms * cuda.ProbeThreads / gpuWarp * probeProductSteps * probeStepOps)
	perSecond, err := rate(probeMmaBlocks, cuda.ProbeMmaBF16, work)
	if err != nil {
		return r, err
	}
	r.BF16 = append(r.BF16, RoofLoop{"tensor cores", perSecond})
	return r, ctx.Err()
}

const gpuWarp = 32
