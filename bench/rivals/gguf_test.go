package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/model"
)

func openTiny(t *testing.T) *model.Checkpoint {
	ck, err := (&cli.EngineFlags{Model: "tiny"}).OpenModel(func(string) {})
	require.NoError(t, err)
	t.Cleanup(func() { ck.Close() })
	return ck
}

func TestFloat16(t *testing.T) {
	for value, want := range map[float32]uint16{
		0: 0, 1: 0x3c00, -2: 0xc000, 65504: 0x7bff, 65519: 0x7bff, 65520: 0x7c00, 1e9: 0x7c00, 0.1: 0x2e66,
		1 + 1.0/2048: 0x3c00, 1 + 3.0/2048: 0x3c02, // ties to even
		2 - 1.0/4096:    0x4000, // rounds up to the next power of two
		1.0 / (1 << 14): 0x0400, 1.0 / (1 << 24): 1, 1.0 / (1 << 25): 0, 3.0 / (1 << 25): 2, 1.0/(1<<14) - 1.0/(1<<26): 0x0400,
		float32(math.Inf(-1)): 0xfc00,
	} {
		require.Equal(t, want, float16(value), "%v", value)
	}
	require.Equal(t, uint16(0x7e00), float16(float32(math.NaN()))&0x7fff)
	require.Equal(t, uint16(0x8000), float16(float32(math.Copysign(0, -1))))
}

func TestQ8(t *testing.T) {
	values := make([]float32, 64) // the second block is all zeros
	for i := range 32 {
		values[i] = float32(i-16) / 16 * 12.7
	}
	dst := make([]byte, 68)
	encodeQ8(dst, values)
	require.Equal(t, float16(0.1), binary.LittleEndian.Uint16(dst))
	for i := range 32 {
		require.InDelta(t, values[i], 0.1*float32(int8(dst[2+i])), 0.051, "element %d", i)
	}
	require.Equal(t, int8(-127), int8(dst[2]))
	require.Equal(t, make([]byte, 34), dst[34:])
}

// The file's head says where the tensors are, and they are there.
func TestGGUFOfTiny(t *testing.T) {
	ck := openTiny(t)
	for _, kind := range weightTypes {
		t.Run(kind.name, func(t *testing.T) {
			var file bytes.Buffer
			require.NoError(t, writeGGUF(&file, ck, kind))
			tensors, err := tensorsOf(ck.Config, kind)
			require.NoError(t, err)
			size := 0
			for _, tensor := range tensors {
				size += padded(tensor.bytes())
			}
			data := file.Bytes()
			head := len(data) - size
			require.Zero(t, head%alignment)
			require.Equal(t, "GGUF\x03\x00\x00\x00", string(data[:8]))
			require.Equal(t, uint64(len(tensors)), binary.LittleEndian.Uint64(data[8:]))
			require.Equal(t, head, len(header(ck.Config, kind, tensors)))

			// The norm of the first layer lies after the embedding.
			require.Equal(t, "blk.0.attn_norm.weight", tensors[1].name)
			norm, err := ck.Weight(tensors[1].source, tensors[1].shape...)
			require.NoError(t, err)
			at := head + padded(tensors[0].bytes())
			want := uint32(binary.LittleEndian.Uint16(norm.Data)) << 16
			require.Equal(t, want, binary.LittleEndian.Uint32(data[at:]))
		})
	}
}

func TestGGUFIsWrittenOnce(t *testing.T) {
	ck, dir := openTiny(t), t.TempDir()
	path, err := ggufFile(dir, ck, weightTypes[0])
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "tiny-bf16.gguf"), path)
	require.NoError(t, os.WriteFile(path, []byte("kept"), 0o600))
	again, err := ggufFile(dir, ck, weightTypes[0])
	require.NoError(t, err)
	require.Equal(t, path, again)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "kept", string(data))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

// llama.cpp reads the file and says what this engine says: then the shapes are the same, and so are the fields.
func TestLlamaAnswersAsWeDo(t *testing.T) {
	dir := os.Getenv("QUIRE_LLAMA")
	if dir == "" {
		t.Skip("set QUIRE_LLAMA to the folder with llama.cpp's node_modules; see README.md")
	}
	addon, err := findLlama(dir)
	require.NoError(t, err)
	ck := openTiny(t)
	prompt := []int32{5, 900, 33, 1204, 71, 8, 1999, 640, 12, 77}
	e, err := engine.Open(t.Context(), engine.Options{Checkpoint: ck})
	require.NoError(t, err)
	defer e.Close()
	ours, err := e.Batch(t.Context(), []engine.Request{{Tokens: prompt, MaxTokens: 24, IgnoreEOS: true}})
	require.NoError(t, err)

	for _, kind := range weightTypes[:2] {
		gguf, err := ggufFile(t.TempDir(), ck, kind)
		require.NoError(t, err)
		l, err := startLlama(t.Context(), addon, gguf)
		require.NoError(t, err)
		for _, flash := range []bool{false, true} {
			answer, err := l.call(llamaCall{Sequences: 2, Prompt: prompt, Output: 24, Threads: 2, Flash: flash, Sample: true})
			require.NoError(t, err)
			require.Positive(t, answer.PrefillSeconds)
			require.Positive(t, answer.DecodeSeconds)
			require.Equal(t, [][]int32{ours[0].Tokens, ours[0].Tokens}, answer.Answers, "%s, flash %t", kind.name, flash)
		}
		l.close()
	}
}

func TestAbsent(t *testing.T) {
	_, err := findLlama(t.TempDir())
	require.ErrorIs(t, err, errAbsent)
	_, err = startLlama(context.Background(), filepath.Join(t.TempDir(), "x.node"), "none")
	require.Error(t, err)
	require.False(t, errors.Is(err, errAbsent))
}
