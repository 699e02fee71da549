package pyrand

import (
	"encoding/json"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// vectors is testdata/vectors.json, which testdata/vectors.py writes.
type vectors struct {
	Cases []struct {
		Seed           int64
		Bits32         []uint32 `json:"bits32"`
		BitsWidths     []int    `json:"bits_widths"`
		Bits           []string
		Floats         []float64
		RandintRanges  [][2]int `json:"randint_ranges"`
		Randint        []int
		Choice         []string
		After2000Words [2]float64 `json:"after_2000_words"`
	}
	StandardLengths  [][]int   `json:"standard_lengths"`
	StandardFirstIDs [][][]int `json:"standard_first_ids"`
	StandardLastIDs  [][][]int `json:"standard_last_ids"`
	NanoInputTokens  int       `json:"nano_input_tokens"`
	NanoOutputTokens int       `json:"nano_output_tokens"`
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	require.NoError(t, err)
	var v vectors
	require.NoError(t, json.Unmarshal(data, &v))
	require.NotEmpty(t, v.Cases)
	return v
}

func TestDrawsWhatPythonDraws(t *testing.T) {
	for _, c := range readVectors(t).Cases {
		t.Run("seed="+strconv.FormatInt(c.Seed, 10), func(t *testing.T) {
			r := New(c.Seed)
			for i, want := range c.Bits32 {
				require.Equal(t, uint64(want), r.Bits(32), "getrandbits(32) number %d", i)
			}
			for i, want := range c.Bits {
				got := strconv.FormatUint(r.Bits(c.BitsWidths[i]), 10)
				require.Equal(t, want, got, "getrandbits(%d)", c.BitsWidths[i])
			}
			for i, want := range c.Floats {
				require.Equal(t, want, r.Float64(), "random() number %d", i)
			}
			for i, want := range c.Randint {
				low, high := c.RandintRanges[i][0], c.RandintRanges[i][1]
				require.Equal(t, want, r.IntRange(low, high), "randint(%d, %d)", low, high)
			}
			letters := []string{"a", "b", "c", "d", "e", "f", "g"}
			for i, want := range c.Choice {
				require.Equal(t, want, Choice(r, letters), "choice number %d", i)
			}
			var last uint64
			for range 2000 {
				last = r.Bits(32)
			}
			require.Equal(t, c.After2000Words[0], float64(last))
			require.Equal(t, c.After2000Words[1], r.Float64())
		})
	}
}

// drawPrompts draws prompts as the suite does: the length first, then the ids.
func drawPrompts(r *Random, prompts, low, high int) [][]int {
	drawn := make([][]int, prompts)
	for i := range drawn {
		drawn[i] = make([]int, r.IntRange(low, high))
		for j := range drawn[i] {
			drawn[i][j] = r.IntRange(0, 10000)
		}
	}
	return drawn
}

func TestStandardWorkload(t *testing.T) {
	v := readVectors(t)
	require.Equal(t, [][]int{{128}, {237, 141}, {216, 204, 113, 211}}, v.StandardLengths)
	r := New(42)
	for b, batch := range []int{1, 2, 4} {
		for i, prompt := range drawPrompts(r, batch, 100, 256) {
			require.Len(t, prompt, v.StandardLengths[b][i])
			require.Equal(t, v.StandardFirstIDs[b][i], prompt[:4])
			require.Equal(t, v.StandardLastIDs[b][i], prompt[len(prompt)-4:])
		}
	}
}

// nano-vllm's own benchmark: 256 prompts, then 256 output lengths, seed 0.
func TestNanoWorkloadTotals(t *testing.T) {
	r := New(0)
	input, output := 0, 0
	for _, prompt := range drawPrompts(r, 256, 100, 1024) {
		input += len(prompt)
	}
	for range 256 {
		output += r.IntRange(100, 1024)
	}
	require.Equal(t, 142827, input)
	require.Equal(t, 133966, output)
	v := readVectors(t)
	require.Equal(t, v.NanoInputTokens, input)
	require.Equal(t, v.NanoOutputTokens, output)
}

func TestSeedStartsAgain(t *testing.T) {
	r := New(7)
	first := []uint32{r.Uint32(), r.Uint32(), r.Uint32()}
	r.Seed(7)
	require.Equal(t, first, []uint32{r.Uint32(), r.Uint32(), r.Uint32()})
}

func TestImpossibleRangesPanic(t *testing.T) {
	r := New(0)
	for name, draw := range map[string]func(){
		"bits -1":         func() { r.Bits(-1) },
		"bits 65":         func() { r.Bits(65) },
		"below 0":         func() { r.Below(0) },
		"range 2 to 1":    func() { r.IntRange(2, 1) },
		"choice of none":  func() { Choice(r, []int{}) },
		"below a minus 1": func() { r.Below(-1) },
	} {
		t.Run(name, func(t *testing.T) { require.Panics(t, draw) })
	}
	require.Zero(t, r.Bits(0))
}
