package oracle_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/internal/oracle"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/model"
	"github.com/quire-llm/quire/model/tiny"
)

// tolerance is the largest deviation of a logit, relative to the largest logit of its row.
const tolerance = 1e-4

// TestRandomLayer compares one layer of Qwen3-0.6B's shape with random weights.
func TestRandomLayer(t *testing.T) {
	ck := random(model.Config{
		Architecture: model.Qwen3, Layers: 1, Hidden: 1024, Intermediate: 3072, Heads: 16, KVHeads: 8, HeadDim: 128,
		Vocab: model.MaxTop, MaxPositions: 512, NormEps: 1e-6, QKNorm: true, BOS: -1,
		Rope: model.Rope{Type: model.RopeDefault, Theta: 1_000_000},
	})
	compare(t, ck, tokens(t, ck, 60))
}

// TestRandomDecoder compares a few layers of an odd shape with a head of their own.
func TestRandomDecoder(t *testing.T) {
	ck := random(model.Config{
		Architecture: model.Qwen3, Layers: 3, Hidden: 72, Intermediate: 104, Heads: 6, KVHeads: 3, HeadDim: 40,
		Vocab: model.MaxTop - 3, MaxPositions: 512, NormEps: 1e-5, QKNorm: true, TiedHead: true, BOS: -1,
		Rope: model.Rope{Type: model.RopeDefault, Theta: 10_000},
	})
	compare(t, ck, tokens(t, ck, 200))
}

// TestTiny compares the whole built-in model.
func TestTiny(t *testing.T) {
	ck, err := tiny.Provider{}.Open(tiny.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	compare(t, ck, tokens(t, ck, 150))
}

// TestOracleSeesFaults shows that the comparison is of something: each change moves a logit by more than the tolerance.
func TestOracleSeesFaults(t *testing.T) {
	config := model.Config{
		Architecture: model.Qwen3, Layers: 2, Hidden: 64, Intermediate: 96, Heads: 4, KVHeads: 2, HeadDim: 32,
		Vocab: model.MaxTop, MaxPositions: 512, NormEps: 1e-6, QKNorm: true, BOS: -1,
		Rope: model.Rope{Type: model.RopeDefault, Theta: 10_000},
	}
	for name, change := range map[string]func(*model.Config){
		"theta":   func(c *model.Config) { c.Rope.Theta *= 2 },
		"epsilon": func(c *model.Config) { c.NormEps = 0.1 },
		"heads":   func(c *model.Config) { c.Heads, c.KVHeads, c.HeadDim = 8, 4, 16 },
		"norms":   func(c *model.Config) { c.QKNorm = false },
		"layers":  func(c *model.Config) { c.Layers = 1 },
	} {
		ck := random(config)
		ids := tokens(t, ck, 40)
		want, err := oracle.Logits(ck, ids)
		if err != nil {
			t.Fatal(err)
		}
		changed := config
		change(&changed)
		for set, device := range devices(t) {
			if worst := deviation(want, ours(t, device, random(changed), ids)); worst < 10*tolerance {
				t.Errorf("%s changed, kernels=%s: got a deviation of %.2g, want more than %.2g", name, set, worst, 10*tolerance)
			}
		}
	}
	config.Architecture = model.Llama
	if _, err := oracle.Logits(random(config), []int32{1}); err == nil {
		t.Error("got no error for another architecture")
	}
}

// compare runs a sequence through the oracle and, on every kernel set, through Forward in three ragged chunks.
func compare(t *testing.T, ck *model.Checkpoint, ids []int32) {
	want, err := oracle.Logits(ck, ids)
	if err != nil {
		t.Fatal(err)
	}
	for set, device := range devices(t) {
		worst := deviation(want, ours(t, device, ck, ids))
		t.Logf("kernels=%s: %d tokens, largest deviation %.2g of a row's largest logit", set, len(ids), worst)
		if !(worst <= tolerance) {
			t.Errorf("kernels=%s: got a deviation of %.2g, want at most %.2g", set, worst, tolerance)
		}
	}
}

// deviation is the largest |Δ| of the logits in got, relative to the largest of their row in want.
func deviation(want [][]float32, got []map[int32]float32) float64 {
	var worst float64
	for i, row := range got {
		var scale float64
		for _, l := range want[i] {
			scale = max(scale, math.Abs(float64(l)))
		}
		for token, l := range row {
			worst = max(worst, math.Abs(float64(l)-float64(want[i][token]))/scale)
		}
	}
	return worst
}

// devices opens every kernel set of this machine that rounds nothing.
func devices(t *testing.T) map[string]*kernels.Device {
	found := map[string]*kernels.Device{}
	for _, set := range []string{"go", "portable", "avx2", "avx512"} {
		d, err := kernels.Open(kernels.Options{Device: "cpu", KernelSet: set})
		if errors.Is(err, errors.ErrUnsupported) && set != "go" {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		found[set] = d
	}
	return found
}

// ours are the largest logits, at most model.MaxTop, that Forward gives after each token.
func ours(t *testing.T, device *kernels.Device, ck *model.Checkpoint, ids []int32) []map[int32]float32 {
	const blockTokens = 16
	m, err := model.Load(device, ck, model.LoadOptions{MaxContext: 512})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	kv, err := model.NewKV(device, ck.Config, 32, blockTokens, kernels.KVF32)
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Free()
	blocks := make([]kvcache.BlockID, 32)
	for i := range blocks {
		blocks[i] = kvcache.BlockID(len(blocks) - i)
	}
	top := min(model.MaxTop, ck.Config.Vocab)
	var rows []map[int32]float32
	var plan attention.Plan
	for _, end := range []int{1, len(ids) / 3, len(ids)} {
		from := len(rows)
		plan.Reset(blockTokens)
		if err := plan.Add([]kvcache.Segment{{Blocks: blocks, Len: end}}, end-from); err != nil {
			t.Fatal(err)
		}
		err := device.Do(context.Background(), func(ops kernels.Ops) error {
			if err := m.Forward(ops, &model.Batch{Tokens: ids[from:end], Plan: &plan}, kv); err != nil {
				return err
			}
			for i := range end - from {
				tokens, logits := make([]int32, top), make([]float32, top)
				if err := m.Logits(ops, []int32{int32(i)}); err != nil {
					return err
				}
				if err := m.Sample(ops, []kernels.SampleRow{{Want: -1}}, top, make([]kernels.SampleOut, 1), tokens, logits); err != nil {
					return err
				}
				row := map[int32]float32{}
				for j, token := range tokens {
					row[token] = logits[j]
				}
				rows = append(rows, row)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(rows) != len(ids) || len(rows[0]) != top {
		t.Fatalf("got %d rows of %d logits, want %d of %d", len(rows), len(rows[0]), len(ids), top)
	}
	return rows
}

// tokens are n random tokens.
func tokens(t *testing.T, ck *model.Checkpoint, n int) []int32 {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(r.IntN(ck.Config.Vocab))
	}
	return ids
}

// random is a checkpoint of random weights that spread as those of a trained model do. A tensor's values depend on its
// name only.
func random(c model.Config) *model.Checkpoint {
	weights := map[string]model.Tensor{}
	for name, shape := range c.Weights() {
		seed := fnv.New64()
		seed.Write([]byte(name))
		r := rand.New(rand.NewPCG(seed.Sum64(), 7))
		n, mean, spread := 1, 0.0, 1.0
		for _, d := range shape {
			n *= d
		}
		if len(shape) == 1 {
			mean, spread = 1, 0.25
		} else if name != "model.embed_tokens.weight" {
			spread = 1 / math.Sqrt(float64(shape[1]))
		}
		data := make([]byte, 2*n)
		for i := range n {
			bits := math.Float32bits(float32(mean + spread*r.NormFloat64()))
			data[2*i], data[2*i+1] = byte(bits>>16), byte(bits>>24)
		}
		weights[name] = model.Tensor{Name: name, DType: model.BF16, Shape: shape, Data: data}
	}
	return model.NewCheckpoint(fmt.Sprintf("random %d×%d", c.Layers, c.Hidden), c, weights, nil)
}
