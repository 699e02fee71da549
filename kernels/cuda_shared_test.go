//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCUDAShared attends with shared items and without: near to the plain kernels either way, and the same bits every time.
func TestCUDAShared(t *testing.T) {
	all := realTwin(t)
	shapes := []geometry{
		{kvHeads: 8, group: 2, headDim: 128, blockTokens: 16},
		{kvHeads: 2, group: 4, headDim: 64, blockTokens: 32, kv: KVFP8},
		{kvHeads: 1, group: 5, headDim: 40, blockTokens: 16},
		{kvHeads: 2, group: 1, headDim: 256, blockTokens: 16},
		{kvHeads: 1, group: 70, headDim: 64, blockTokens: 16}, // more than a tile's queries
		{kvHeads: 3, group: 3, headDim: 128, blockTokens: 16, kv: KVFP8},
	}
	for i, f := range append(families(), manyRows()) {
		for j, g := range shapes {
			if testing.Short() && (i+j)%5 != 0 || f.name == manyRows().name && j != 0 {
				continue
			}
			t.Run(f.name+"/"+g.String(), func(t *testing.T) {
				w := all.in(t)
				f32 := g
				f32.kv = KVF32
				p, ordinary, shared := w.step(f32, f)
				for i, v := range p.Q.float32s() {
					p.Q.float32s()[i] = float32(int(v*64)) / 64 // which bfloat16 holds
				}
				c := *p
				p.KV, c.KV, _ = w.caches(g, 40)
				c.Q, c.Positions, c.Rope = w.activations(p.Q), w.same(p.Positions), w.same(p.Rope)
				c.Out = w.put(make([]byte, p.Out.size/2))
				p.Work = ordinary
				w.do(func(o Ops) error { return o.Attend(p) })
				what := "attend"
				if f.far {
					what = "turned"
				}
				for name, work := range map[string]Work{"ordinary": w.workOf(ordinary, false), "shared": w.workOf(shared, false), "counted": w.workOf(shared, true)} {
					c.Work = work
					var first []byte
					for range 2 {
						poison := make([]byte, c.Out.size)
						for i := range poison {
							poison[i] = 0xff
						}
						w.on(func(o Ops) error { return o.Write(c.Out, poison) })
						w.on(func(o Ops) error { return o.Attend(&c) })
						got := w.get(c.Out)
						requireNear(t, what, bf16Numbers(got), p.Out.float32s())
						if first != nil {
							require.Equal(t, first, got, "%s again", name)
						}
						first = got
					}
				}
			})
		}
	}
}

// manyRows is a family whose first level has several tiles of rows.
func manyRows() family {
	f := family{name: "many rows", ends: []int32{900, 1400}, count: []int{75, 33}}
	for i := range 80 {
		f.own, f.rows = append(f.own, int32(1+i*7%90)), append(f.rows, 1)
	}
	return f
}

// workOf is a work list's copy on the GPU. counted: its numbers lie in device memory, and those of the list are larger.
func (w *twin) workOf(cpu Work, counted bool) Work {
	gpu := cpu
	gpu.Items, gpu.Segments, gpu.Blocks = w.same(cpu.Items), w.same(cpu.Segments), w.same(cpu.Blocks)
	gpu.Shared, gpu.SharedRows = w.same(cpu.Shared), w.same(cpu.SharedRows)
	if !counted {
		return gpu
	}
	counts := []int32{int32(cpu.ItemCount), int32(cpu.SegmentCount), int32(cpu.BlockCount), int32(cpu.SharedCount), int32(cpu.SharedRowCount)}
	longer := func(b Buffer) Buffer {
		junk := append(append([]byte{}, b.bytes()...), make([]byte, b.size+64)...)
		for i := b.size; i < len(junk); i++ {
			junk[i] = 0x7b
		}
		return w.put(junk)
	}
	gpu.Counts = w.put(AsBytes(counts))
	gpu.Items, gpu.Shared, gpu.SharedRows = longer(cpu.Items), longer(cpu.Shared), longer(cpu.SharedRows)
	gpu.ItemCount, gpu.SharedCount, gpu.SharedRowCount = cpu.ItemCount+2, cpu.SharedCount+2, cpu.SharedRowCount+5
	return gpu
}

// TestCUDASharedRefused: there is no kernel that shares over a cache of float32.
func TestCUDASharedRefused(t *testing.T) {
	w := realTwin(t)
	g := geometry{kvHeads: 1, group: 2, headDim: 64, blockTokens: 16, kv: KVF32}
	p, _, shared := w.step(g, families()[0])
	c := *p
	p.KV, c.KV, _ = w.caches(g, 40)
	c.Q, c.Positions, c.Rope, c.Out = w.activations(p.Q), w.same(p.Positions), w.same(p.Rope), w.put(make([]byte, p.Out.size/2))
	c.Work = w.workOf(shared, false)
	err := w.gpu.Do(t.Context(), func(o Ops) error { return o.Attend(&c) })
	require.ErrorContains(t, err, fmt.Sprintf("Work.SharedCount is %d", shared.SharedCount))
}
