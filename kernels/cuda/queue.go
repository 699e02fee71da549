//go:build linux && cgo && (amd64 || arm64)

package cuda

// #cgo noescape quire_submit
// #cgo nocallback quire_submit
// #include <stdlib.h>
// #include "driver.h"
import "C"

import (
	"fmt"
	"unsafe"
)

const (
	// queueParamBytes is the memory for arguments: two launches with as much as a kernel can take (32,764 bytes), and more
	// than 32 of the size that kernels have.
	queueParamBytes = 64 << 10
	// paramAlign is the alignment of a launch's arguments: that of a tensor map, the strictest there is.
	paramAlign = 64
)

// queue is the launches of a stream that the driver does not have yet. What C reads lies outside the Go heap.
type queue struct {
	memory    unsafe.Pointer
	launches  []C.struct_quire_launch // all of them; the first len(functions) are taken
	params    []byte                  // packed arguments, the first used bytes are taken
	used      int
	functions []*Function // of the launches
}

func (q *queue) open(launches int) {
	bytes := launches * C.sizeof_struct_quire_launch
	q.memory = C.calloc(1, C.size_t(bytes+queueParamBytes+paramAlign)) // cgo's calloc never returns nil
	q.launches = unsafe.Slice((*C.struct_quire_launch)(q.memory), launches)
	params := unsafe.Add(q.memory, bytes)
	params = unsafe.Add(params, -uintptr(params)%paramAlign)
	q.params = unsafe.Slice((*byte)(params), queueParamBytes)
	q.functions = make([]*Function, 0, launches)
}

func (q *queue) close() {
	C.free(q.memory)
	*q = queue{}
}

// Launch queues a kernel with its packed arguments, which are copied: params may be reused when the call returns. Shapes
// and sizes are checked here, and nothing has changed after such an error; what the driver finds comes out of the call
// that flushes.
func (s *Stream) Launch(f *Function, shape Shape, params []byte) error {
	if err := f.info.check(f.name, f.dynamicBytes, &shape, len(params)); err != nil {
		return err
	}
	q := &s.queue
	at := (q.used + paramAlign - 1) &^ (paramAlign - 1)
	bytes := 0
	if len(params) > 0 {
		bytes = f.info.ParamOffset + len(params)
	}
	if len(q.functions) == len(q.launches) || at+bytes > len(q.params) {
		if err := s.Flush(); err != nil {
			return err
		}
		at = 0
	}
	if err := f.open(); err != nil {
		return err
	}
	grid, block := shape.Grid.full(), shape.Block.full()
	l := &q.launches[len(q.functions)]
	*l = C.struct_quire_launch{
		function:     f.id,
		params:       C.uint64_t(at),
		grid:         [3]C.uint32_t{C.uint32_t(grid[0]), C.uint32_t(grid[1]), C.uint32_t(grid[2])},
		block:        [3]C.uint32_t{C.uint32_t(block[0]), C.uint32_t(block[1]), C.uint32_t(block[2])},
		shared_bytes: C.uint32_t(shape.SharedBytes),
		param_bytes:  C.uint32_t(bytes),
	}
	if shape.Cluster != (Dim{}) {
		c := shape.Cluster.full()
		l.cluster = [3]C.uint32_t{C.uint32_t(c[0]), C.uint32_t(c[1]), C.uint32_t(c[2])}
	}
	if shape.Early {
		l.flags |= C.QUIRE_LAUNCH_EARLY
	}
	if shape.Cooperative {
		l.flags |= C.QUIRE_LAUNCH_COOPERATIVE
	}
	copy(q.params[at+bytes-len(params):], params)
	q.used = at + bytes
	q.functions = append(q.functions, f)
	return nil
}

// Launch queues a kernel whose only parameter is a struct that P is the twin of: see [Stream.Launch]. P has no Go pointers
// in it.
func Launch[P any](s *Stream, f *Function, shape Shape, params *P) error {
	return s.Launch(f, shape, unsafe.Slice((*byte)(unsafe.Pointer(params)), unsafe.Sizeof(*params)))
}

// Flush gives the queued launches to the driver, in order and without waiting for the device. Every other method of the
// stream does so first. If one is refused, the error names it and those after it are dropped.
func (s *Stream) Flush() error {
	if s.handle == nil {
		return fmt.Errorf("cuda: stream %q: %w", s.name, ErrClosed)
	}
	q := &s.queue
	if len(q.functions) == 0 {
		return nil
	}
	out := C.quire_submit(s.table, s.handle, &q.launches[0], C.int(len(q.functions)), (*C.uchar)(&q.params[0]))
	taken := q.functions
	if out.code != 0 {
		taken = taken[:out.index+1]
	}
	if !s.capturing {
		s.trail.addFunctions(taken)
	}
	q.functions, q.used = q.functions[:0], 0
	if out.code != 0 {
		return s.fail(out.code, "launching %q", taken[out.index].name)
	}
	return nil
}
