//go:build linux && cgo && (amd64 || arm64)

package cuda

// #cgo noescape quire_cuGraphLaunch
// #cgo nocallback quire_cuGraphLaunch
// #include "driver.h"
import "C"

import (
	"errors"
	"fmt"
)

// Graph is work that was recorded and can be made executable. It holds addresses, not contents: whatever its launches and
// copies touch must still be there when it runs.
type Graph struct {
	context *Context
	handle  C.CUgraph
}

// captureThreadLocal forbids only this thread what would break a capture, such as to allocate: others may go on.
const captureThreadLocal = 1

// BeginCapture makes the stream record what is queued on it until EndCapture, and run none of it. Other streams that wait
// for an event recorded here become part of it until their work is waited for here. Nothing may wait for the stream.
func (s *Stream) BeginCapture() error {
	if err := s.Flush(); err != nil {
		return err
	}
	if r := C.quire_cuStreamBeginCapture(s.table, s.handle, captureThreadLocal); r != 0 {
		return s.fail(r, "beginning a capture on stream %q", s.name)
	}
	s.capturing = true
	return nil
}

// EndCapture ends BeginCapture, in every case: after an error the stream works as before it and there is no graph. The
// caller closes the graph.
func (s *Stream) EndCapture() (*Graph, error) {
	flushed := s.Flush()
	if errors.Is(flushed, ErrClosed) {
		return nil, flushed
	}
	s.capturing = false
	g := &Graph{context: s.context}
	r := C.quire_cuStreamEndCapture(s.table, s.handle, &g.handle)
	if flushed != nil {
		return nil, errors.Join(flushed, g.Close())
	}
	if r != 0 {
		return nil, s.fail(r, "ending the capture on stream %q", s.name)
	}
	return g, nil
}

// Close gives the recording up. What was instantiated from it stays.
func (g *Graph) Close() error {
	if g.handle == nil {
		return nil
	}
	r := C.quire_cuGraphDestroy(g.context.table, g.handle)
	g.handle = nil
	if r != 0 {
		return g.context.driver.fail(r, "closing a graph")
	}
	return nil
}

// GraphExec is a graph made ready to run as often as wanted, with one call.
type GraphExec struct {
	context *Context
	name    string
	label   string // for trails
	handle  C.CUgraphExec
}

// Instantiate makes the graph executable, which takes the driver a while. The name is for errors. The caller closes both.
func (g *Graph) Instantiate(name string) (*GraphExec, error) {
	if g.handle == nil {
		return nil, fmt.Errorf("cuda: instantiating graph %q: %w", name, ErrClosed)
	}
	x := &GraphExec{context: g.context, name: name, label: fmt.Sprintf("graph %q", name)}
	if r := C.quire_cuGraphInstantiate(g.context.table, &x.handle, g.handle, 0); r != 0 {
		return nil, g.context.driver.fail(r, "instantiating graph %q", name)
	}
	return x, nil
}

// Close gives the executable graph up; a launch that runs is finished first.
func (x *GraphExec) Close() error {
	if x.handle == nil {
		return nil
	}
	r := C.quire_cuGraphExecDestroy(x.context.table, x.handle)
	x.handle = nil
	if r != 0 {
		return x.context.driver.fail(r, "closing graph %q", x.name)
	}
	return nil
}

// Update makes later launches do what g does, where g has the same kernels in the same order and only arguments and
// shapes differ. Otherwise the error matches ErrGraphDiffers and nothing has changed.
func (x *GraphExec) Update(g *Graph) error {
	if x.handle == nil || g.handle == nil {
		return fmt.Errorf("cuda: updating graph %q: %w", x.name, ErrClosed)
	}
	var info C.CUgraphExecUpdateResultInfo
	if r := C.quire_cuGraphExecUpdate(x.context.table, x.handle, g.handle, &info); r != 0 {
		return x.context.driver.fail(r, "updating graph %q, result %d", x.name, info.result)
	}
	return nil
}

// LaunchGraph queues the graph, in stream order and without waiting. A launch of the same graph that still runs, on
// whatever stream, is finished first.
func (s *Stream) LaunchGraph(x *GraphExec) error {
	if err := s.Flush(); err != nil {
		return err
	}
	if x.handle == nil {
		return fmt.Errorf("cuda: launching graph %q: %w", x.name, ErrClosed)
	}
	s.note(x.label)
	if r := C.quire_cuGraphLaunch(s.table, x.handle, s.handle); r != 0 {
		return s.fail(r, "launching graph %q", x.name)
	}
	return nil
}

// UploadGraph brings what the graph needs to the device ahead of its first launch, in stream order and without waiting.
func (s *Stream) UploadGraph(x *GraphExec) error {
	if err := s.Flush(); err != nil {
		return err
	}
	if x.handle == nil {
		return fmt.Errorf("cuda: uploading graph %q: %w", x.name, ErrClosed)
	}
	if r := C.quire_cuGraphUpload(s.table, x.handle, s.handle); r != 0 {
		return s.fail(r, "uploading graph %q", x.name)
	}
	return nil
}
