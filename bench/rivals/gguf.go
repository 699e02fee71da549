package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/quire-llm/quire/model"
)

// weightType is how a GGUF file stores matrices; norms are always float32.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
type weightType struct {
	name     string
	code     uint32 // of the tensors
	fileType uint32 // of the file as a whole
	block    int    // elements that are stored together
	bytes    int    // of a block
	encode   func(dst []byte, values []float32)
}

var float32Type = weightType{name: "f32", code: 0, block: 1, bytes: 4, encode: encodeF32}

// weightTypes are those that can be asked for.
var weightTypes = []weightType{
	{name: "bf16", code: 30, fileType: 32, block: 1, bytes: 2, encode: encodeBF16},
	{name: "f16", code: 1, fileType: 1, block: 1, bytes: 2, encode: encodeF16},
	{name: "q8_0", code: 8, fileType: 7, block: 32, bytes: 34, encode: encodeQ8},
}

// alignment of tensors in the file, GGUF's default.
const alignment = 32

// tensor is one of the file, under llama.cpp's name.
type tensor struct {
	name   string
	source string // under transformers' name
	shape  []int
	kind   weightType
}

func (t *tensor) elements() int {
	n := 1
	for _, d := range t.shape {
		n *= d
	}
	return n
}

func (t *tensor) bytes() int { return t.elements() / t.kind.block * t.kind.bytes }

// tensorsOf lists a Qwen3 model's tensors.
func tensorsOf(c model.Config, kind weightType) ([]tensor, error) {
	var all []tensor
	for source, shape := range c.Weights() {
		name, err := ggufName(source)
		if err != nil {
			return nil, err
		}
		t := tensor{name: name, source: source, shape: shape, kind: kind}
		if len(shape) == 1 {
			t.kind = float32Type
		}
		if columns := shape[len(shape)-1]; columns%t.kind.block != 0 {
			return nil, fmt.Errorf("rivals: writing %q as %s: rows of %d elements are no whole blocks", source, kind.name, columns)
		}
		all = append(all, t)
	}
	return all, nil
}

// ggufName is llama.cpp's name of a tensor.
func ggufName(source string) (string, error) {
	switch source {
	case "model.embed_tokens.weight":
		return "token_embd.weight", nil
	case "model.norm.weight":
		return "output_norm.weight", nil
	case "lm_head.weight":
		return "output.weight", nil
	}
	layer, rest, _ := strings.Cut(strings.TrimPrefix(source, "model.layers."), ".")
	for _, n := range [...][2]string{
		{"input_layernorm", "attn_norm"}, {"post_attention_layernorm", "ffn_norm"},
		{"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"},
		{"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"},
		{"mlp.gate_proj", "ffn_gate"}, {"mlp.up_proj", "ffn_up"}, {"mlp.down_proj", "ffn_down"},
	} {
		if rest == n[0]+".weight" {
			return "blk." + layer + "." + n[1] + ".weight", nil
		}
	}
	return "", fmt.Errorf("rivals: writing GGUF: no name for tensor %q", source)
}

// ggufFile writes a checkpoint to a folder, unless it is there already, and returns the file's path.
func ggufFile(dir string, ck *model.Checkpoint, kind weightType) (path string, err error) {
	name := strings.NewReplacer("/", "-", ":", "-", "=", "-").Replace(ck.Name)
	path = filepath.Join(dir, name+"-"+kind.name+".gguf")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	file, err := os.CreateTemp(dir, ".gguf.*")
	if err != nil {
		return "", fmt.Errorf("rivals: writing GGUF: %w", err)
	}
	defer os.Remove(file.Name()) // nothing is left there once it is renamed
	defer file.Close()
	buffered := bufio.NewWriterSize(file, 1<<20)
	if err := writeGGUF(buffered, ck, kind); err != nil {
		return "", err
	}
	if err := buffered.Flush(); err != nil {
		return "", fmt.Errorf("rivals: writing %q: %w", path, err)
	}
	if err := file.Close(); err != nil {
		return "", fmt.Errorf("rivals: writing %q: %w", path, err)
	}
	return path, os.Rename(file.Name(), path)
}

// writeGGUF writes a dense Qwen3 model with no vocabulary: it takes and gives token ids.
func writeGGUF(w io.Writer, ck *model.Checkpoint, kind weightType) error {
	c := ck.Config
	if c.Architecture != model.Qwen3 || c.MoE.Experts > 0 || c.Rope.Type != model.RopeDefault && c.Rope.Type != "" {
		return fmt.Errorf("rivals: writing %q as GGUF: only dense Qwen3 models with plain rotary embedding are", ck.Name)
	}
	tensors, err := tensorsOf(c, kind)
	if err != nil {
		return err
	}
	head := header(c, kind, tensors)
	if _, err := w.Write(head); err != nil {
		return fmt.Errorf("rivals: writing GGUF: %w", err)
	}
	for i := range tensors {
		if err := writeTensor(w, ck, &tensors[i]); err != nil {
			return err
		}
	}
	return nil
}

// header is everything before the tensors' data, padded to the alignment.
func header(c model.Config, kind weightType, tensors []tensor) []byte {
	type field struct {
		key   string
		value any // string, uint32 or float32
	}
	const arch = "qwen3."
	fields := []field{
		{"general.architecture", "qwen3"},
		{"general.name", "a shape for measuring"},
		{"general.file_type", kind.fileType},
		{arch + "block_count", uint32(c.Layers)},
		{arch + "context_length", uint32(c.MaxPositions)},
		{arch + "embedding_length", uint32(c.Hidden)},
		{arch + "feed_forward_length", uint32(c.Intermediate)},
		{arch + "attention.head_count", uint32(c.Heads)},
		{arch + "attention.head_count_kv", uint32(c.KVHeads)},
		{arch + "attention.key_length", uint32(c.HeadDim)},
		{arch + "attention.value_length", uint32(c.HeadDim)},
		{arch + "attention.layer_norm_rms_epsilon", c.NormEps},
		{arch + "rope.freq_base", float32(c.Rope.Theta)},
		{arch + "vocab_size", uint32(c.Vocab)},
		{"tokenizer.ggml.model", "no_vocab"},
	}
	order := binary.LittleEndian
	text := func(b []byte, s string) []byte { return append(order.AppendUint64(b, uint64(len(s))), s...) }

	b := append([]byte("GGUF"), 3, 0, 0, 0) // version 3
	b = order.AppendUint64(b, uint64(len(tensors)))
	b = order.AppendUint64(b, uint64(len(fields)))
	for _, f := range fields {
		b = text(b, f.key)
		switch v := f.value.(type) {
		case uint32:
			b = order.AppendUint32(order.AppendUint32(b, 4), v)
		case float32:
			b = order.AppendUint32(order.AppendUint32(b, 6), math.Float32bits(v))
		case string:
			b = text(order.AppendUint32(b, 8), v)
		}
	}
	offset := 0
	for _, t := range tensors {
		b = text(b, t.name)
		b = order.AppendUint32(b, uint32(len(t.shape)))
		for i := len(t.shape) - 1; i >= 0; i-- { // the fastest dimension first
			b = order.AppendUint64(b, uint64(t.shape[i]))
		}
		b = order.AppendUint32(b, t.kind.code)
		b = order.AppendUint64(b, uint64(offset))
		offset += padded(t.bytes())
	}
	return append(b, make([]byte, padded(len(b))-len(b))...)
}

func padded(bytes int) int { return (bytes + alignment - 1) / alignment * alignment }

// writeTensor writes one tensor's data, encoded a piece at a time, and its padding.
func writeTensor(w io.Writer, ck *model.Checkpoint, t *tensor) error {
	weight, err := ck.Weight(t.source, t.shape...)
	if err != nil {
		return err
	}
	const piece = 1 << 16 // elements, whole blocks of every type
	values, out := make([]float32, piece), make([]byte, piece/t.kind.block*t.kind.bytes)
	for data := weight.Data; len(data) > 0; {
		n := min(piece, len(data)/2)
		for i := range n {
			values[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:])) << 16)
		}
		encoded := out[:n/t.kind.block*t.kind.bytes]
		t.kind.encode(encoded, values[:n])
		if _, err := w.Write(encoded); err != nil {
			return fmt.Errorf("rivals: writing GGUF: %w", err)
		}
		data = data[2*n:]
	}
	if _, err := w.Write(make([]byte, padded(t.bytes())-t.bytes())); err != nil {
		return fmt.Errorf("rivals: writing GGUF: %w", err)
	}
	return nil
}

func encodeF32(dst []byte, values []float32) {
	for i, v := range values {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(v))
	}
}

// encodeBF16 is exact: the values were bfloat16.
func encodeBF16(dst []byte, values []float32) {
	for i, v := range values {
		binary.LittleEndian.PutUint16(dst[2*i:], uint16(math.Float32bits(v)>>16))
	}
}

func encodeF16(dst []byte, values []float32) {
	for i, v := range values {
		binary.LittleEndian.PutUint16(dst[2*i:], float16(v))
	}
}

// encodeQ8 stores blocks of 32 as a float16 scale and 32 int8, which reach ±127 in every block.
func encodeQ8(dst []byte, values []float32) {
	for ; len(values) > 0; values, dst = values[32:], dst[34:] {
		largest := float32(0)
		for _, v := range values[:32] {
			largest = max(largest, v, -v)
		}
		scale, inverse := largest/127, float32(0)
		if scale != 0 {
			inverse = 1 / scale
		}
		binary.LittleEndian.PutUint16(dst, float16(scale))
		for i, v := range values[:32] {
			dst[2+i] = byte(int8(math.Round(float64(v * inverse))))
		}
	}
}

// float16 rounds to the nearest half, ties to even.
func float16(v float32) uint16 {
	bits := math.Float32bits(v)
	sign := uint16(bits >> 16 & 0x8000)
	size := float64(math.Float32frombits(bits &^ (1 << 31)))
	switch {
	case size != size:
		return sign | 0x7e00
	case size >= 65520: // half way between the largest half and the next power of two
		return sign | 0x7c00
	case size < 1.0/(1<<14): // subnormal: a whole number of 2^-24
		return sign | uint16(math.RoundToEven(size*(1<<24)))
	}
	fraction, exponent := math.Frexp(size) // size = fraction · 2^exponent, fraction in [0.5, 1)
	mantissa := math.RoundToEven(fraction * (1 << 11))
	return sign | uint16((exponent+14)<<10+int(mantissa)-1<<10) // a mantissa that was rounded up to 2^11 carries over
}
