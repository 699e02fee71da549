//go:build cgo && !windows && (amd64 || arm64 || loong64 || riscv64)

package kernels

/*
#cgo noescape quire_stay
#cgo nocallback quire_stay
#include "cpu.h"
*/
import "C"

import "unsafe"

// stay runs the compiled kernel of the round that this worker has joined, and those of later rounds that come soon. It
// returns the last round it has joined, and whether it is still in it because that one's kernel is not compiled.
func (p *pool) stay(round uint64) (last uint64, joined bool) {
	p.state.Add(0) // the race detector does not see what C does: here the worker has read the round,
	why := C.quire_stay((*C.struct_pool)(unsafe.Pointer(&p.poolRounds)), (*C.uint64_t)(&round), C.int64_t(spinTime))
	if why == C.pool_last {
		p.rouse()
	}
	p.state.Add(0) // and here it is about to read another
	return round, why == C.pool_joined
}

// Go and C agree on what workers see.
var (
	_ = same[unsafe.Sizeof(poolRounds{})-C.sizeof_struct_pool]
	_ = same[unsafe.Offsetof(poolRounds{}.waiting)-unsafe.Offsetof(C.struct_pool{}.waiting)]
	_ = same[unsafe.Offsetof(poolRounds{}.compiled)-unsafe.Offsetof(C.struct_pool{}.compiled)]
	_ = same[poolOpen-C.pool_open]
)
