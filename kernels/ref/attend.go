package ref

import "math"

// Cache is one layer's keys and values; see kernels.KVLayout for where an element lies.
type Cache struct {
	Base        []byte
	BlockStride int // bytes
	VOffset     int // bytes
	TokenStride int // bytes
	HeadStride  int // bytes; 0: the heads of a token lie together
	BlockTokens int
	Float32     bool // else bfloat16
}

// Segment is a run of tokens in the cache; see kernels.WorkSegment.
type Segment struct {
	Block, Off, Len, Pos, Stored int32
}

// MaxHeadDim is the largest head that Attend takes.
const MaxHeadDim = 256

// key is the bytes from head's key of a token slot on.
func (c *Cache) key(block, token, head, headDim int) []byte {
	stride := c.HeadStride
	if stride == 0 {
		stride = 2 * headDim
		if c.Float32 {
			stride = 4 * headDim
		}
	}
	return c.Base[block*c.BlockStride+token*c.TokenStride+head*stride:]
}

// at is element i of a run of keys or values.
func (c *Cache) at(b []byte, i int) float32 {
	if c.Float32 {
		return F32(b, i)
	}
	return BF16(b, i)
}

// Store writes one head's key and value into a token slot.
func (c *Cache) Store(key, value []float32, slot, head int) {
	k := c.key(slot/c.BlockTokens, slot%c.BlockTokens, head, len(key))
	v := k[c.VOffset:]
	for i := range key {
		if c.Float32 {
			PutF32(k, i, key[i])
			PutF32(v, i, value[i])
		} else {
			PutBF16(k, i, key[i])
			PutBF16(v, i, value[i])
		}
	}
}

// Attend sets out = softmax(scale · q·K) · V over the tokens of the segments at positions up to pos, for one query head
// that reads cache head head. blocks holds the segments' blocks. A segment whose Pos and Stored differ is met with q
// turned back by the difference; see RotateBack. Where nothing is visible out is zero.
func Attend(out, q []float32, c *Cache, head, pos int, segments []Segment, blocks []int32, rope []float32, scale float32) {
	var acc [MaxHeadDim]float64
	var turned [MaxHeadDim]float32
	max, sum := math.Inf(-1), 0.0
	for _, s := range segments {
		query := q
		if s.Pos != s.Stored {
			query = turned[:len(q)]
			RotateBack(query, q, rope, int(s.Pos-s.Stored))
		}
		for t := range int(s.Len) {
			if int(s.Pos)+t > pos {
				break
			}
			at := int(s.Off) + t
			k := c.key(int(blocks[int(s.Block)+at/c.BlockTokens]), at%c.BlockTokens, head, len(q))
			v := k[c.VOffset:]
			var dot float64
			for i, x := range query {
				dot += float64(x) * float64(c.at(k, i))
			}
			score := dot * float64(scale)
			if score > max { // rescale what was summed under the old maximum
				shrink := math.Exp(max - score)
				for i := range q {
					acc[i] *= shrink
				}
				sum *= shrink
				max = score
			}
			weight := math.Exp(score - max)
			sum += weight
			for i := range q {
				acc[i] += weight * float64(c.at(v, i))
			}
		}
	}
	for i := range out {
		out[i] = 0
		if sum != 0 { // NaN too
			out[i] = float32(acc[i] / sum)
		}
	}
}
