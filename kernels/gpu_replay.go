//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"errors"
	"slices"

	"github.com/quire-llm/quire/kernels/cuda"
)

// graphs are what a GPU has recorded. A graph holds addresses: whenever memory was given back, all are forgotten.
type graphs struct {
	off       bool // everything runs one by one
	capturing bool
	live      []*Recording // in the order of their capture
	frees     uint64       // gpuMemory.frees at the first capture
	due       []due        // to be captured when the operations of this Do have been handed over
}

type due struct {
	recording *Recording
	record    func(Ops) error
}

const (
	mostGraphs = 128 // kept; the oldest goes first
	mostTries  = 3   // to capture a recording
)

var errCapturing = errors.New("kernels: not within a recording")

// Replay runs a recording as one graph. The first time its operations run one by one, so that scratch memory grows to what
// they want, and are captured when the device has something to do.
func (g *gpu) Replay(r *Recording, record func(Ops) error) error {
	s := &g.graphs
	if s.off || g.memory.exact {
		return record(g)
	}
	g.forgetGraphs()
	if x, ok := r.kept.(*cuda.GraphExec); ok {
		g.attention.planned = false // the graph's plan lies there now
		return g.fail(g.stream.LaunchGraph(x))
	}
	if err := record(g); err != nil {
		return err
	}
	if r.tries < mostTries {
		s.due = append(s.due, due{r, record})
	}
	return nil
}

// forgetGraphs gives up what may refer to memory that was given back. Whoever gave it back has waited for the device.
func (g *gpu) forgetGraphs() {
	s := &g.graphs
	if len(s.live) == 0 || s.frees == g.memory.frees.Load() {
		return
	}
	for _, r := range s.live {
		r.forget()
	}
	clear(s.live)
	s.live = s.live[:0]
}

// forget gives up what is kept. Errors are of no use: the graph is not launched again.
func (r *Recording) forget() {
	if x, ok := r.kept.(*cuda.GraphExec); ok {
		_ = x.Close()
	}
	r.kept = nil
}

// capture makes graphs of the recordings that are due. That one cannot be made breaks nothing: it runs one by one again.
func (g *gpu) capture() error {
	s := &g.graphs
	for _, d := range s.due {
		d.recording.tries++
		if d.recording.err = g.captureOne(d.recording, d.record); d.recording.err == nil {
			d.recording.tries = 0
		} else if g.lost != nil || errors.Is(d.recording.err, cuda.ErrLost) {
			return g.fail(d.recording.err)
		}
	}
	clear(s.due)
	s.due = s.due[:0]
	return nil
}

func (g *gpu) captureOne(r *Recording, record func(Ops) error) error {
	s := &g.graphs
	if r.kept != nil {
		return nil // twice in one Do
	}
	g.forgetGraphs()
	frees := g.memory.frees.Load()
	g.attention.planned = false // the plan is part of it
	if err := g.stream.BeginCapture(); err != nil {
		return err
	}
	s.capturing = true
	recorded := record(g)
	s.capturing = false
	g.attention.planned = false // and has not run
	graph, err := g.stream.EndCapture()
	if err != nil {
		return err
	}
	defer graph.Close()
	if recorded != nil {
		return recorded
	}
	x, err := graph.Instantiate(r.Name)
	if err != nil {
		return err
	}
	if err := g.stream.UploadGraph(x); err != nil || frees != g.memory.frees.Load() {
		return errors.Join(err, x.Close())
	}
	if len(s.live) == mostGraphs {
		s.live[0].forget()
		s.live = slices.Delete(s.live, 0, 1)
	}
	r.kept, s.frees = x, frees
	s.live = append(s.live, r)
	return nil
}
