package synthetic

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"runtime"
	"strings"
	"sync"

	"github.com/quire-llm/quire/model"
)

// Values follow a normal distribution in 256 steps, so that one hash of 64 bits gives eight of them. Group g of eight is
// hash(seed of the tensor's name, g), whoever computes it: the bytes depend neither on the number of threads nor on the
// machine.
const (
	groupValues = 8
	groupBytes  = 2 * groupValues
)

// fill writes a tensor's bfloat16 values to dst. Norm weights lie around 1, the final norm's around 4, which gives logits
// the spread of a trained model's; a matrix keeps the size of what it multiplies, whatever its width.
func fill(dst []byte, tensor string, config model.Config) {
	var values [256]uint16
	switch {
	case tensor == "model.norm.weight":
		values = normal(4, 1)
	case strings.HasSuffix(tensor, "norm.weight"):
		values = normal(1, 0.25)
	default:
		// 0.02 is the deviation that Qwen3's own weights start from, at the width of the 0.6B.
		values = normal(0, 0.02*math.Sqrt(1024/float64(inputs(tensor, config))))
	}
	h := fnv.New64a()
	h.Write([]byte(tensor))
	seed := h.Sum64()

	groups := (len(dst) + groupBytes - 1) / groupBytes
	workers := max(1, min(runtime.GOMAXPROCS(0), groups/4096)) // a norm is not worth a goroutine
	var wg sync.WaitGroup
	for w := range workers {
		first, last := groups*w/workers, groups*(w+1)/workers
		wg.Go(func() {
			fillGroups(dst[first*groupBytes:min(last*groupBytes, len(dst))], &values, seed, uint64(first))
		})
	}
	wg.Wait()
}

// inputs is the number of columns of a matrix.
func inputs(tensor string, c model.Config) int {
	switch {
	case strings.HasSuffix(tensor, "o_proj.weight"):
		return c.Heads * c.HeadDim
	case strings.HasSuffix(tensor, "down_proj.weight"):
		return c.Intermediate
	}
	return c.Hidden
}

// fillGroups writes groups first, first+1, … to dst, whose last group may be cut short.
func fillGroups(dst []byte, values *[256]uint16, seed, first uint64) {
	for group := first; len(dst) > 0; group++ {
		bits := hash(seed, group)
		lo := uint64(values[byte(bits)]) | uint64(values[byte(bits>>8)])<<16 | uint64(values[byte(bits>>16)])<<32 | uint64(values[byte(bits>>24)])<<48
		hi := uint64(values[byte(bits>>32)]) | uint64(values[byte(bits>>40)])<<16 | uint64(values[byte(bits>>48)])<<32 | uint64(values[byte(bits>>56)])<<48
		if len(dst) < groupBytes {
			var last [groupBytes]byte
			binary.LittleEndian.PutUint64(last[:], lo)
			binary.LittleEndian.PutUint64(last[8:], hi)
			copy(dst, last[:])
			return
		}
		binary.LittleEndian.PutUint64(dst, lo)
		binary.LittleEndian.PutUint64(dst[8:], hi)
		dst = dst[groupBytes:]
	}
}

// hash is output number n of the SplitMix64 generator (Steele, Lea and Flood, 2014) that starts from seed.
func hash(seed, n uint64) uint64 {
	z := seed + (n+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// normal is the normal distribution in 256 steps of equal probability, each at its middle, in bfloat16.
func normal(mean, deviation float64) [256]uint16 {
	var values [256]uint16
	for i := range values {
		z := math.Sqrt2 * math.Erfinv((2*float64(i)+1)/256-1)
		bits := math.Float32bits(float32(mean + deviation*z))
		values[i] = uint16((bits + 0x7fff + bits>>16&1) >> 16) // to nearest, ties to even
	}
	return values
}
