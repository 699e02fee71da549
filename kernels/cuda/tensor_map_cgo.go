//go:build linux && cgo && (amd64 || arm64)

package cuda

// #include "driver.h"
import "C"

// MapTiles is the map of a bfloat16 matrix [rows, cols], row-major, whose tiles are read boxRows (at most 256) times 64
// columns at a time, swizzled over 128 bytes. What a tile has outside the matrix comes as zeros. The address and the
// bytes of a row are multiples of 16. Nothing is done on a device, and the map holds for any memory at the address.
func (d *Driver) MapTiles(at Ptr, rows, cols, boxRows int) (m TensorMap, err error) {
	var words [len(m)]C.uint64_t
	r := C.quire_map_tiles(d.table, &words[0], C.CUdeviceptr(at), C.uint64_t(rows), C.uint64_t(cols), C.uint32_t(boxRows))
	if r != 0 {
		return m, d.fail(r, "mapping a matrix of %d rows of %d at %#x, in boxes of %d rows", rows, cols, uint64(at), boxRows)
	}
	for i, w := range words {
		m[i] = uint64(w)
	}
	return m, nil
}
