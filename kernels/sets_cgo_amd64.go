//go:build cgo && !windows

package kernels

// #include "cpu.h"
import "C"

import features "golang.org/x/sys/cpu"

// vectorSets are the sets beside "portable" that this CPU, and its operating system, can run.
func vectorSets() []kernelSet {
	var sets []kernelSet
	x := &features.X86
	if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512DQ {
		if x.HasAVX512BF16 && x.HasAVX512VNNI { // no processor has one alone
			sets = append(sets, newSet("avx512bf16", 2, &C.quire_avx512bf16))
		}
		sets = append(sets, newSet("avx512", 4, &C.quire_avx512))
	}
	if x.HasAVX2 && x.HasFMA {
		sets = append(sets, newSet("avx2", 4, &C.quire_avx2))
	}
	return sets
}
