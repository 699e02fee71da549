package synthetic

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/model"
)

var _ model.Provider = Provider{}

func TestShapes(t *testing.T) {
	for _, tt := range []struct {
		name       string
		layers     int
		parameters int64 // as the real checkpoints have, the head counted once where it is tied
	}{
		{"synthetic:qwen3-0.6b", 28, 596_049_920},
		{"synthetic:qwen3-1.7b", 28, 1_720_574_976},
		{"synthetic:qwen3-4b", 36, 4_022_468_096},
		{"synthetic:qwen3-8b", 36, 8_190_735_360},
		{"synthetic:Qwen3-8B:layers=3", 3, 1_823_503_104},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Provider{}.Open(tt.name)
			require.NoError(t, err)
			defer c.Close()
			require.True(t, c.Synthetic)
			require.Equal(t, tt.layers, c.Config.Layers)
			require.Equal(t, tt.parameters, c.Parameters())
			require.Equal(t, 2*tt.parameters, c.WeightBytes())
			require.NoError(t, c.CheckShapes())
			require.Equal(t, []int32{2041, 2039}, c.Config.EOS)
			_, err = fs.Stat(c.Files, "tokenizer.json")
			require.NoError(t, err)
			_, err = fs.Stat(c.Files, "config.json")
			require.ErrorIs(t, err, fs.ErrNotExist)
		})
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", "tiny", "qwen3-0.6b", "synthetic:", "synthetic:qwen3-0.7b", "synthetic"} {
		c, err := Provider{}.Open(name)
		require.NoError(t, err, name)
		require.Nil(t, c, name)
	}
	for _, options := range []string{"layers=0", "layers=29", "layers=x", "layers=", "heads=2", "layers=1:layers=2"} {
		_, err := Provider{}.Open("synthetic:qwen3-0.6b:" + options)
		var bad *model.InvalidError
		require.True(t, errors.As(err, &bad), "%s: got %v, want an InvalidError", options, err)
	}
}

// TestBytes fixes the bytes of one layer, so that figures of different machines are of the same model.
func TestBytes(t *testing.T) {
	const want = "1727156912a44409e84f44e9b1e283e242070bfb23fd07c8749d9c82254c76c7"
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, threads := range []int{1, 3} {
		runtime.GOMAXPROCS(threads)
		h := sha256.New()
		c, err := Provider{}.Open("synthetic:qwen3-0.6b:layers=1")
		require.NoError(t, err)
		for name, shape := range c.Config.Weights() {
			if name == "model.embed_tokens.weight" {
				continue // 311 MB
			}
			w, err := c.Weight(name, shape...)
			require.NoError(t, err)
			h.Write(w.Data)
		}
		require.NoError(t, c.Close())
		require.Equal(t, want, hex.EncodeToString(h.Sum(nil)), "with %d threads", threads)
	}
}

func TestDistribution(t *testing.T) {
	c, err := Provider{}.Open("synthetic:qwen3-0.6b:layers=2")
	require.NoError(t, err)
	defer c.Close()
	for _, tt := range []struct {
		tensor          string
		shape           []int
		mean, deviation float64
	}{
		{"model.layers.1.self_attn.q_proj.weight", []int{2048, 1024}, 0, 0.02},
		{"model.layers.1.mlp.down_proj.weight", []int{1024, 3072}, 0, 0.02 / math.Sqrt(3)},
		{"model.layers.1.input_layernorm.weight", []int{1024}, 1, 0.25},
		{"model.norm.weight", []int{1024}, 4, 1},
	} {
		t.Run(tt.tensor, func(t *testing.T) {
			w, err := c.Weight(tt.tensor, tt.shape...)
			require.NoError(t, err)
			var sum, squares float64
			for i := 0; i < len(w.Data); i += 2 {
				x := float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(w.Data[i:])) << 16))
				sum, squares = sum+x, squares+x*x
			}
			n := float64(len(w.Data) / 2)
			mean := sum / n
			require.InDelta(t, tt.mean, mean, 4*tt.deviation/math.Sqrt(n))
			require.InEpsilon(t, tt.deviation, math.Sqrt(squares/n-mean*mean), 0.07)
		})
	}
	a, err := c.Weight("model.layers.0.self_attn.q_proj.weight", 2048, 1024)
	require.NoError(t, err)
	b, err := c.Weight("model.layers.1.self_attn.q_proj.weight", 2048, 1024)
	require.NoError(t, err)
	require.NotEqual(t, a.Data[:64], b.Data[:64], "two layers are the same")
}

func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		c, err := Provider{}.Open("synthetic:qwen3-0.6b")
		require.NoError(b, err)
		for name, shape := range c.Config.Weights() {
			_, err := c.Weight(name, shape...)
			require.NoError(b, err)
		}
		b.SetBytes(c.WeightBytes())
		require.NoError(b, c.Close())
	}
}
