//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"errors"
	"time"

	"github.com/quire-llm/quire/kernels/cuda"
)

// time captures what fn queues, and replays it between two events.
func (g *gpu) time(runs int, fn func(Ops) error) (took []time.Duration, err error) {
	graph, err := g.timed(fn)
	if err != nil {
		return nil, err
	}
	defer graph.Close()
	replay, err := graph.Instantiate("timing")
	if err != nil {
		return nil, g.fail(err)
	}
	defer replay.Close()
	var events [2]*cuda.Event
	for i := range events {
		if events[i], err = g.context.OpenEvent(cuda.EventOptions{Timing: true}); err != nil {
			return nil, g.fail(err)
		}
		defer events[i].Close()
	}
	if err := errors.Join(g.stream.UploadGraph(replay), g.stream.LaunchGraph(replay)); err != nil {
		return nil, g.fail(err)
	}
	for range runs {
		err := errors.Join(g.stream.Record(events[0]), g.stream.LaunchGraph(replay), g.stream.Record(events[1]), events[1].Sync())
		if err != nil {
			return nil, g.fail(err)
		}
		one, err := events[1].Since(events[0])
		if err != nil {
			return nil, g.fail(err)
		}
		took = append(took, max(one, 1))
	}
	return took, nil
}

// timed records what fn queues. The first error is fn's: after it the capture has no graph.
func (g *gpu) timed(fn func(Ops) error) (*cuda.Graph, error) {
	if err := g.stream.BeginCapture(); err != nil {
		return nil, g.fail(err)
	}
	failed := fn(g)
	graph, err := g.stream.EndCapture()
	if failed != nil {
		if err == nil {
			err = graph.Close()
		}
		return nil, errors.Join(failed, g.fail(err))
	}
	return graph, g.fail(err)
}
