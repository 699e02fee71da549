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
	Type        CacheType
}

// CacheType is how numbers are stored; see kernels.KVType.
type CacheType uint8

// The types.
const (
	CacheBF16 CacheType = iota
	CacheF32
	CacheI8
)

// rowBytes is the size of one head's key or value.
func (t CacheType) rowBytes(headDim int) int {
	switch t {
	case CacheF32:
		return 4 * headDim
	case CacheI8:
		return headDim + 4
	default:
		return 2 * headDim
	}
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
		stride = c.Type.rowBytes(headDim)
	}
	return c.Base[block*c.BlockStride+token*c.TokenStride+head*stride:]
}

// at is element i of a head's key or value.
func (c *Cache) at(row []byte, i, headDim int) float64 {
	switch c.Type {
	case CacheF32:
		return float64(F32(row, i))
	case CacheI8:
		return float64(int8(row[i])) * float64(F32(row[headDim:], 0))
	default:
		return float64(BF16(row, i))
	}
}

// Store writes one head's key and value into a token slot.
func (c *Cache) Store(key, value []float32, slot, head int) {
	k := c.key(slot/c.BlockTokens, slot%c.BlockTokens, head, len(key))
	c.put(k, key)
	c.put(k[c.VOffset:], value)
}

// put writes a head's key or value.
func (c *Cache) put(row []byte, x []float32) {
	switch c.Type {
	case CacheF32:
		for i := range x {
			PutF32(row, i, x[i])
		}
	case CacheI8:
		PutF32(row[len(x):], 0, Quantize(row, x))
	default:
		for i := range x {
			PutBF16(row, i, x[i])
		}
	}
}

// Quantize sets out to x over the returned scale, as int8, ties to even. The largest number becomes ±127. If none is above
// 2⁻¹⁰⁰ the scale is 0, if one is not finite it is NaN, and out is 0.
func Quantize(out []byte, x []float32) (scale float32) {
	largest := float32(0)
	for _, v := range x {
		largest = max(largest, float32(math.Abs(float64(v)))) // NaN if any is
	}
	clear(out[:len(x)])
	if !(largest <= math.MaxFloat32) {
		return float32(math.NaN())
	}
	if largest <= 0x1p-100 {
		return 0
	}
	inverse := 127 / largest
	for i, v := range x {
		out[i] = byte(int8(math.RoundToEven(float64(v * inverse))))
	}
	return largest / 127
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
				dot += float64(x) * c.at(k, i, len(q))
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
				acc[i] += weight * c.at(v, i, len(q))
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
