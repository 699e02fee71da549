package suite

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/quire-llm/quire/internal/sysinfo"
)

// pause is how long to wait between two processes for the system to have its memory back.
type pause struct {
	longest time.Duration
	full    bool
}

const (
	originalPause = 3 * time.Second
	pauseStep     = 50 * time.Millisecond
	// memorySlack is what other programs may have taken meanwhile: less than the smallest model needs.
	memorySlack = 64 << 20
)

func (p *pause) register(flags *pflag.FlagSet) {
	flags.DurationVar(&p.longest, "pause", originalPause, "longest `time` to wait after each process until its memory was given back")
	flags.BoolVar(&p.full, "pause-full", false, "wait the whole --pause, as the original does, whatever was given back")
}

// memory is what the machine has free, seen from outside of the process that is measured.
type memory struct {
	available int64 // bytes that can be had without swapping
	gpu       bool  // there is one
	gpuUsed   int64 // bytes in use on all GPUs; -1: nobody tells
}

// readMemory looks without touching a GPU: a process that opens one takes some of its memory.
func readMemory(ctx context.Context) memory {
	m := memory{available: sysinfo.ReadMemory().AvailableBytes, gpu: sysinfo.FindGPU().Driver != ""}
	if m.gpu {
		m.gpuUsed = sysinfo.ReadGPUMemoryUsed(ctx)
	}
	return m
}

// givenBack says whether what was free before is free again. What cannot be known is not.
func (m memory) givenBack(before memory) bool {
	if m.gpu && (m.gpuUsed < 0 || before.gpuUsed < 0 || m.gpuUsed > before.gpuUsed+memorySlack) {
		return false
	}
	return before.available > 0 && m.available+memorySlack >= before.available
}

// wait waits until memory is as it was before, at most the longest time, and returns what it found and how long it took.
func (p pause) wait(ctx context.Context, before memory) (memory, time.Duration) {
	start := time.Now()
	for {
		now := readMemory(ctx)
		waited := time.Since(start)
		left := p.longest - waited
		if left <= 0 || ctx.Err() != nil || !p.full && now.givenBack(before) {
			return now, waited
		}
		select {
		case <-time.After(min(left, pauseStep)):
		case <-ctx.Done():
		}
	}
}

func memoryLine(before, after memory, peakRSS int64, waited time.Duration) string {
	line := fmt.Sprintf("Memory given back: process at most %s RSS; available %s before it, %s after", FormatSize(peakRSS),
		FormatSize(before.available), FormatSize(after.available))
	switch {
	case after.gpu && after.gpuUsed >= 0 && before.gpuUsed >= 0:
		line += fmt.Sprintf("; GPU in use %s before, %s after", FormatSize(before.gpuUsed), FormatSize(after.gpuUsed))
	case after.gpu:
		line += "; GPU unknown, for want of nvidia-smi"
	}
	return line + fmt.Sprintf("; waited %.2fs", waited.Seconds())
}
