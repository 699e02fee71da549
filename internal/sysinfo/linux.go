//go:build linux

package sysinfo

import "os"

// The root is where /proc, /sys and /etc are read.
func cpuModel() string      { return readCPUModel(os.DirFS("/")) }
func distribution() string  { return readDistribution(os.DirFS("/")) }
func kernelRelease() string { return readLine(os.DirFS("/"), "proc/sys/kernel/osrelease") }

// ReadMemory looks up the machine's memory.
func ReadMemory() Memory { return readMemory(os.DirFS("/")) }

// ReadProcess looks up this process's memory.
func ReadProcess() Process { return readProcess(os.DirFS("/")) }
