//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCUDATransfer(t *testing.T) {
	if testing.Short() {
		transferBlocks(t, realTwin(t), 6, 64<<10, 1<<20)
	} else {
		transferBlocks(t, realTwin(t), 32, 1<<20, 64<<20)
	}
}

// TestGPUTransferHammer is the same on a stub, for the race detector.
func TestGPUTransferHammer(t *testing.T) {
	s, d := openStub(t)
	s.quiet = 1
	for range 20 {
		transferBlocks(t, newTwin(t, d), 16, 4096, 4096)
	}
	s.quiet = 0
}

// transferBlocks copies blocks out right behind the operations that write them, and into other places, each on a goroutine of its
// own, through memory of either kind.
func transferBlocks(t *testing.T, w *twin, blocks, size, large int) {
	content := func(i int) []byte { return bytes.Repeat([]byte{byte(3*i + 1), byte(i)}, size/2) }
	var sources []byte
	for i := range blocks {
		sources = append(sources, content(i)...)
	}
	from, between, to := w.put(sources), w.put(make([]byte, len(sources))), w.put(make([]byte, len(sources)))
	work := [2]Buffer{w.put(make([]byte, large)), w.put(make([]byte, large))}
	block := func(b Buffer, i int) Buffer { return b.Slice(i*size, size) }
	// transfer queues a copy behind some work and waits for it.
	transfer := func(before func(Ops) error, begin func(Transferer) (Pending, error)) error {
		var p Pending
		err := w.gpu.Do(t.Context(), func(o Ops) error {
			err := errors.Join(o.Copy(work[1], work[0]), before(o))
			if err == nil {
				p, err = begin(o.(Transferer))
			}
			return errors.Join(err, o.Copy(work[0], work[1]))
		})
		if err != nil {
			return err
		}
		return p.Wait()
	}
	var group sync.WaitGroup
	for i := range blocks {
		group.Go(func() {
			host, err := w.gpu.AllocHost(size)
			if err != nil {
				t.Error(err)
				return
			}
			defer w.gpu.FreeHost(host)
			if i%4 == 3 {
				host = make([]byte, size)
			}
			write := func(o Ops) error { return o.Copy(block(between, i), block(from, i)) }
			err = transfer(write, func(o Transferer) (Pending, error) { return o.TransferOut(host, block(between, i)) })
			if err == nil && !bytes.Equal(host, content(i)) {
				t.Errorf("block %d came out as something else", i)
			}
			clean := func(o Ops) error { return o.Copy(block(to, i), block(from, (i+1)%blocks)) }
			err = errors.Join(err, transfer(clean, func(o Transferer) (Pending, error) { return o.TransferIn(block(to, i), host) }))
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.True(t, bytes.Equal(sources, w.get(to)), "all have arrived, after what lay there before")
}
