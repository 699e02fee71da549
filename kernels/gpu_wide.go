//go:build linux && cgo && (amd64 || arm64)

package kernels

import (
	"fmt"
	"os"

	"github.com/quire-llm/quire/kernels/cuda"
)

// tensorMaps are the maps of matrices that were read by tiles. A map says nothing of what lies at its address, so none
// is ever wrong; those of activations are one for each number of rows.
type tensorMaps map[cuda.TileMap]cuda.TensorMap

// mostTensorMaps are kept: enough for the weights of any model and the batches of a long run. Making one takes about as
// long as a launch.
const mostTensorMaps = 8192

// tensorMap is the map of a matrix, made where there is none yet.
func (g *gpu) tensorMap(t cuda.TileMap) (cuda.TensorMap, error) {
	if m, ok := g.maps[t]; ok {
		return m, nil
	}
	m, err := g.driver.MapTiles(cuda.Ptr(t.At), t.Rows, t.Cols, t.BoxRows)
	if err != nil {
		return m, err
	}
	if g.maps == nil || len(g.maps) >= mostTensorMaps {
		g.maps = tensorMaps{}
	}
	g.maps[t] = m
	return m, nil
}

// wideProduct queues a product of many rows on the kernels of gemm_sm90.cu. It is not done, and nothing has changed,
// where these cannot take it: on other devices, and with few rows, odd sizes or addresses.
func (g *gpu) wideProduct(p *cuda.WideProduct) (done bool, err error) {
	if !g.wide {
		return false, nil
	}
	tiles := p.Tiles(g.sms)
	if tiles == nil {
		return false, nil
	}
	if g.tiles != nil {
		tiles = g.tiles
	}
	if g.lt != nil && g.tiles == nil {
		if lt := p.Lt(tiles); lt != nil {
			if done, err := g.lt.Multiply(g.stream, lt); done || err != nil {
				return done, g.fail(err)
			}
		}
	}
	k, err := p.Params(tiles, g.tensorMap)
	if err != nil {
		return false, g.fail(err)
	}
	return true, launch(g, p.Geometry(tiles, g.sms), &k)
}

// ltVariable names the environment variable that lets cuBLASLt take the products that it is faster at: it is "on", or a
// file's name. Nothing needs the library, and without the variable none is opened.
const ltVariable = "QUIRE_CUBLASLT"

// ltRoomBytes is what NVIDIA recommends on Hopper.
const ltRoomBytes = 32 << 20

// openLt opens cuBLASLt where it is wished for. A wish that cannot be granted is an error.
func (g *gpu) openLt() error {
	library := os.Getenv(ltVariable)
	switch {
	case library == "" || !g.wide:
		return nil
	case library == "on":
		library = ""
	}
	room, err := g.context.Alloc(ltRoomBytes)
	if err != nil {
		return err
	}
	if g.lt, err = cuda.OpenLt(library, room, ltRoomBytes); err != nil {
		_ = g.context.Free(room)
		return fmt.Errorf("%s is %q: %v", ltVariable, library, err) // not as where there is no GPU: no CPU is taken instead
	}
	g.ltRoom = room
	return nil
}
