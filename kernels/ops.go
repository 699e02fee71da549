package kernels

// Ops is what a device can do, in the order that the calls are made. Within [Device.Do] calls are ordered on one stream:
// an operation sees all that was called before it. On the CPU an operation is done when the call returns; on CUDA it may
// still be running, and buffers may be reused only by later calls on the same stream. Write copies src before it returns;
// Read waits for everything before it.
//
// Every call checks its shapes first and returns an error that names the argument; nothing has run then. No call
// allocates once the device has seen the largest shape.
type Ops interface {
	Embed(p *EmbedParams) error
	NormQKV(p *NormQKVParams) error
	QKNormRopeWrite(p *QKNormRopeWriteParams) error
	Attend(p *AttendParams) error
	ProjAdd(p *ProjAddParams) error
	NormGateUp(p *NormGateUpParams) error
	SiluDownAdd(p *SiluDownAddParams) error
	MoE(p *MoEParams) error
	Head(p *HeadParams) error
	Sample(p *SampleParams) error

	// Write copies host memory to the device.
	Write(dst Buffer, src []byte) error
	// Read copies device memory to the host and waits for it.
	Read(dst []byte, src Buffer) error
	// Copy copies within the device. The buffers must not overlap.
	Copy(dst, src Buffer) error
}

// MLPOps is a device that does a whole gated MLP in one call, which need not lay out gate and up. Ops that have it are
// found by assertion.
type MLPOps interface {
	// MLP gives what NormGateUp and SiluDownAdd give, rounded where they round.
	MLP(p *MLPParams) error
}

// EmbedParams: Out[r] = Table[Tokens[r]], not scaled. A token -(i+1) stands for Sampled[i].Token, so that a step can follow
// another before the host knows what that one has sampled.
type EmbedParams struct {
	Tokens  Buffer // [Rows] int32, each in [0, Table.Rows), or negative and in Sampled
	Sampled Buffer // [any] SampleOut; or zero: no token is negative
	Table   Weight // [Vocab, Hidden]
	Out     Buffer // [Rows, Hidden] activations
	Rows    int
}

// NormQKVParams: Out[r] = W · RMSNorm(X[r], Norm) + bias.
// Rounding with bfloat16 activations: the norm's quotient to bf16, times weight to bf16, the product to bf16.
type NormQKVParams struct {
	X    Buffer // [Rows, W.Cols] activations
	Norm Buffer // [W.Cols] bfloat16
	Eps  float32
	W    Weight // [(Heads+2·KVHeads)·HeadDim, Hidden]: q, k, v
	Out  Buffer // [Rows, W.Rows] activations
	Rows int
}

// QKNormRopeWriteParams normalizes each query and key head (where there are norm weights), rotates it for the row's
// position, leaves the query in QKV and writes key and value into the cache.
// Pairs are (i, i+HeadDim/2), as in GPT-NeoX. https://arxiv.org/abs/2104.09864
type QKNormRopeWriteParams struct {
	QKV       Buffer // [Rows, (Heads+2·KVHeads)·HeadDim] activations
	QNorm     Buffer // [HeadDim] bfloat16, or zero for no norm
	KNorm     Buffer // [HeadDim] bfloat16, or zero for no norm
	Eps       float32
	Rope      Buffer // [positions, HeadDim] float32: HeadDim/2 cosines, then HeadDim/2 sines, with YaRN's factor in them
	Positions Buffer // [Rows] int32, each less than the table's positions
	Slots     Buffer // [Rows] int32: block·BlockTokens + token; slots of the null block swallow padding
	KV        KVLayout
	Heads     int
	KVHeads   int
	HeadDim   int // a multiple of 8, at most 256
	Rows      int
}

// WorkItem is a run of rows that walk the same segments.
type WorkItem struct {
	Row, Rows         int32 // rows of the batch
	Segment, Segments int32 // in Work.Segments
}

// WorkSegment is a run of tokens in the cache; see kvcache.Segment.
type WorkSegment struct {
	Block  int32 // index in Work.Blocks of its first block
	Off    int32 // tokens to skip in the first block
	Len    int32 // tokens
	Pos    int32 // logical position of the first token
	Stored int32 // position the keys were rotated for
}

// Work is the list of what attention has to do in a step, the same for every layer. package attention makes it.
//
// Shared items are tokens that many rows see, wherever in the batch they are: keys and values are read once for all of
// them, and each row's item goes on from what they gave. Devices that [Device.SharesAttention] is true of take them. What a row's
// shared items walk is one run of positions: it begins at 0, goes on without gaps in the order of the list, and each item
// ends at a multiple of [ShareTile]. The rows stand after it, those of an item share the same, and their own segments are
// the rest. On the CPU where an item ends, and whether there are any, does not change a bit of the result. On a GPU an item's
// tokens are summed apart, in runs whose length depends on the whole list, so that results are near but not the same.
type Work struct {
	Items      Buffer // [ItemCount] WorkItem
	Segments   Buffer // [SegmentCount] WorkSegment
	Blocks     Buffer // [BlockCount] int32
	Shared     Buffer // [SharedCount] WorkItem whose rows are SharedRows[Row:Row+Rows]
	SharedRows Buffer // [SharedRowCount] int32

	ItemCount, SegmentCount, BlockCount, SharedCount, SharedRowCount int

	// Counts are the five numbers above, in that order, where a step that is replayed has them: those above are then the most
	// that there may be. Zero for a step that has as many. It is for GPUs.
	Counts Buffer // [5] int32
	// Single says that every item has one row and segments of its own.
	Single bool
}

// ShareTile is the tokens that a shared item's end is a multiple of. The CPU meets keys in tiles of so many, from
// multiples of it on, and sums stretches of 512 apart, merged in order: at a tile's border a row's state is the same
// however it got there, so that is where shared items hand it over.
const ShareTile = 64

// AttendParams: Out[r] = softmax(Scale · q·K) · V over the tokens of the row's segments at positions up to the row's own,
// with one online softmax over all segments in order. A segment with Pos ≠ Stored is met with a query rotated again by
// −(Pos−Stored).
type AttendParams struct {
	Q         Buffer // [Rows, QStride] activations; the query is the first Heads·HeadDim of a row
	QStride   int    // elements
	Out       Buffer // [Rows, Heads·HeadDim] activations
	Positions Buffer // [Rows] int32
	Rope      Buffer // as in QKNormRopeWriteParams
	KV        KVLayout
	Work      Work
	Scale     float32 // 1/√HeadDim
	Heads     int
	KVHeads   int
	HeadDim   int
	Rows      int
}

// ProjAddParams: Out[r] += W · X[r] + bias.
type ProjAddParams struct {
	X    Buffer // [Rows, W.Cols] activations
	W    Weight // [Hidden, Heads·HeadDim]
	Out  Buffer // [Rows, W.Rows] activations, the residual stream
	Rows int
}

// NormGateUpParams: Out[r] = W · RMSNorm(X[r], Norm).
type NormGateUpParams struct {
	X    Buffer // [Rows, W.Cols] activations
	Norm Buffer // [W.Cols] bfloat16
	Eps  float32
	W    Weight // [2·Intermediate, Hidden]: gate, up
	Out  Buffer // [Rows, W.Rows] activations
	Rows int
}

// SiluDownAddParams: Out[r] += W · (silu(gate) ⊙ up) + bias, where GateUp[r] is gate, then up.
type SiluDownAddParams struct {
	GateUp Buffer // [Rows, 2·W.Cols] activations
	W      Weight // [Hidden, Intermediate]
	Out    Buffer // [Rows, W.Rows] activations, the residual stream
	Rows   int
}

// MLPParams: Out[r] += Down · (silu(gate) ⊙ up) + bias, where GateUp · RMSNorm(X[r], Norm) is gate, then up.
type MLPParams struct {
	X      Buffer // [Rows, Hidden] activations
	Norm   Buffer // [Hidden] bfloat16
	Eps    float32
	GateUp Weight // [2·Intermediate, Hidden]: gate, up
	Down   Weight // [Hidden, Intermediate]
	Out    Buffer // [Rows, Hidden] activations, the residual stream; may be X
	Rows   int
}

// MoEParams: Out[r] += sum over the TopK experts e with the largest router probability of p[e] · Down[e](silu(gate) ⊙ up),
// with x = RMSNorm(X[r], Norm). The probabilities are a softmax over all experts, divided by the sum of the chosen ones
// where NormTopK is set. Equal probabilities: the smaller index first.
type MoEParams struct {
	X        Buffer // [Rows, Hidden] activations
	Norm     Buffer // [Hidden] bfloat16
	Eps      float32
	Router   Weight   // [Experts, Hidden]
	GateUp   []Weight // [Experts] of [2·Intermediate, Hidden]
	Down     []Weight // [Experts] of [Hidden, Intermediate]
	TopK     int
	NormTopK bool
	Out      Buffer // [Rows, Hidden] activations; may be X
	Rows     int
}

// HeadParams: Logits[i] = W · RMSNorm(X[Index[i]], Norm).
type HeadParams struct {
	X      Buffer // [rows, W.Cols] activations
	Index  Buffer // [Rows] int32 into X
	Norm   Buffer // [W.Cols] bfloat16
	Eps    float32
	W      Weight // [Vocab, Hidden]
	Logits Buffer // [Rows, Vocab] float32
	Rows   int
}

// SampleRow is what one row asks of the sampler.
type SampleRow struct {
	Temperature float32 // 0 is greedy
	Want        int32   // this token is taken, whatever the logits say (teacher forcing, prompt log-probabilities); -1: sample
	Seed        uint64  // of the request
	Counter     uint64  // index of the token in the sequence: the random number depends on (Seed, Counter) only
}

// SampleOut is what the sampler gives back for a row. It may be read without the logits.
type SampleOut struct {
	Token     int32   // the token taken
	Argmax    int32   // the most likely token; the smallest id of equals
	Logit     float32 // of Token, before all biases and penalties
	LogSumExp float32 // of the row: log p(Token) = Logit − LogSumExp
	Finite    int32   // 0 if any logit is NaN or infinite: the token means nothing then
	_         int32
}

// SampleParams takes one token for each row of logits. Sampling with a temperature draws one uniform number from a
// counter-based generator (Philox 4x32-10, Salmon et al., SC 2011) and inverts the cumulative distribution.
type SampleParams struct {
	Logits Buffer // [Rows, Vocab] float32, unchanged
	Params Buffer // [Rows] SampleRow
	Out    Buffer // [Rows] SampleOut
	// Filters change which token is taken and nothing else: its logit, all else in Out and the largest logits are those
	// of the row as it came. Zero: none.
	Filters Buffer // [Rows] SampleFilter
	Biases  Buffer // TokenBias, as many as Filters need
	Counts  Buffer // TokenCount, likewise
	// TopN largest logits of each row, in falling order (equals: smaller id first); 0 for none, at most 64.
	TopN      int
	TopTokens Buffer // [Rows, TopN] int32
	TopLogits Buffer // [Rows, TopN] float32
	Vocab     int
	Rows      int
}
