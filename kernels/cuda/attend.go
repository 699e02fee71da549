package cuda

import "strings"

// AttendKernels are the attention kernels for a geometry of heads and a type of cache.
type AttendKernels struct {
	Decode        Kernel
	DecodeQueries int // that Decode takes together
	// Merges says that Decode adds up the parts of a row, if it has made all of them.
	Merges bool
	// Prefill takes the rows that Decode does not. It is not used with OnlyDecode: there are no tensor-core kernels for a
	// cache of float32.
	Prefill    Kernel
	OnlyDecode bool
}

// The kernels by the size of a head: up to 64, 128 and 256.
var (
	decodeBF16 = [3][3]Kernel{ // of 2, 4 and 8 queries
		{AttendDecodeQ2BF16D64, AttendDecodeQ4BF16D64, AttendDecodeQ8BF16D64},
		{AttendDecodeQ2BF16D128, AttendDecodeQ4BF16D128, AttendDecodeQ8BF16D128},
		{AttendDecodeQ2BF16D256, AttendDecodeQ4BF16D256, AttendDecodeQ8BF16D256},
	}
	decodeFP8 = [3][3]Kernel{
		{AttendDecodeQ2FP8D64, AttendDecodeQ4FP8D64, AttendDecodeQ8FP8D64},
		{AttendDecodeQ2FP8D128, AttendDecodeQ4FP8D128, AttendDecodeQ8FP8D128},
		{AttendDecodeQ2FP8D256, AttendDecodeQ4FP8D256, AttendDecodeQ8FP8D256},
	}
	decodeF32   = [3]Kernel{AttendDecodeQ4F32D64, AttendDecodeQ4F32D128, AttendDecodeQ4F32D256}
	prefillBF16 = [3]Kernel{AttendPrefillBF16D64, AttendPrefillBF16D128, AttendPrefillBF16D256}
	prefillFP8  = [3]Kernel{AttendPrefillFP8D64, AttendPrefillFP8D128, AttendPrefillFP8D256}
)

// ChooseAttend finds the kernels for groups of so many query heads to a key-value head, a head size up to MaxHeadDim and a
// cache of KVBF16, KVF32 or KVFP8. The decode kernel is the one on tensor cores, for the heads that it is made for and where
// the cache is wide: blocks of multiples of 16 tokens, addresses of 16 bytes. Elsewhere it is the one that takes a row's
// group together, or most of it.
func ChooseAttend(group, headDim int, kvType int32, wide bool) AttendKernels {
	size := 0
	for 64<<size < headDim {
		size++
	}
	if kvType == KVF32 {
		return AttendKernels{Decode: decodeF32[size], DecodeQueries: 4, OnlyDecode: true}
	}
	decode, prefill := &decodeBF16, &prefillBF16
	if kvType == KVFP8 {
		decode, prefill = &decodeFP8, &prefillFP8
	}
	if wide {
		kernels := AttendKernels{DecodeQueries: 8, Merges: true, Prefill: prefill[size]}
		switch {
		case kvType == KVBF16 && headDim == 64:
			kernels.Decode = AttendDecodeBF16D64
			return kernels
		case kvType == KVBF16 && headDim == 128:
			kernels.Decode = AttendDecodeBF16D128
			return kernels
		case kvType == KVFP8 && headDim == 128:
			kernels.Decode = AttendDecodeFP8D128
			return kernels
		}
	}
	width := 0
	for width < 2 && 2<<width < group {
		width++
	}
	return AttendKernels{Decode: decode[size][width], DecodeQueries: 2 << width, Prefill: prefill[size]}
}

// How walks are cut into parts, so that few rows keep the whole machine busy. A part costs a row of partial results, which
// is written and read once.
const (
	attendDecodeSplit      = 128 // least tokens of a part of a decoded row
	attendDecodeSplits     = 32  // most parts of it
	attendPrefillSplit     = 512 // tokens of a part where few rows of a prompt are computed
	attendPrefillSplitRows = 128 // that many
)

// Split fills in how walks are cut.
func (p *AttendPlanParams) Split() {
	p.DecodeSplit, p.DecodeSplits = attendDecodeSplit, attendDecodeSplits
	p.PrefillSplit, p.PrefillSplitRows = attendPrefillSplit, attendPrefillSplitRows
}

// AttendParts is how many partial results a step of so many rows may want. Where there is room for less, walks stay whole.
func AttendParts(rows int) int { return 2 * attendDecodeSplits * rows }

// Geometry of a launch.
func (p *AttendPlanParams) Geometry() Geometry {
	return Geometry{Kernel: AttendPlan, Blocks: [2]int{1, 1}, Threads: AttendPlanThreads}
}

// AttendGeometry launches an attention kernel but the plan with as many blocks as the device runs at once: they take what
// there is to do in turn.
func AttendGeometry(k Kernel, blocks int) Geometry {
	return Geometry{Kernel: k, Blocks: [2]int{blocks, 1}, Threads: AttendThreads, SharedBytes: k.SharedBytes()}
}

// Persistent says whether launches of the kernel are those of [AttendGeometry].
func (k Kernel) Persistent() bool {
	return strings.HasPrefix(k.String(), "attend_") && k != AttendPlan
}
