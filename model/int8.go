package model

import (
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/quire-llm/quire/kernels"
)

// Weights in int8 are made while a model is loaded: all matrices of products lie in one image in the order of the forward
// pass, as kernels.QuantizeInt8 lays them out. What stays bfloat16 is the embedding table, of which a step reads a few rows,
// the routers, and all vectors. The image of a model can be kept in a file; see imageFile.

// int8Tensors yields the names and shapes of the tensors that products read.
func (c Config) int8Tensors() iter.Seq2[string, []int] {
	return func(yield func(string, []int) bool) {
		for name, shape := range c.Weights() {
			lookup := name == "model.embed_tokens.weight" && !c.TiedHead
			if len(shape) != 2 || lookup || strings.HasSuffix(name, ".mlp.gate.weight") {
				continue
			}
			if !yield(name, shape) {
				return
			}
		}
	}
}

// int8Bytes is the size of the image.
func (c Config) int8Bytes() int64 {
	var n int64
	for _, shape := range c.int8Tensors() {
		n += int64(kernels.Int8Bytes(shape[0], shape[1]))
	}
	return n
}

// ProductBytes is the weights that products of one step read in a format, embedding lookups and vectors left out. Of a mixture of
// experts it is all of them.
func (c Config) ProductBytes(format kernels.Format) int64 {
	n := int64(0)
	if format == kernels.Int8 {
		n = c.int8Bytes()
	}
	replaced := c.replaced(format)
	for name, shape := range c.Weights() {
		lookup := name == "model.embed_tokens.weight" && (!c.TiedHead || format == kernels.Int8)
		if len(shape) == 2 && !lookup && !replaced[name] {
			n += 2 * int64(elements(shape))
		}
	}
	return n
}

// replaced are the tensors that a device does not have in bfloat16 when products read the given format.
func (c Config) replaced(format kernels.Format) map[string]bool {
	names := map[string]bool{}
	if format == kernels.Int8 {
		for name := range c.int8Tensors() {
			names[name] = name != "model.embed_tokens.weight" // which is looked up in bfloat16 as well
		}
	}
	return names
}

// WeightMemory is what the weights take on a device in a format: bytes that are read where the file is mapped, and bytes that
// are copied, rounded, quantized or made up.
func (c *Checkpoint) WeightMemory(format kernels.Format) (mapped, taken int64) {
	if format == kernels.Int8 {
		taken = c.Config.int8Bytes()
	}
	replaced := c.Config.replaced(format)
	for name, t := range c.tensors {
		switch bytes := 2 * int64(elements(t.Shape)); {
		case replaced[name]:
		case t.DType == BF16 && !c.Synthetic:
			mapped += bytes
		default:
			taken += bytes
		}
	}
	return mapped, taken
}

// int8Image is the quantized weights of a model.
type int8Image struct {
	data    []byte
	buffers map[string]kernels.Buffer
}

// loadInt8 fills the model's image, from its file if that is there.
func (w *weights) loadInt8() error {
	ck, o := w.checkpoint, w.model.options
	start := time.Now()
	data, err := reserve(int(ck.Config.int8Bytes()))
	if err != nil {
		return fmt.Errorf("memory for weights in int8: %w: %w", kernels.ErrNoMemory, err)
	}
	w.model.image.data = data
	var file imageFile
	if o.WeightsCache != "" {
		if file, err = newImageFile(o.WeightsCache, ck); err != nil {
			return err
		}
		found, err := file.read(data)
		if err != nil {
			ck.note(fmt.Sprintf("model: ignoring a cache of weights: %v", err))
		}
		if found {
			ck.note(fmt.Sprintf("model: weights in int8 read from %q in %.1f s", file.path, time.Since(start).Seconds()))
			return w.cutImage()
		}
	}
	if err := ck.quantize(data); err != nil {
		return err
	}
	ck.note(fmt.Sprintf("model: weights quantized to int8 in %.1f s", time.Since(start).Seconds()))
	if o.WeightsCache != "" {
		if err := file.write(data); err != nil {
			ck.note(fmt.Sprintf("model: keeping no cache of weights: %v", err))
		}
	}
	return w.cutImage()
}

// cutImage brings the image to the device, tensor by tensor.
func (w *weights) cutImage() error {
	image := &w.model.image
	image.buffers = map[string]kernels.Buffer{}
	data := image.data
	for name, shape := range w.model.Config.int8Tensors() {
		n := kernels.Int8Bytes(shape[0], shape[1])
		b, err := w.model.device.Upload(data[:n])
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		image.buffers[name] = b
		w.model.uploads = append(w.model.uploads, b)
		data = data[n:]
	}
	return nil
}

// quantize writes the image of the checkpoint's weights.
func (c *Checkpoint) quantize(image []byte) error {
	for name, shape := range c.Config.int8Tensors() {
		n := kernels.Int8Bytes(shape[0], shape[1])
		t, release, err := c.borrow(name, shape...)
		if err != nil {
			return err
		}
		err = kernels.QuantizeInt8(image[:n], t.Data, shape[0], shape[1])
		release()
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		image = image[n:]
	}
	return nil
}

// borrow is the named tensor in bfloat16, as Weight has it, for a short time: memory for it goes back with release, also the
// pages of a mapped file.
func (c *Checkpoint) borrow(name string, shape ...int) (t Tensor, release func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.made[name]; ok || c.tensors[name].DType == BF16 && c.fill == nil {
		if !ok {
			t, err = c.weight(name, shape...)
		}
		return t, func() {
			if c.mapped && !ok {
				dropPages(t.Data)
			}
		}, err
	}
	made, memory := c.made, c.memory
	c.made, c.memory = nil, arena{}
	t, err = c.weight(name, shape...)
	short := c.memory
	c.made, c.memory = made, memory
	return t, func() { short.release() }, err
}

// note tells Log of what a user should know.
func (c *Checkpoint) note(line string) {
	if c.Log != nil {
		c.Log(line)
	}
}

// product is matrix in the format that the model's products read.
func (w *weights) product(cols int, tensors ...tensorRows) kernels.Weight {
	if w.model.options.Weights != kernels.Int8 {
		return w.matrix(cols, tensors...)
	}
	weight := kernels.Weight{Format: kernels.Int8, Cols: cols, Parts: make([]kernels.Part, len(tensors))}
	for i, t := range tensors {
		weight.Rows += t.rows
		weight.Parts[i] = kernels.Part{Rows: t.rows, Data: w.model.image.buffers[t.name+".weight"]}
		if t.bias {
			weight.Parts[i].Bias = w.upload(t.name+".bias", t.rows)
		}
	}
	return weight
}
