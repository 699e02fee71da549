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

// KVType is how the numbers of the key-value cache are stored.
type KVType uint8

// The cache's types. The zero value is bfloat16.
const (
	KVBF16 KVType = iota // the default
	KVF32                // exact: what teacher-forced verification uses
	KVI8                 // int8 with one float32 scale for each token and KV head, CPU only
	KVFP8                // float8 (e4m3), likewise, CUDA only
)

// kvTypes are all of them: how each is called, the bytes of an element and of a head's scale, whether that lies apart, and
// whose kernels take it.
var kvTypes = [...]struct {
	name         string
	bytes, extra int
	apart        bool
	cpu, cuda    bool
}{
	KVBF16: {"bf16", 2, 0, false, true, true},
	KVF32:  {"f32", 4, 0, false, true, true},
	KVI8:   {"int8", 1, 4, false, true, false},
	KVFP8:  {"fp8", 1, 4, true, false, true},
}

// KVTypes are all types of the cache, the default first. Which ones a device takes is in [Info.TakesKV].
func KVTypes() []KVType { return []KVType{KVBF16, KVF32, KVI8, KVFP8} }

// RowBytes is the size of one head's key or value for one token, with its scale.
func (t KVType) RowBytes(headDim int) int { return kvTypes[t].bytes*headDim + kvTypes[t].extra }

// HeadBytes is what of RowBytes lies together: all but a scale that lies apart.
func (t KVType) HeadBytes(headDim int) int { return t.RowBytes(headDim) - t.ScaleBytes() }

// ScaleBytes is the size of a scale that lies apart, or 0.
func (t KVType) ScaleBytes() int {
	if kvTypes[t].apart {
		return kvTypes[t].extra
	}
	return 0
}

// align is what the address of a row is a multiple of.
func (t KVType) align() int { return max(kvTypes[t].bytes, kvTypes[t].extra) }

// valid says whether there is such a type.
func (t KVType) valid() bool { return int(t) < len(kvTypes) }

// takenBy says whether a device's kernels take a cache of the type.
func (t KVType) takenBy(cuda bool) bool {
	if cuda {
		return t.valid() && kvTypes[t].cuda
	}
	return t.valid() && kvTypes[t].cpu
}

// String is the name used in flags and results.
func (t KVType) String() string {
	if !t.valid() {
		return fmt.Sprintf("KVType(%d)", uint8(t))
	}
	return kvTypes[t].name
}

// KVLayout says where one layer's keys and values lie. Kernels see cache memory only so; head h of the key for token slot t
// of block b is Type.HeadBytes(HeadDim) bytes at
//
//	Base + b·BlockStride + t·TokenStride + h·HeadStride
//
// and its value's VOffset bytes further. They are the head's elements or, for KVI8, its elements x and then a float32
// scale: x·scale is what was stored. The scale is that of the head's largest number, which becomes ±127; a head of zeros
// (nothing above 2⁻¹⁰⁰) has scale 0, one with NaN or infinity in it scale NaN.
//
// The scales of KVFP8 lie apart, behind the values of a block, so that heads are aligned as the widest accesses want them.
// That key's is at
//
//	Base + b·BlockStride + ScaleOffset + 4·(h·BlockTokens + t)
//
// and its value's VScaleOffset bytes further.
type KVLayout struct {
	Base        Buffer
	BlockStride int // bytes from block to block
	VOffset     int // bytes from a key to its value
	TokenStride int // bytes from token to token within a block
	HeadStride  int // bytes from head to head; 0: HeadBytes, the heads of a token lie together
	BlockTokens int
	Type        KVType

	ScaleOffset  int // bytes from a block to its keys' scales, where they lie apart
	VScaleOffset int // bytes from a key's scale to its value's
}

// headStride is HeadStride with its default.
func (l *KVLayout) headStride(headDim int) int {
	if l.HeadStride != 0 {
		return l.HeadStride
	}
	return l.Type.HeadBytes(headDim)
}
