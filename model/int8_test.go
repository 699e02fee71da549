package model

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
)

// TestGoldensInt8 bounds the error of weights in int8. Trained models stay within the limits of bfloat16, also where attention is
// rounded besides; random ones miss up to 2.5 times the mean of the reference's bfloat16 run, as golden.Int8 says.
func TestGoldensInt8(t *testing.T) {
	devices := map[kernels.KVType]*kernels.Device{kernels.KVF32: openFloat32(t), kernels.KVBF16: openDevice(t)}
	trained := []string{"qwen3", "tiny-qwen3-plain"}
	for _, ref := range references(t) {
		t.Run(ref.name(), func(t *testing.T) {
			file := openGolden(t, ref.file)
			ck := openReference(t, ref, file)
			bf16 := bf16Tolerance(t, ref, file)
			tol := bf16
			if !slices.Contains(trained, ref.name()) {
				tol.Mean, tol.P99, tol.Flips, tol.Always = 3/1.25*tol.Mean, 3/1.5*tol.P99, 0.03, 0
			}
			for kv, device := range devices {
				if kv == kernels.KVBF16 && !slices.Contains(trained, ref.name()) {
					continue
				}
				r := newRigWith(t, device, ck, kv, kernels.Int8)
				require.Equal(t, kernels.Int8, r.model.Layers[0].QKV.Format)
				require.Equal(t, kernels.Int8, r.model.Head.Format)
				require.Equal(t, kernels.BF16, r.model.Embedding.Format)
				together := r.observeAll(file)
				report := compare(file, together, tol)
				t.Logf("%s: %v (bf16: mean %.3g, p99 %.3g)", kv, report, bf16.Mean/1.25, bf16.P99/1.5)
				require.NoError(t, report.Err())
				require.Greater(t, report.Mean, bf16.Mean/10, "int8 must show")
				tokens := sequence(file.Cases[0])
				require.Equal(t, together[:1], r.run([][]int32{tokens}, ragged), "in ragged chunks")
			}
		})
	}
}

// loadInt8 loads a small checkpoint with a cache of weights and returns the largest logits after a prompt, and what was logged.
func loadInt8(t *testing.T, dir, cache string) (outcome, string) {
	t.Helper()
	var log []string
	ck := openCheckpoint(t, dir)
	ck.Log = func(line string) { log = append(log, line) }
	r := newRigWithOptions(t, openDevice(t), ck, kernels.KVBF16, LoadOptions{Weights: kernels.Int8, WeightsCache: cache})
	all := r.run([][]int32{{1, 2, 3}}, whole)[0]
	return all[len(all)-1], strings.Join(log, "\n")
}

// TestWeightsCache spoils the file in every way and demands the same logits and a whole file after.
func TestWeightsCache(t *testing.T) {
	const dir, other = "testdata/goldens/qwen3-tied-gqa2", "testdata/goldens/qwen3-yarn"
	cache := filepath.Join(t.TempDir(), "new", "folder")
	only := func() string {
		files, err := filepath.Glob(filepath.Join(cache, "*"))
		require.NoError(t, err)
		require.Len(t, files, 1, "a file for the model, and no leftovers")
		return files[0]
	}
	plain, log := loadInt8(t, dir, "")
	require.Contains(t, log, "quantized to int8")
	made, log := loadInt8(t, dir, cache)
	require.Contains(t, log, "quantized to int8")
	require.Equal(t, plain, made)
	path := only()
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	read, log := loadInt8(t, dir, cache)
	require.Contains(t, log, "read from")
	require.NotContains(t, log, "quantized")
	require.Equal(t, plain, read)

	foreign := filepath.Join(t.TempDir(), "foreign")
	loadInt8(t, other, foreign)
	files, err := filepath.Glob(filepath.Join(foreign, "*"))
	require.NoError(t, err)
	others, err := os.ReadFile(files[0])
	require.NoError(t, err)
	require.NotEqual(t, filepath.Base(path), filepath.Base(files[0]))

	flipped := func(at int) []byte {
		b := slices.Clone(whole)
		b[at] ^= 1
		return b
	}
	for name, data := range map[string][]byte{
		"a byte of the image": flipped(len(whole) - 1000), "a byte of the key": flipped(20), "a byte of the magic": flipped(0),
		"a byte of the size": flipped(40), "a byte of the sum": flipped(48), "a byte of the padding": flipped(1000),
		"cut": whole[:len(whole)-1], "longer": append(slices.Clone(whole), 0), "empty": nil, "another model's": others,
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(path, data, 0o644))
			got, log := loadInt8(t, dir, cache)
			require.Contains(t, log, "ignoring a cache of weights")
			require.Contains(t, log, "quantized to int8")
			require.Equal(t, plain, got)
			again, err := os.ReadFile(only())
			require.NoError(t, err)
			require.Equal(t, whole, again)
		})
	}

	t.Run("no directory", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(file, nil, 0o644))
		got, log := loadInt8(t, dir, file)
		require.Contains(t, log, "keeping no cache of weights")
		require.Equal(t, plain, got)
	})
}

// TestWeightMemory compares what is planned with what is loaded.
func TestWeightMemory(t *testing.T) {
	for _, name := range []string{"qwen3-tied-gqa2", "qwen3-untied-gqa8-sharded", "qwen3-moe", "qwen3-f32-file"} {
		t.Run(name, func(t *testing.T) {
			ck := openCheckpoint(t, "testdata/goldens/"+name)
			c := ck.Config
			for _, format := range []kernels.Format{kernels.BF16, kernels.Int8} {
				mapped, taken := ck.WeightMemory(format)
				m, err := Load(openDevice(t), ck, LoadOptions{MaxRows: 8, Weights: format})
				require.NoError(t, err)
				uploaded := int64(0)
				for _, b := range m.uploads {
					uploaded += int64(b.Bytes())
				}
				require.Equal(t, uploaded, mapped+taken)
				require.Equal(t, uploaded, m.Memory().Weights)
				require.Equal(t, int64(len(m.image.data)), c.int8Bytes()*int64(format-kernels.BF16))
				if name == "qwen3-f32-file" {
					require.Zero(t, mapped)
				}
				m.Close()
				m.Close()
			}
			require.Greater(t, c.ProductBytes(kernels.BF16), c.ProductBytes(kernels.Int8))
		})
	}
	ck := openCheckpoint(t, "testdata/goldens/qwen3-tied-gqa2")
	_, err := Load(openDevice(t), ck, LoadOptions{Weights: 9})
	require.ErrorContains(t, err, "weights in Format(9)")
}
