//go:build linux && cgo && (amd64 || arm64)

package cuda

// #cgo noescape quire_cuStreamSynchronize
// #cgo nocallback quire_cuStreamSynchronize
// #cgo noescape quire_cuStreamWaitEvent
// #cgo nocallback quire_cuStreamWaitEvent
// #cgo noescape quire_cuMemcpyHtoDAsync
// #cgo nocallback quire_cuMemcpyHtoDAsync
// #cgo noescape quire_cuMemcpyDtoHAsync
// #cgo nocallback quire_cuMemcpyDtoHAsync
// #cgo noescape quire_cuMemcpyDtoDAsync
// #cgo nocallback quire_cuMemcpyDtoDAsync
// #cgo noescape quire_cuMemsetD8Async
// #cgo nocallback quire_cuMemsetD8Async
// #cgo noescape quire_cuMemsetD32Async
// #cgo nocallback quire_cuMemsetD32Async
// #include "driver.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// StreamOptions say how a stream is made.
type StreamOptions struct {
	// Name is for errors. "": "stream".
	Name string
	// Launches is how many collect before they go to the driver by themselves. 0: 32, which makes the call from Go to C a
	// small part of their cost and keeps the device waiting for a few microseconds only.
	Launches int
	// Priority: work of a stream with a lower number goes first where both are ready. 0 is what streams have by default,
	// -5 the most urgent of today's GPUs.
	Priority int
}

const (
	defaultLaunches   = 32
	streamNonBlocking = 1 // does not wait for the legacy default stream
)

// Stream is a line of work on a device. It belongs to one goroutine at a time, on a thread where its context is in use.
type Stream struct {
	context *Context
	table   *C.struct_quire_driver
	handle  C.CUstream
	name    string

	queue     queue
	trail     trail
	capturing bool
}

// OpenStream makes a stream.
func (c *Context) OpenStream(o StreamOptions) (*Stream, error) {
	if o.Name == "" {
		o.Name = "stream"
	}
	if o.Launches == 0 {
		o.Launches = defaultLaunches
	}
	if o.Launches < 0 {
		return nil, fmt.Errorf("cuda: opening stream %q: %d launches", o.Name, o.Launches)
	}
	s := &Stream{context: c, table: c.table, name: o.Name}
	if r := C.quire_cuStreamCreate(c.table, &s.handle, streamNonBlocking, C.int(o.Priority)); r != 0 {
		return nil, c.driver.fail(r, "opening stream %q", o.Name)
	}
	s.queue.open(o.Launches)
	return s, nil
}

// Close drops launches that were not flushed and gives the stream up; what already runs on it goes on.
func (s *Stream) Close() error {
	if s.handle == nil {
		return nil
	}
	r := C.quire_cuStreamDestroy(s.table, s.handle)
	s.handle = nil
	s.queue.close()
	if r != 0 {
		return s.fail(r, "closing stream %q", s.name)
	}
	return nil
}

// Handle is the CUstream, for other libraries in this process: [Stream.Flush] before they use it.
func (s *Stream) Handle() uintptr { return uintptr(unsafe.Pointer(s.handle)) }

// Name is the stream's.
func (s *Stream) Name() string { return s.name }

// Sync waits until all work of the stream is done. An error names what that was: see [Error].
func (s *Stream) Sync() error {
	if err := s.Flush(); err != nil {
		return err
	}
	mark := s.trail.mark()
	if r := C.quire_cuStreamSynchronize(s.table, s.handle); r != 0 {
		e := s.fail(r, "waiting for stream %q", s.name)
		e.Queued = s.trail.list()
		return e
	}
	s.trail.reached(mark)
	return nil
}

// Wait makes later work of the stream wait for the event's last [Stream.Record], without waiting here. An event that was
// never recorded counts as done.
func (s *Stream) Wait(e *Event) error {
	if err := s.Flush(); err != nil {
		return err
	}
	if e.handle == nil {
		return fmt.Errorf("cuda: stream %q waiting for an event: %w", s.name, ErrClosed)
	}
	if r := C.quire_cuStreamWaitEvent(s.table, s.handle, e.handle, 0); r != 0 {
		return s.fail(r, "stream %q waiting for an event", s.name)
	}
	return nil
}

// CopyIn copies host memory to the device, in stream order. If src is pinned the call returns at once, and src must stay
// as it is until the copy is done; the contents of other memory have been read when it returns, which takes longer. Within
// a capture src must be pinned, and is read at each launch of the graph.
func (s *Stream) CopyIn(dst Ptr, src []byte) error {
	if err := s.Flush(); err != nil || len(src) == 0 {
		return err
	}
	s.note("copy in")
	if r := C.quire_cuMemcpyHtoDAsync(s.table, C.CUdeviceptr(dst), unsafe.Pointer(&src[0]), C.size_t(len(src)), s.handle); r != 0 {
		return s.fail(r, "copying %d bytes to the device", len(src))
	}
	return nil
}

// CopyOut copies device memory to the host, in stream order. If dst is pinned the call returns at once, and dst is
// complete when the copy is done: Record an event and wait for it, or Sync. With other memory it returns when the copy is
// done. Within a capture dst must be pinned.
func (s *Stream) CopyOut(dst []byte, src Ptr) error {
	if err := s.Flush(); err != nil || len(dst) == 0 {
		return err
	}
	s.note("copy out")
	if r := C.quire_cuMemcpyDtoHAsync(s.table, unsafe.Pointer(&dst[0]), C.CUdeviceptr(src), C.size_t(len(dst)), s.handle); r != 0 {
		return s.fail(r, "copying %d bytes from the device", len(dst))
	}
	return nil
}

// Copy copies within the device, in stream order and without waiting. The two must not overlap.
func (s *Stream) Copy(dst, src Ptr, bytes int) error {
	if err := s.Flush(); err != nil || bytes == 0 {
		return err
	}
	s.note("copy")
	if r := C.quire_cuMemcpyDtoDAsync(s.table, C.CUdeviceptr(dst), C.CUdeviceptr(src), C.size_t(bytes), s.handle); r != 0 {
		return s.fail(r, "copying %d bytes within the device", bytes)
	}
	return nil
}

// Fill sets bytes of device memory to value, in stream order and without waiting.
func (s *Stream) Fill(dst Ptr, bytes int, value byte) error {
	if err := s.Flush(); err != nil || bytes == 0 {
		return err
	}
	s.note("fill")
	if r := C.quire_cuMemsetD8Async(s.table, C.CUdeviceptr(dst), C.uchar(value), C.size_t(bytes), s.handle); r != 0 {
		return s.fail(r, "filling %d bytes", bytes)
	}
	return nil
}

// Fill32 sets words of four bytes at a multiple of 4 to value, in stream order and without waiting.
func (s *Stream) Fill32(dst Ptr, words int, value uint32) error {
	if err := s.Flush(); err != nil || words == 0 {
		return err
	}
	s.note("fill")
	if r := C.quire_cuMemsetD32Async(s.table, C.CUdeviceptr(dst), C.unsigned(value), C.size_t(words), s.handle); r != 0 {
		return s.fail(r, "filling %d words", words)
	}
	return nil
}

// Queued lists what was queued and is not known to be done, as in [Error]; for reports about another stream's failure.
func (s *Stream) Queued() []string { return s.trail.list() }

// note remembers work for errors. What a capture records does not run.
func (s *Stream) note(name string) {
	if !s.capturing {
		s.trail.add(name)
	}
}

// fail is the error for a code of a call on this stream.
func (s *Stream) fail(r C.CUresult, doing string, args ...any) *Error {
	e := s.context.driver.fail(r, doing, args...)
	if e.Code.lost() {
		e.Queued = s.trail.list()
	}
	return e
}
