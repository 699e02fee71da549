//go:build linux && cgo && (amd64 || arm64)

package cuda

// #include <stdlib.h>
// #include "cublaslt.h"
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"
)

// ltLibraries are the names that the loader is asked for.
var ltLibraries = []string{"libcublasLt.so.13", "libcublasLt.so.12"}

// ltShape is what the library chooses an algorithm for.
type ltShape struct {
	rows, cols, outputs, outStride int
	floats, add                    bool
}

// ltPlansMost are kept; a plan takes some hundred bytes, and the library tens of microseconds to choose.
const ltPlansMost = 4096

// Lt is cuBLASLt in a context, with the algorithms that it chose. It belongs to the goroutine that owns the device.
type Lt struct {
	handle    *C.struct_quire_lt
	version   string
	workspace Ptr
	bytes     int
	plans     map[ltShape]*C.struct_quire_lt_plan // nil for a shape that it cannot do
}

// OpenLt opens a library file, or with "" what the loader finds, on a thread that uses the context. workspace is device
// memory of the caller's that its kernels may use, one after the other on one stream. The error matches
// errors.ErrUnsupported where there is no such library.
func OpenLt(library string, workspace Ptr, bytes int) (*Lt, error) {
	libraries := ltLibraries
	if library != "" {
		libraries = []string{library}
	}
	var said []string
	for _, library := range libraries {
		name := C.CString(library)
		var text [512]C.char
		handle := C.quire_lt_open(name, &text[0], C.size_t(len(text)))
		C.free(unsafe.Pointer(name))
		if handle != nil {
			v := int(C.quire_lt_version(handle))
			return &Lt{
				handle: handle, version: fmt.Sprintf("%d.%d.%d", v/10000, v/100%100, v%100),
				workspace: workspace, bytes: bytes, plans: map[ltShape]*C.struct_quire_lt_plan{},
			}, nil
		}
		said = append(said, C.GoString(&text[0]))
	}
	return nil, fmt.Errorf("cuda: opening cuBLASLt: %s: %w", strings.Join(said, "; "), errors.ErrUnsupported)
}

// Version is the library's.
func (l *Lt) Version() string { return l.version }

// Close frees what the library holds. Nothing that it queued may be under way.
func (l *Lt) Close() {
	l.forget()
	C.quire_lt_close(l.handle)
}

func (l *Lt) forget() {
	for _, plan := range l.plans {
		if plan != nil {
			C.quire_lt_plan_free(l.handle, plan)
		}
	}
	clear(l.plans)
}

// Takes says whether the library has an algorithm for a product's shape.
func (l *Lt) Takes(p *LtProduct) bool { return l.plan(p) != nil }

// plan has the library choose an algorithm for a shape, once.
func (l *Lt) plan(p *LtProduct) *C.struct_quire_lt_plan {
	shape := ltShape{p.Rows, p.Cols, p.Outputs, p.OutStride, p.Floats, p.Add}
	plan, known := l.plans[shape]
	if !known {
		if len(l.plans) >= ltPlansMost {
			l.forget()
		}
		var status C.cublasStatus_t
		plan = C.quire_lt_plan_make(l.handle, C.int64_t(p.Rows), C.int64_t(p.Cols), C.int64_t(p.Outputs), C.int64_t(p.OutStride),
			truth(p.Floats), truth(p.Add), C.size_t(l.bytes), &status)
		l.plans[shape] = plan
	}
	return plan
}

// Multiply queues a product that the library takes on a stream, after what was launched on it. It may be captured. One that fails
// waits for the stream, for the error to say whether the context is lost.
func (l *Lt) Multiply(s *Stream, p *LtProduct) error {
	if err := s.Flush(); err != nil {
		return err
	}
	plan := l.plan(p)
	s.note("a product of cuBLASLt")
	status := C.quire_lt_run(l.handle, plan, C.uint64_t(p.X), C.uint64_t(p.W), C.uint64_t(p.Out), C.uint64_t(l.workspace), unsafe.Pointer(s.handle))
	if status == 0 {
		return nil
	}
	err := fmt.Errorf("cuda: multiplying %d rows of %d by %d outputs with cuBLASLt %s: status %d", p.Rows, p.Cols, p.Outputs, l.version, status)
	if s.capturing {
		return err
	}
	return errors.Join(err, s.Sync()) // no status says that the context is lost
}

func truth(b bool) C.int {
	if b {
		return 1
	}
	return 0
}
