//go:build darwin

package sysinfo

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func cpuModel() string      { return sysctl("machdep.cpu.brand_string") }
func distribution() string  { return "macOS " + sysctl("kern.osproductversion") }
func kernelRelease() string { return sysctl("kern.osrelease") }

func sysctl(name string) string {
	value, err := unix.Sysctl(name)
	if err != nil {
		return ""
	}
	return value
}

// ReadMemory looks up the machine's memory. What is available is not told without the Mach interface; all counts as so.
func ReadMemory() Memory {
	total, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return Memory{}
	}
	return Memory{TotalBytes: int64(total), AvailableBytes: int64(total)}
}

// ReadProcess looks up this process's memory. Only the peak is told.
func ReadProcess() Process {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return Process{}
	}
	return Process{RSSBytes: usage.Maxrss, PeakRSSBytes: usage.Maxrss} // bytes here, kilobytes on Linux
}
