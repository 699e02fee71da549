//go:build linux && cgo && (amd64 || arm64)

package cuda

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGraph captures a step, runs it twice, changes its arguments, and meets a step that differs.
func TestGraph(t *testing.T) {
	r := newRig(t)
	p, add, none, event := r.alloc(64), r.function("add"), r.function("none"), r.event(EventOptions{})
	host, err := r.context.AllocHost(8)
	require.NoError(t, err)
	capture := func(argument byte, more bool) *Graph {
		require.NoError(t, r.stream.Launch(none, one, nil), "queued before the capture: runs now")
		require.NoError(t, r.stream.BeginCapture())
		require.NoError(t, r.stream.CopyIn(p, host))
		require.NoError(t, r.stream.Launch(add, one, []byte{argument, 0, 0, 0, 0, 0, 0, 0}))
		require.NoError(t, r.stream.Record(event))
		require.NoError(t, r.stream.Fill(p+4, 4, argument))
		if more {
			require.NoError(t, r.stream.Launch(none, one, nil))
		}
		require.Empty(t, r.stream.Queued()[1:], "a capture runs nothing")
		g, err := r.stream.EndCapture()
		require.NoError(t, err)
		return g
	}
	r.lines()
	g := capture(5, false)
	x, err := g.Instantiate("decode-64")
	require.NoError(t, err)
	require.NoError(t, g.Close())
	require.NoError(t, r.stream.UploadGraph(x))
	require.NoError(t, r.stream.Sync())
	require.Equal(t, []string{
		"launch none grid=1,1,1 block=32,1,1 shared=0 params=", "capture on stream 1 mode=1", "graph 1 from stream 1", "exec 1 of graph 1",
		"upload exec 1", "sync stream 1",
	}, r.lines())

	step := func(argument string) []string {
		return []string{
			"graph exec 1", "copy in bytes=8 on stream 1", "launch add grid=1,1,1 block=32,1,1 shared=0 params=" + argument + "00000000000000",
			"event 1 on stream 1", "fill bytes=4 value=" + argument[1:], "copy out bytes=8 on stream 1", "sync stream 1",
		}
	}
	for _, value := range []byte{1, 2} {
		host[0] = value // read at each launch
		require.NoError(t, r.stream.LaunchGraph(x))
		require.Equal(t, []byte{value, 0, 0, 0, 5, 5, 5, 5}, r.read(p, 8))
		require.Equal(t, step("05"), r.lines())
	}

	same := capture(6, false)
	require.NoError(t, x.Update(same))
	require.NoError(t, same.Close())
	r.lines()
	require.NoError(t, r.stream.LaunchGraph(x))
	require.Equal(t, []byte{2, 0, 0, 0, 6, 6, 6, 6}, r.read(p, 8))
	require.Equal(t, step("06"), r.lines())

	longer := capture(7, true)
	err = x.Update(longer)
	require.ErrorIs(t, err, ErrGraphDiffers)
	require.NotErrorIs(t, err, ErrLost)
	require.ErrorContains(t, err, `cuda: updating graph "decode-64", result 2: CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE: `)
	r.lines()
	require.NoError(t, r.stream.LaunchGraph(x))
	require.Equal(t, []byte{2, 0, 0, 0, 6, 6, 6, 6}, r.read(p, 8), "it does what it did")

	for range 2 {
		require.NoError(t, longer.Close(), "closing twice is fine")
		require.NoError(t, x.Close(), "closing twice is fine")
	}
	require.ErrorIs(t, r.stream.LaunchGraph(x), ErrClosed)
	require.ErrorIs(t, r.stream.UploadGraph(x), ErrClosed)
	require.ErrorIs(t, x.Update(longer), ErrClosed)
	_, err = longer.Instantiate("closed")
	require.ErrorIs(t, err, ErrClosed)
	require.NoError(t, r.context.FreeHost(host))
}

// TestCaptureFails: whatever goes wrong within a capture, EndCapture leaves a stream that works and no graph.
func TestCaptureFails(t *testing.T) {
	r := newRig(t)
	none := r.function("none")
	require.NoError(t, r.stream.BeginCapture())
	require.ErrorContains(t, r.stream.Sync(), "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
	require.NoError(t, r.stream.Launch(none, one, nil))
	r.failing("cuLaunchKernelEx", codeInvalidValue, 0)
	_, err := r.stream.EndCapture()
	require.EqualError(t, err, `cuda: launching "none": CUDA_ERROR_INVALID_VALUE: invalid argument`)
	r.failing("", 0, 0)
	require.NoError(t, r.stream.Sync())

	require.NoError(t, r.stream.BeginCapture())
	require.NoError(t, r.stream.Launch(none, one, nil))
	g, err := r.stream.EndCapture()
	require.NoError(t, err)
	require.NoError(t, g.Close())
	require.Empty(t, r.stream.Queued())
}
