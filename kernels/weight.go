package kernels

import "fmt"

// Format is how a weight's numbers are stored. The set is closed: it must match the kernels.
type Format uint8

// The formats.
const (
	BF16 Format = iota + 1 // bfloat16, row-major, no scales
	// Int8 is int8 with a float32 scale for each row and block of columns, which lies beside the numbers. QuantizeInt8 makes
	// it; see there for the layout. CPU only, and not for Embed.
	Int8
)

// String is the name used in flags and results.
func (f Format) String() string {
	switch f {
	case BF16:
		return "bf16"
	case Int8:
		return "int8"
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// Weight is a matrix [Rows, Cols], row-major, that may lie in several parts (q, k, v). A product with it computes
// y[r] = sum over c of W[r,c]·x[c] + bias[r].
type Weight struct {
	Format Format
	Rows   int // of all parts
	Cols   int
	Parts  []Part // in row order
	Block  int    // of Int8: columns that share a scale, a multiple of 8 up to 512. 0: Int8Block
}

// Part is a run of rows of a Weight that is contiguous in memory.
type Part struct {
	Rows   int
	Data   Buffer // [Rows, Cols] in the weight's format; any alignment for BF16, 64 bytes for Int8
	Scales Buffer // for formats whose scales lie apart; else zero
	Bias   Buffer // [Rows] bfloat16, or zero for none
}

// KVType is the element type of the key-value cache.
type KVType uint8

// The cache's element types. The zero value is bfloat16.
const (
	KVBF16 KVType = iota // the default
	KVF32                // exact: what teacher-forced verification uses
	// KVFP8 is float8 (e4m3), an element being a number times the head's float32 scale, which lies behind the HeadDim
	// numbers. CUDA only.
	KVFP8
)

// kvTypes describes the element types.
var kvTypes = [...]struct {
	name       string
	bytes      int // of an element
	scaleBytes int // behind a head's elements
	cpu, cuda  bool
}{
	KVBF16: {"bf16", 2, 0, true, true},
	KVF32:  {"f32", 4, 0, true, true},
	KVFP8:  {"fp8", 1, 4, false, true},
}

// valid says whether there is such a type.
func (t KVType) valid() bool { return int(t) < len(kvTypes) }

// KVTypes are all of them. Which ones a device takes is in [Info.TakesKV].
func KVTypes() []KVType { return []KVType{KVBF16, KVF32, KVFP8} }

// takenBy says whether a device's kernels take a cache of the type.
func (t KVType) takenBy(cuda bool) bool {
	if cuda {
		return t.valid() && kvTypes[t].cuda
	}
	return t.valid() && kvTypes[t].cpu
}

// align is what strides are multiples of.
func (t KVType) align() int { return max(kvTypes[t].bytes, kvTypes[t].scaleBytes) }

// Bytes is the size of one element.
func (t KVType) Bytes() int { return kvTypes[t].bytes }

// HeadBytes is the memory of the key or value of one token and one head: its elements, and its scale where the type has
// one.
func (t KVType) HeadBytes(headDim int) int { return headDim*kvTypes[t].bytes + kvTypes[t].scaleBytes }

// String is the name used in flags and results.
func (t KVType) String() string {
	if !t.valid() {
		return fmt.Sprintf("KVType(%d)", uint8(t))
	}
	return kvTypes[t].name
}

// KVLayout says where one layer's keys and values lie. Kernels see cache memory only so; the element for token slot t of
// block b, head h, dimension d of a key is at
//
//	Base + b·BlockStride + t·TokenStride + h·HeadStride + d·Type.Bytes()
//
// and the value's VOffset bytes further.
type KVLayout struct {
	Base        Buffer
	BlockStride int // bytes from block to block
	VOffset     int // bytes from a key to its value
	TokenStride int // bytes from token to token within a block
	HeadStride  int // bytes from head to head; 0: Type.HeadBytes(HeadDim), the heads of a token lie together
	BlockTokens int
	Type        KVType
}

// headStride is HeadStride with its default.
func (l *KVLayout) headStride(headDim int) int {
	if l.HeadStride != 0 {
		return l.HeadStride
	}
	return l.Type.HeadBytes(headDim)
}
