//go:build linux && cgo && (amd64 || arm64)

package cuda

/*
#cgo CFLAGS: -O2 -Wall
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "driver.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"unsafe"
)

const (
	defaultLibrary = "libcuda.so.1"
	kernelModule   = "/proc/driver/nvidia/version"
	leastAPI       = 13000 // CUDA 13.0, which came with driver 580
)

// Driver is an opened NVIDIA driver. Its methods may be called from any goroutine.
type Driver struct {
	table   *C.struct_quire_driver // never freed: the driver's library is not made to be unloaded either
	version Version

	mu       sync.Mutex
	contexts int // open ones
	closed   bool
}

// Open opens the driver's library and starts it. The error matches errors.ErrUnsupported, and says what was found, where
// there is no library, where it lacks a function or is older than CUDA 13.0 (driver 580), and where it sees no GPU.
func Open(o Options) (*Driver, error) {
	library := o.Library
	if library == "" {
		library = defaultLibrary
	}
	name := C.CString(library)
	defer C.free(unsafe.Pointer(name))
	var text [2048]C.char
	table := C.quire_driver_open(name, &text[0], C.size_t(len(text)))
	said := C.GoString(&text[0])
	if table == nil {
		said = strings.TrimPrefix(said, library+": ")
		return nil, &noDriver{fmt.Sprintf(" %q: %s: %v", library, said, errors.ErrUnsupported)}
	}
	d := &Driver{table: table}
	if err := d.suits(library, said); err != nil {
		C.quire_driver_close(table, 1)
		return nil, err
	}
	if r := C.quire_cuInit(table, 0); r != 0 {
		return nil, d.fail(r, "starting %s", d.version)
	}
	return d, nil
}

// suits reads the version and says why the driver cannot be used, given the names of the functions that it lacks.
func (d *Driver) suits(library, missing string) error {
	if C.quire_driver_has_version(d.table) == 0 {
		return fmt.Errorf("cuda: opening the driver %q: it is no CUDA driver, it has no %s: %w", library, missing, errors.ErrUnsupported)
	}
	var api C.int
	if r := C.quire_cuDriverGetVersion(d.table, &api); r != 0 {
		return d.fail(r, "reading the version of the driver %q", library)
	}
	d.version = Version{API: int(api), Driver: moduleVersion(kernelModule)}
	if api < leastAPI {
		return fmt.Errorf("cuda: opening the driver %q: found %s, want driver 580 (CUDA 13.0) or newer: %w",
			library, d.version, errors.ErrUnsupported)
	}
	if missing != "" {
		return fmt.Errorf("cuda: opening the driver %q: found %s without %s: %w", library, d.version, missing, errors.ErrUnsupported)
	}
	return nil
}

// moduleVersion reads the kernel module's version from a file such as /proc/driver/nvidia/version:
//
//	NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue ...
func moduleVersion(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "" // as in many containers
	}
	line, _, _ := strings.Cut(string(text), "\n")
	for _, word := range strings.Fields(line) {
		if word[0] >= '0' && word[0] <= '9' && strings.Contains(word, ".") {
			return word
		}
	}
	return ""
}

// Close ends the use of the driver, whose library stays in the process. It refuses, and changes nothing, while contexts
// are open. Closing twice is fine.
func (d *Driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.contexts > 0 {
		return fmt.Errorf("cuda: closing the driver: %d of its contexts are open", d.contexts)
	}
	d.closed = true
	return nil
}

// Version is the driver's.
func (d *Driver) Version() Version { return d.version }

// Devices describes the GPUs that the driver sees, those that are too old included; see [DeviceInfo.Supported].
func (d *Driver) Devices() ([]DeviceInfo, error) {
	var count C.int
	if r := C.quire_cuDeviceGetCount(d.table, &count); r != 0 {
		return nil, d.fail(r, "counting devices")
	}
	infos := make([]DeviceInfo, 0, count)
	for i := range int(count) {
		_, info, err := d.device(i)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// Attributes of a device: CUdevice_attribute.
const (
	attributeSMs           = 16
	attributeL2Bytes       = 38
	attributeMajor         = 75
	attributeMinor         = 76
	attributeSharedBytes   = 97
	attributeVirtualMemory = 102
)

// device finds a device by its index and describes it.
func (d *Driver) device(index int) (C.CUdevice, DeviceInfo, error) {
	var device C.CUdevice
	if r := C.quire_cuDeviceGet(d.table, &device, C.int(index)); r != 0 {
		return 0, DeviceInfo{}, d.fail(r, "finding device %d", index)
	}
	info, err := d.describe(device)
	return device, info, err
}

func (d *Driver) describe(device C.CUdevice) (DeviceInfo, error) {
	info := DeviceInfo{Index: int(device)}
	var text [256]C.char
	if r := C.quire_cuDeviceGetName(d.table, &text[0], C.int(len(text)), device); r != 0 {
		return info, d.fail(r, "reading the name of device %d", device)
	}
	info.Name = C.GoString(&text[0])
	if r := C.quire_cuDeviceGetPCIBusId(d.table, &text[0], C.int(len(text)), device); r != 0 {
		return info, d.fail(r, "reading the PCI address of device %d", device)
	}
	info.PCI = strings.ToLower(C.GoString(&text[0]))
	var bytes C.size_t
	if r := C.quire_cuDeviceTotalMem(d.table, &bytes, device); r != 0 {
		return info, d.fail(r, "reading the memory size of device %d", device)
	}
	info.MemoryBytes = int64(bytes)
	virtual := 0
	for _, a := range []struct {
		attribute C.CUdevice_attribute
		value     *int
	}{
		{attributeSMs, &info.SMs},
		{attributeL2Bytes, &info.L2Bytes},
		{attributeMajor, &info.Major},
		{attributeMinor, &info.Minor},
		{attributeSharedBytes, &info.SharedBytes},
		{attributeVirtualMemory, &virtual},
	} {
		var value C.int
		if r := C.quire_cuDeviceGetAttribute(d.table, &value, a.attribute, device); r != 0 {
			return info, d.fail(r, "reading attribute %d of device %d", a.attribute, device)
		}
		*a.value = int(value)
	}
	info.VirtualMemory = virtual != 0
	return info, nil
}

// fail is the error for a code of the driver.
func (d *Driver) fail(r C.CUresult, doing string, args ...any) *Error {
	e := &Error{Doing: fmt.Sprintf(doing, args...), Code: Result(r), Name: fmt.Sprintf("code %d", r), Text: "unknown to this driver"}
	var text *C.char
	if C.quire_cuGetErrorName(d.table, r, &text) == 0 && text != nil {
		e.Name = C.GoString(text)
	}
	if C.quire_cuGetErrorString(d.table, r, &text) == 0 && text != nil {
		e.Text = C.GoString(text)
	}
	return e
}
