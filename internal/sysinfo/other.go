//go:build !linux && !darwin

package sysinfo

func cpuModel() string      { return "" }
func distribution() string  { return "" }
func kernelRelease() string { return "" }

// ReadMemory knows nothing on this system.
func ReadMemory() Memory { return Memory{} }

// ReadProcess knows nothing on this system.
func ReadProcess() Process { return Process{} }
