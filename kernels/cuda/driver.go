package cuda

import (
	"errors"
	"fmt"
)

// Options say which driver to open. The zero value is the machine's own.
type Options struct {
	// Library is the name or path of the driver's library. "": "libcuda.so.1", as the dynamic linker finds it.
	Library string
}

// leastMajor is the oldest compute capability that the kernels are compiled for.
const leastMajor = 8

// Version is that of an NVIDIA driver.
type Version struct {
	// API is the newest CUDA that the library implements: 13000 for 13.0. Drivers from 580 on have 13000 or more.
	API int
	// Driver is the kernel module's version, such as "580.159.04"; "" where the system does not say.
	Driver string
}

// String is the version as people know it: "driver 580.159.04 (CUDA 13.0)".
func (v Version) String() string {
	api := fmt.Sprintf("CUDA %d.%d", v.API/1000, v.API%1000/10)
	if v.Driver == "" {
		return "driver for " + api
	}
	return "driver " + v.Driver + " (" + api + ")"
}

// DeviceInfo describes a GPU.
type DeviceInfo struct {
	Index         int    // as the driver counts, after CUDA_VISIBLE_DEVICES
	Name          string // "NVIDIA H100 80GB HBM3"
	Major, Minor  int    // compute capability
	SMs           int    // streaming multiprocessors
	MemoryBytes   int64
	L2Bytes       int
	SharedBytes   int    // shared memory that one block may have, static and dynamic, once its function asks for it
	PCI           string // "0000:01:00.0"
	VirtualMemory bool   // Reserve, CreatePages and what belongs to them work
}

// Capability is the compute capability as it is written: "9.0".
func (i DeviceInfo) Capability() string { return fmt.Sprintf("%d.%d", i.Major, i.Minor) }

// Supported is nil for a GPU of compute capability 8.0 or more. Other errors name the GPU and match
// errors.ErrUnsupported.
func (i DeviceInfo) Supported() error {
	if i.Major >= leastMajor {
		return nil
	}
	return fmt.Errorf("cuda: device %d, %q, has compute capability %s, want %d.0 or more: %w",
		i.Index, i.Name, i.Capability(), leastMajor, errors.ErrUnsupported)
}

// Ptr is an address in a device's memory; 0 is none. Add offsets to it in bytes.
type Ptr uint64
