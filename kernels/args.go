package kernels

import "unsafe"

// The arguments of the CPU kernels. The C kernels read the same memory (see cpu.h; cpu_cgo.go compares the layouts), so
// they lie outside the Go heap. Matrices are row-major; a panel is a matrix in scratch memory of float32 or, in a set with
// bfloat16 products, of bfloat16. Its order of elements is the kernel set's own, with zeros up to a multiple of 64.

// kernelSet is the CPU kernels compiled for one family of processors.
type kernelSet struct {
	name       string
	panelBytes int  // of an element: 4, or 2 where the inputs of products are rounded to bfloat16
	stretches  bool // attend can walk a stretch at a time

	norm   kernel // normArgs
	gate   kernel // gateArgs
	matmul kernel // matmulArgs
	rotate kernel // rotateArgs
	attend kernel // attendArgs
	maxima kernel // sampleArgs
	sums   kernel // sampleArgs
	peaks  kernel // filterArgs
	weigh  kernel // filterArgs
	gather kernel // filterArgs

	int8Norm   kernel // normArgs, whose outStride is in bytes and out as int8Args' x
	int8Gate   kernel // gateArgs, likewise
	int8Matmul kernel // int8Args
}

// normArgs: out[u] = RMSNorm(x[index[u]], norm) for unit u, or x[index[u]] alone without a norm.
type normArgs struct {
	queue
	x         unsafe.Pointer // [rows, cols] float32
	index     unsafe.Pointer // [units] int32, or nil for u itself
	norm      unsafe.Pointer // [cols] bfloat16, or nil
	out       unsafe.Pointer // panel [units, cols]
	cols      int64
	outStride int64 // elements
	eps       float32
	_         float32
}

// gateArgs: out[u] = silu(in[u, :cols]) ⊙ in[u, cols:] for row u.
type gateArgs struct {
	queue
	in        unsafe.Pointer // [units, 2·cols] float32
	out       unsafe.Pointer // panel [units, cols]
	cols      int64
	outStride int64 // elements
}

// matmulArgs: y[r] = W · x[r] + bias, or added to y[r]. A unit is a block of blockRows rows of W for a chunk of
// chunkRows rows of x: unit u is block u mod blocks of chunk u / blocks.
type matmulArgs struct {
	queue
	x         unsafe.Pointer // panel [rows, cols]
	y         unsafe.Pointer // [rows, yCols] float32
	parts     unsafe.Pointer // [partCount] matmulPart
	partCount int64
	rows      int64
	cols      int64
	xStride   int64 // elements
	yCols     int64
	chunkRows int64
	blockRows int64
	blocks    int64
	add       int64 // 1: add to y
}

// matmulPart is a part of W.
type matmulPart struct {
	data unsafe.Pointer // [rows, cols] bfloat16, any alignment
	bias unsafe.Pointer // [rows] bfloat16, any alignment, or nil
	rows int64
}

// int8Args is matmulArgs for weights in [Int8]. A unit is blockGroups groups of 16 rows of W for a chunk of chunkRows rows
// of x. The groups of a part begin with it; its last one may be short.
type int8Args struct {
	queue
	x           unsafe.Pointer // [rows] of xStride bytes: int16 [cols], and the row's scale as float32 at int8ScaleAt(cols)
	y           unsafe.Pointer // [rows, yCols] float32
	parts       unsafe.Pointer // [partCount] matmulPart
	partCount   int64
	rows        int64
	cols        int64
	xStride     int64 // bytes
	yCols       int64
	chunkRows   int64
	blockGroups int64
	blocks      int64
	block       int64 // columns that share a scale
	groupBytes  int64
	add         int64 // 1: add to y
}

// kvArgs is a KVLayout.
type kvArgs struct {
	base        unsafe.Pointer
	bytes       int64 // from base on
	blockStride int64
	vOffset     int64
	tokenStride int64
	headStride  int64
	blockTokens int64
	kind        int64 // KVType
}

// rotateArgs: QKNormRopeWrite for row u.
type rotateArgs struct {
	queue
	qkv       unsafe.Pointer // [units, (heads+2·kvHeads)·headDim] float32
	qNorm     unsafe.Pointer // [headDim] bfloat16, or nil
	kNorm     unsafe.Pointer // [headDim] bfloat16, or nil
	rope      unsafe.Pointer // [positions, headDim] float32
	positions unsafe.Pointer // [units] int32
	slots     unsafe.Pointer // [units] int32
	kv        kvArgs
	heads     int64
	kvHeads   int64
	headDim   int64
	eps       float32
	_         float32
}

// attendArgs: unit u is key-value head u mod kvHeads for the rows of tile u / kvHeads.
type attendArgs struct {
	queue
	q          unsafe.Pointer // [rows, qStride] float32
	out        unsafe.Pointer // [rows, heads·headDim] float32
	positions  unsafe.Pointer // [rows] int32
	rope       unsafe.Pointer // [ropeLen / headDim, headDim] float32
	tiles      unsafe.Pointer // [units / kvHeads] attendTile
	segments   unsafe.Pointer // WorkSegment
	blocks     unsafe.Pointer // [blockCount] int32
	kv         kvArgs
	rooms      unsafe.Pointer // attendRoom bytes for each thread
	slots      unsafe.Pointer // [slots][heads] of slotBytes: what queries have summed of a stretch; slot bases[row] + stretch
	bases      unsafe.Pointer // [rows] int32; read where there are slots
	rows       unsafe.Pointer // int32, the rows that tiles list, or nil: tile.row and those after it
	taken      int64          // rooms
	mode       int64          // attendWhole, attendStretch or attendMerge
	slotBytes  int64
	ropeLen    int64 // elements
	blockCount int64
	qStride    int64 // elements
	heads      int64
	kvHeads    int64
	headDim    int64
	scale      float32
	_          float32
}

// attendTile is up to attendRows rows that walk the same segments.
type attendTile struct {
	row, rows         int32 // of the batch, or in attendArgs.rows
	segment, segments int32
	stretch           int32 // the one to walk, or the last to merge
	from              int32 // position: what the rows see before it is in their slots already, or in 0 there is nothing
}

// The modes of attend.
const (
	attendWhole   = iota // takes over what is in the rows' slots before from, walks the rest and puts out
	attendStretch        // walks one stretch; what it sums goes to the rows' slots, where a stretch that was begun goes on
	attendMerge          // merges the rows' slots up to stretch and puts out
)

// Sizes of attend.
const (
	attendRoom    = 512 << 10 // bytes that a thread has for itself
	attendPartial = 1152      // bytes of what a query of the largest head has summed
	partialHead   = 128       // of them before the weighted values
	keyTile       = ShareTile // keys that a query meets at once, from multiples of it on
	stretchTokens = 512       // tokens of a walk that are summed apart, from multiples of it on
)

// attendRows is the most rows of an attendTile: together they read each key and value once, in one pass of 64 queries.
func attendRows(group int) int { return max(1, 64/group) }

// sampleArgs: unit u is chunk u mod chunks of row u / chunks; a chunk is chunkLen logits, the last one fewer.
type sampleArgs struct {
	queue
	logits   unsafe.Pointer // [rows, vocab] float32
	params   unsafe.Pointer // [rows] SampleRow; read by sums
	rowMax   unsafe.Pointer // [rows] float32; read by sums
	maxima   unsafe.Pointer // [units] chunkMax
	sums     unsafe.Pointer // [units] chunkSum
	vocab    int64
	chunks   int64
	chunkLen int64
}

// chunkMax is the largest of a chunk's logits. finite is 0 if any is NaN or infinite; the value means nothing then.
type chunkMax struct {
	value  float32
	finite int32
}

// chunkSum is the sums over a chunk of e^(logit − row's maximum), at temperature 1 and at the row's (0 for greedy rows).
type chunkSum struct {
	plain, tempered float64
}

// filterArgs: unit u is chunk u mod chunks of row u / chunks; a chunk is chunkLen logits, the last one fewer, in blocks of
// filterBlock.
type filterArgs struct {
	queue
	rows     unsafe.Pointer // [units / chunks] filterRow, each rowBytes after the one before
	rowBytes int64
	vocab    int64
	chunks   int64
	chunkLen int64 // a multiple of filterBlock
}

// filterRow is a row that is filtered. peaks, sums and room say what is asked for: a kernel passes over a row where its
// own is nil. A token's exponent is (logit − largest) / temperature, and its weight that of package ref.
type filterRow struct {
	logits      unsafe.Pointer // [vocab] float32, finite or −Inf
	peaks       unsafe.Pointer // [blocks] float32, or nil: each block's largest logit
	sums        unsafe.Pointer // [blocks] uint64, or nil: each block's weight
	moments     unsafe.Pointer // [chunks] float64, or nil: each chunk's sum of weight · exponent, in any order
	room        unsafe.Pointer // [vocab] candidate, or nil: of each chunk, from its place on, the logits that reach the mark
	counts      unsafe.Pointer // [chunks] int64: how many these are
	largest     float64
	temperature float64
	mark        float32 // finite: logits below it are of no interest
	_           float32
}

// candidate is a token that may be drawn.
type candidate struct {
	score  float64 // its logit; larger is better, equal ones by smaller id
	weight uint64
	id     int32
}

// filterBlock is the logits of a block.
const filterBlock = 256
