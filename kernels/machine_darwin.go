package kernels

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// processorName is what the system calls the processor.
func processorName() string {
	if name, err := unix.Sysctl("machdep.cpu.brand_string"); err == nil {
		return name
	}
	return runtime.GOARCH
}

// machineMemory is the memory of the machine; how much can still be had is not known.
func machineMemory() (total, available int64) {
	bytes, _ := unix.SysctlUint64("hw.memsize")
	return int64(bytes), 0
}
