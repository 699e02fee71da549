//go:build cgo && !windows && (amd64 || arm64 || loong64 || riscv64)

package kernels

/*
#cgo CFLAGS: -O3
#cgo LDFLAGS: -lm
#cgo noescape quire_run
#cgo nocallback quire_run
#include "cpu.h"
*/
import "C"

import "unsafe"

// whyNoCompiledSets is empty: there is the portable set at least.
const whyNoCompiledSets = ""

// compiledSets are the C kernels that this CPU can run, the best first.
func compiledSets() []kernelSet {
	return append(vectorSets(), newSet("portable", 4, &C.quire_portable))
}

// newSet is a set of C kernels whose panels have elements of so many bytes.
func newSet(name string, panelBytes int, set *C.struct_kernel_set) kernelSet {
	bind := func(k *C.kernel) kernel {
		return kernel{func(args unsafe.Pointer) { C.quire_run(k, args) }, unsafe.Pointer(k)}
	}
	return kernelSet{
		name:       name,
		panelBytes: panelBytes,
		stretches:  true,

		norm:   bind(set.norm),
		gate:   bind(set.gate),
		matmul: bind(set.matmul),
		rotate: bind(set.rotate),
		attend: bind(set.attend),
		maxima: bind(set.maxima),
		sums:   bind(set.sums),
		peaks:  bind(set.peaks),
		weigh:  bind(set.weigh),
		gather: bind(set.gather),

		int8Norm:   bind(set.int8_norm),
		int8Gate:   bind(set.int8_gate),
		int8Matmul: bind(set.int8_matmul),
	}
}

// Go and C read the same memory. Each line is an index out of range, which does not compile, unless the two sides agree
// on the size of a struct and the place of the fields that its padding could move.
var (
	same [1]struct{}

	_ = same[unsafe.Sizeof(normArgs{})-C.sizeof_struct_norm_args]
	_ = same[unsafe.Offsetof(normArgs{}.eps)-unsafe.Offsetof(C.struct_norm_args{}.eps)]
	_ = same[unsafe.Sizeof(gateArgs{})-C.sizeof_struct_gate_args]
	_ = same[unsafe.Offsetof(gateArgs{}.cols)-unsafe.Offsetof(C.struct_gate_args{}.cols)]
	_ = same[unsafe.Sizeof(matmulPart{})-C.sizeof_struct_matmul_part]
	_ = same[unsafe.Sizeof(matmulArgs{})-C.sizeof_struct_matmul_args]
	_ = same[unsafe.Offsetof(matmulArgs{}.chunkRows)-unsafe.Offsetof(C.struct_matmul_args{}.chunk_rows)]
	_ = same[unsafe.Sizeof(int8Args{})-C.sizeof_struct_int8_args]
	_ = same[unsafe.Offsetof(int8Args{}.block)-unsafe.Offsetof(C.struct_int8_args{}.block)]
	_ = same[unsafe.Sizeof(kvArgs{})-C.sizeof_struct_kv_args]
	_ = same[unsafe.Offsetof(kvArgs{}.kind)-unsafe.Offsetof(C.struct_kv_args{}.kind)]
	_ = same[unsafe.Sizeof(rotateArgs{})-C.sizeof_struct_rotate_args]
	_ = same[unsafe.Offsetof(rotateArgs{}.kv)-unsafe.Offsetof(C.struct_rotate_args{}.kv)]
	_ = same[unsafe.Offsetof(rotateArgs{}.eps)-unsafe.Offsetof(C.struct_rotate_args{}.eps)]
	_ = same[unsafe.Sizeof(attendTile{})-C.sizeof_struct_attend_tile]
	_ = same[unsafe.Sizeof(WorkSegment{})-C.sizeof_struct_attend_segment]
	_ = same[unsafe.Sizeof(attendArgs{})-C.sizeof_struct_attend_args]
	_ = same[unsafe.Offsetof(attendArgs{}.kv)-unsafe.Offsetof(C.struct_attend_args{}.kv)]
	_ = same[unsafe.Offsetof(attendArgs{}.rooms)-unsafe.Offsetof(C.struct_attend_args{}.rooms)]
	_ = same[unsafe.Offsetof(attendArgs{}.mode)-unsafe.Offsetof(C.struct_attend_args{}.mode)]
	_ = same[attendRoom-C.attend_room]
	_ = same[attendPartial-C.sizeof_struct_partial]
	_ = same[attendStretch-C.attend_stretch]
	_ = same[attendMerge-C.attend_merge]
	_ = same[keyTile-C.key_tile]
	_ = same[stretchTokens-C.stretch_tokens]
	_ = same[unsafe.Offsetof(attendArgs{}.scale)-unsafe.Offsetof(C.struct_attend_args{}.scale)]
	_ = same[unsafe.Sizeof(SampleRow{})-C.sizeof_struct_sample_row]
	_ = same[unsafe.Sizeof(chunkMax{})-C.sizeof_struct_chunk_max]
	_ = same[unsafe.Sizeof(chunkSum{})-C.sizeof_struct_chunk_sum]
	_ = same[unsafe.Sizeof(sampleArgs{})-C.sizeof_struct_sample_args]
	_ = same[unsafe.Offsetof(sampleArgs{}.vocab)-unsafe.Offsetof(C.struct_sample_args{}.vocab)]
	_ = same[unsafe.Sizeof(candidate{})-C.sizeof_struct_candidate]
	_ = same[unsafe.Offsetof(candidate{}.id)-unsafe.Offsetof(C.struct_candidate{}.id)]
	_ = same[unsafe.Sizeof(filterRow{})-C.sizeof_struct_filter_row]
	_ = same[unsafe.Offsetof(filterRow{}.mark)-unsafe.Offsetof(C.struct_filter_row{}.mark)]
	_ = same[unsafe.Sizeof(filterArgs{})-C.sizeof_struct_filter_args]
	_ = same[unsafe.Offsetof(filterArgs{}.rows)-unsafe.Offsetof(C.struct_filter_args{}.rows)]
	_ = same[filterBlock-C.FILTER_BLOCK]
)
