// Package sysinfo says on what a figure was measured: processor, memory, operating system, Go and commit.
//
// It leaves out whatever names a person or a machine (host, user, paths), because results are meant to be published.
package sysinfo

import (
	"context"
	"runtime"
)

// Environment is the block that every result file carries. Things that could not be found are "" or 0.
type Environment struct {
	CPU                  string `json:"cpu"`
	LogicalCores         int    `json:"logical_cores"` // that this process may use
	GoMaxProcs           int    `json:"gomaxprocs"`
	MemoryBytes          int64  `json:"memory_bytes"`           // of the machine, or the control group's limit if less
	MemoryAvailableBytes int64  `json:"memory_available_bytes"` // without swapping, when this was asked
	OS                   string `json:"os"`
	Distribution         string `json:"distribution,omitempty"`
	Kernel               string `json:"kernel,omitempty"`
	Arch                 string `json:"arch"`
	Go                   string `json:"go"`
	Build                Build  `json:"build"`
}

// Collect looks everything up. It may run git, where the program carries no revision; ctx ends that early.
func Collect(ctx context.Context) Environment {
	memory := ReadMemory()
	return Environment{
		CPU:                  cpuModel(),
		LogicalCores:         runtime.NumCPU(),
		GoMaxProcs:           runtime.GOMAXPROCS(0),
		MemoryBytes:          memory.TotalBytes,
		MemoryAvailableBytes: memory.AvailableBytes,
		OS:                   runtime.GOOS,
		Distribution:         distribution(),
		Kernel:               kernelRelease(),
		Arch:                 runtime.GOARCH,
		Go:                   runtime.Version(),
		Build:                ReadBuild(ctx),
	}
}

// Memory is what the machine, or the control group that confines this process, has.
type Memory struct {
	TotalBytes     int64
	AvailableBytes int64 // that can be had without swapping
}

// Process is the memory of this process.
type Process struct {
	RSSBytes     int64 // resident now; mapped files that were touched count
	PeakRSSBytes int64 // most resident since the start
}
