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
	k, err := p.Params(tiles, g.tensorMap)
	if err != nil {
		return false, g.fail(err)
	}
	return true, launch(g, p.Geometry(tiles, g.sms), &k)
}

// left is the product for cuBLASLt, in room; nil where it is not left to it: where there is no such library, it is not faster at it,
// or it cannot take it.
func (g *gpu) left(p *cuda.WideProduct, room []cuda.LtProduct) []cuda.LtProduct {
	if g.lt == nil || g.tiles != nil {
		return nil
	}
	products := p.LtProducts(room)
	for i := range products {
		if !g.lt.Takes(&products[i]) {
			return nil
		}
	}
	return products
}

// leaves says whether the product of a weight with rows in a room of this device's is left to cuBLASLt.
func (g *gpu) leaves(w *Weight, out uint64, rows int, store int32) bool {
	if g.lt == nil || !cuda.LtTakes(rows, w.Rows) {
		return false
	}
	p := cuda.WideProduct{Out: out, W: partsOf(w), Rows: rows, Cols: w.Cols, Outputs: w.Rows, Store: store}
	var room [cuda.MaxParts]cuda.LtProduct
	return len(g.left(&p, room[:0])) > 0
}

// leave queues a product on cuBLASLt. It is not done, and nothing has changed, where it is not left to it.
func (g *gpu) leave(p *cuda.WideProduct) (done bool, err error) {
	var room [cuda.MaxParts]cuda.LtProduct
	products := g.left(p, room[:0])
	for i := range products {
		if err := g.lt.Multiply(g.stream, &products[i]); err != nil {
			return false, g.fail(err)
		}
	}
	return len(products) > 0, nil
}

// ltVariable names the environment variable that says whether cuBLASLt may take the products that it is faster at: "off", "on" or
// a library file's name. Without it the library is taken where the loader finds one; nothing needs it.
const ltVariable = "QUIRE_CUBLASLT"

// ltRoomBytes is what NVIDIA recommends on Hopper.
const ltRoomBytes = 32 << 20

// openLt opens cuBLASLt where there is one: library, or with "" what the loader finds, unless the environment names another. A wish
// that cannot be granted is an error.
func (g *gpu) openLt(library string) error {
	wish := os.Getenv(ltVariable)
	if wish == "off" || !g.wide {
		return nil
	}
	if wish != "" && wish != "on" {
		library = wish
	}
	room, err := g.context.Alloc(ltRoomBytes)
	if err != nil {
		return err
	}
	if g.lt, err = cuda.OpenLt(library, room, ltRoomBytes); err != nil {
		_ = g.context.Free(room)
		if wish == "" {
			return nil
		}
		return fmt.Errorf("%s is %q, %w: %v", ltVariable, wish, errWish, err) // not as where there is no GPU
	}
	g.ltRoom = room
	return nil
}
