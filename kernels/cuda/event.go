//go:build linux && cgo && (amd64 || arm64)

package cuda

// #cgo noescape quire_cuEventRecord
// #cgo nocallback quire_cuEventRecord
// #cgo noescape quire_cuEventSynchronize
// #cgo nocallback quire_cuEventSynchronize
// #cgo noescape quire_cuEventQuery
// #cgo nocallback quire_cuEventQuery
// #include "driver.h"
import "C"

import (
	"fmt"
	"time"
)

// EventOptions say how an event is made.
type EventOptions struct {
	// Timing lets [Event.Since] measure. It makes recording a little slower.
	Timing bool
	// Blocking makes Sync sleep, where it would otherwise keep a core busy to return sooner.
	Blocking bool
}

// Flags of an event.
const (
	eventBlocking  = 1
	eventNotTiming = 2
)

// Event is a point in a stream's work. Record and Sync of the same event do not run at the same time.
type Event struct {
	context *Context
	handle  C.CUevent
	stream  *Stream // of the last Record
	mark    uint64  // in the stream's trail
}

// OpenEvent makes an event.
func (c *Context) OpenEvent(o EventOptions) (*Event, error) {
	flags := C.unsigned(0)
	if !o.Timing {
		flags |= eventNotTiming
	}
	if o.Blocking {
		flags |= eventBlocking
	}
	e := &Event{context: c}
	if r := C.quire_cuEventCreate(c.table, &e.handle, flags); r != 0 {
		return nil, c.driver.fail(r, "opening an event")
	}
	return e, nil
}

// Close gives the event up; who waits for it on a stream still gets what was recorded.
func (e *Event) Close() error {
	if e.handle == nil {
		return nil
	}
	r := C.quire_cuEventDestroy(e.context.table, e.handle)
	e.handle = nil
	if r != 0 {
		return e.context.driver.fail(r, "closing an event")
	}
	return nil
}

// Record makes the event stand for all work queued on the stream so far, without waiting. It forgets what it stood for.
func (s *Stream) Record(e *Event) error {
	if err := s.Flush(); err != nil {
		return err
	}
	if err := e.open("recording"); err != nil {
		return err
	}
	if r := C.quire_cuEventRecord(s.table, e.handle, s.handle); r != 0 {
		return s.fail(r, "recording an event on stream %q", s.name)
	}
	e.stream, e.mark = nil, 0
	if !s.capturing {
		e.stream, e.mark = s, s.trail.mark()
	}
	return nil
}

// Sync waits until the work that the event stands for is done; an event that was never recorded is done. An error names
// what is queued on the stream: see [Error].
func (e *Event) Sync() error {
	if err := e.open("waiting for"); err != nil {
		return err
	}
	return e.settle(C.quire_cuEventSynchronize(e.context.table, e.handle))
}

// Done reports, without waiting, whether the work that the event stands for is done. Its errors are those of Sync.
func (e *Event) Done() (bool, error) {
	if err := e.open("asking for"); err != nil {
		return false, err
	}
	r := C.quire_cuEventQuery(e.context.table, e.handle)
	if Result(r) == codeNotReady {
		return false, nil
	}
	err := e.settle(r)
	return err == nil, err
}

// settle takes note of what a wait for the event said.
func (e *Event) settle(r C.CUresult) error {
	if r != 0 {
		failed := e.context.driver.fail(r, "waiting for an event")
		if e.stream != nil {
			failed.Doing = fmt.Sprintf("waiting for an event on stream %q", e.stream.name)
			failed.Queued = e.stream.trail.list()
		}
		return failed
	}
	if e.stream != nil {
		e.stream.trail.reached(e.mark)
	}
	return nil
}

// Since is the time on the device from start to this event, to about half a microsecond. Both were made with Timing,
// recorded, and are done.
func (e *Event) Since(start *Event) (time.Duration, error) {
	var millis C.float
	if r := C.quire_cuEventElapsedTime(e.context.table, &millis, start.handle, e.handle); r != 0 {
		return 0, e.context.driver.fail(r, "measuring the time between events")
	}
	return time.Duration(float64(millis) * float64(time.Millisecond)), nil
}

func (e *Event) open(doing string) error {
	if e.handle == nil {
		return fmt.Errorf("cuda: %s an event: %w", doing, ErrClosed)
	}
	return nil
}
