//go:build linux && cgo && (amd64 || arm64)

package cuda

// #include <stdlib.h>
// #include "driver.h"
import "C"

import (
	"fmt"
	"strings"
	"unsafe"
)

// Module is a loaded image of device code.
type Module struct {
	context *Context
	name    string
	handle  C.CUmodule
}

// OpenModule loads an image: machine code (a cubin, or a fat binary) or PTX, which the driver compiles and keeps in its
// cache. The name is for errors. The image may be reused when the call returns. If the driver's compiler fails, its words
// are the Log of the error; an image for other GPUs gives an error that matches errors.ErrUnsupported.
func (c *Context) OpenModule(name string, image []byte) (*Module, error) {
	if len(image) == 0 {
		return nil, fmt.Errorf("cuda: loading module %q: the image is empty", name)
	}
	m := &Module{context: c, name: name}
	log := make([]byte, 8<<10)
	r := C.quire_module_load(c.table, &m.handle, unsafe.Pointer(&image[0]), C.size_t(len(image)),
		(*C.char)(unsafe.Pointer(&log[0])), C.size_t(len(log)))
	if r != 0 {
		e := c.driver.fail(r, "loading module %q", name)
		text, _, _ := strings.Cut(string(log), "\x00")
		e.Log = strings.TrimSpace(text)
		return nil, e
	}
	return m, nil
}

// Close unloads the module; its functions are of no use afterwards.
func (m *Module) Close() error {
	if m.handle == nil {
		return nil
	}
	r := C.quire_cuModuleUnload(m.context.table, m.handle)
	m.handle = nil
	if r != 0 {
		return m.context.driver.fail(r, "closing module %q", m.name)
	}
	return nil
}

// Attributes of a function: CUfunction_attribute.
const (
	attributeThreads       = 0
	attributeStaticShared  = 1
	attributeConstBytes    = 2
	attributeLocalBytes    = 3
	attributeRegisters     = 4
	attributeCapability    = 6
	attributeDynamicShared = 8
	attributeCarveout      = 9
)

// Function is a kernel of a module. It belongs to the module and is closed with it.
type Function struct {
	module       *Module
	name         string
	handle       C.CUfunction
	id           C.uint64_t // the handle as launches carry it
	info         FunctionInfo
	dynamicBytes int // of shared memory that a launch may ask for
}

// Function finds a kernel by the name of its entry point and brings it onto the device, so that no launch has to, least
// of all within a capture.
func (m *Module) Function(name string) (*Function, error) {
	if m.handle == nil {
		return nil, fmt.Errorf("cuda: finding function %q: module %q: %w", name, m.name, ErrClosed)
	}
	table, driver := m.context.table, m.context.driver
	f := &Function{module: m, name: name}
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	if r := C.quire_cuModuleGetFunction(table, &f.handle, m.handle, text); r != 0 {
		return nil, driver.fail(r, "finding function %q in module %q", name, m.name)
	}
	if r := C.quire_cuFuncLoad(table, f.handle); r != 0 {
		return nil, driver.fail(r, "loading function %q of module %q", name, m.name)
	}
	f.id = C.quire_function_id(f.handle)
	for _, a := range []struct {
		attribute C.CUfunction_attribute
		value     *int
	}{
		{attributeThreads, &f.info.Threads},
		{attributeStaticShared, &f.info.SharedBytes},
		{attributeConstBytes, &f.info.ConstBytes},
		{attributeLocalBytes, &f.info.LocalBytes},
		{attributeRegisters, &f.info.Registers},
		{attributeCapability, &f.info.Capability},
		{attributeDynamicShared, &f.dynamicBytes},
	} {
		var value C.int
		if r := C.quire_cuFuncGetAttribute(table, &value, a.attribute, f.handle); r != 0 {
			return nil, driver.fail(r, "reading attribute %d of function %q", a.attribute, name)
		}
		*a.value = int(value)
	}
	for i := C.size_t(0); ; i++ {
		var offset, bytes C.size_t
		r := C.quire_cuFuncGetParamInfo(table, f.handle, i, &offset, &bytes)
		if Result(r) == codeInvalidValue {
			return f, nil // one past the last parameter
		}
		if r != 0 {
			return nil, driver.fail(r, "reading parameter %d of function %q", i, name)
		}
		if i == 0 {
			f.info.ParamOffset = int(offset)
		}
		f.info.ParamBytes = int(offset+bytes) - f.info.ParamOffset
	}
}

// Name is the function's entry point.
func (f *Function) Name() string { return f.name }

// Info describes the function.
func (f *Function) Info() FunctionInfo { return f.info }

// AllowShared lets launches ask for up to bytes of dynamic shared memory, which together with the static must be within
// [DeviceInfo.SharedBytes]. Without it 48 KiB for both is the limit.
func (f *Function) AllowShared(bytes int) error {
	if err := f.open(); err != nil {
		return err
	}
	if r := C.quire_cuFuncSetAttribute(f.module.context.table, f.handle, attributeDynamicShared, C.int(bytes)); r != 0 {
		return f.module.context.driver.fail(r, "allowing function %q %d bytes of shared memory", f.name, bytes)
	}
	f.dynamicBytes = bytes
	return nil
}

// KeepShared has multiprocessors that run the function keep as much of their first-level memory as they can as shared memory. A
// multiprocessor divides that memory anew only when nothing runs on it: functions that all want the same division can overlap.
func (f *Function) KeepShared() error {
	if err := f.open(); err != nil {
		return err
	}
	const all = 100 // percent
	if r := C.quire_cuFuncSetAttribute(f.module.context.table, f.handle, attributeCarveout, all); r != 0 {
		return f.module.context.driver.fail(r, "keeping shared memory for function %q", f.name)
	}
	return nil
}

// BlocksPerSM is how many blocks of so many threads and bytes of dynamic shared memory one SM runs at once.
func (f *Function) BlocksPerSM(threads, sharedBytes int) (int, error) {
	if err := f.open(); err != nil {
		return 0, err
	}
	var blocks C.int
	if r := C.quire_cuOccupancy(f.module.context.table, &blocks, f.handle, C.int(threads), C.size_t(sharedBytes)); r != 0 {
		return 0, f.module.context.driver.fail(r, "counting the blocks of function %q that fit an SM", f.name)
	}
	return int(blocks), nil
}

// open is an error if the function went with its module.
func (f *Function) open() error {
	if f.module.handle == nil {
		return fmt.Errorf("cuda: using function %q: module %q: %w", f.name, f.module.name, ErrClosed)
	}
	return nil
}
