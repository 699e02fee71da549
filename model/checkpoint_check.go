package model

import (
	"fmt"
	"slices"
	"strings"
)

// CheckShapes compares the tensors with what the config implies, and reports all that are missing, that have another
// shape or a type that cannot be loaded, or that a layer has and the config does not know, at once. Tensors outside the
// layers (a head beside a tied embedding) and the rotary frequencies that old files store are ignored.
func (c *Checkpoint) CheckShapes() error {
	const enough = 1000 // a config that lies about layers or experts must not cost a list of millions
	var missing, wrong []string
	known := make(map[string]bool, len(c.tensors))
	var unloadable error
	for name, shape := range c.Config.Weights() {
		t, ok := c.tensors[name]
		known[name] = true
		switch {
		case !ok:
			missing = append(missing, name)
		case !slices.Equal(t.Shape, shape):
			wrong = append(wrong, shapeProblem(t, shape).Error())
		case !t.DType.loadable() && unloadable == nil:
			unloadable = unloadableError(c.Name, t)
		}
		if len(missing)+len(wrong) == enough {
			break
		}
	}
	var problems []error
	if len(wrong) > 0 {
		problems = append(problems, fmt.Errorf("%s", firstFew(wrong)))
	}
	if len(missing) > 0 {
		problems = append(problems, fmt.Errorf("config.json wants tensors that are missing: %s", firstFew(missing)))
	}
	if unknown := c.unknownTensors(known); len(unknown) > 0 && len(missing)+len(wrong) < enough {
		problems = append(problems, fmt.Errorf("the layers have tensors that config.json does not account for: %s", firstFew(quoted(unknown))))
	}
	if unloadable != nil {
		if len(problems) == 0 {
			return unloadable
		}
		problems = append(problems, unloadable)
	}
	if len(problems) == 0 {
		return nil
	}
	return &InvalidError{File: c.Name, Problems: problems, Advice: "config.json and the weights are not of the same model, or not of a kind that is supported: download both again"}
}

// unknownTensors are those of a layer that the config has, but not of a name that it implies: to ignore a bias or a scale
// would give fluent nonsense.
func (c *Checkpoint) unknownTensors(known map[string]bool) []string {
	var unknown []string
	for _, name := range c.Names() {
		rest, inLayer := strings.CutPrefix(name, "model.layers.")
		if known[name] || !inLayer || strings.HasSuffix(name, ".rotary_emb.inv_freq") {
			continue
		}
		var layer int
		if n, _ := fmt.Sscanf(rest, "%d.", &layer); n == 1 && layer < c.Config.Layers {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

func unloadableError(file string, t Tensor) error {
	return &UnsupportedError{File: file, What: fmt.Sprintf("tensor %q of dtype", t.Name), Found: string(t.DType), Supported: []string{string(BF16), string(F16), string(F32)}}
}

func shapeProblem(t Tensor, want []int) error {
	return fmt.Errorf("tensor %q has shape %v, config.json wants %v", t.Name, t.Shape, want)
}

// NonFinite counts a tensor's values that are no numbers.
type NonFinite struct {
	Tensor   string
	NaN, Inf int
	Values   int // of the tensor
}

// CheckFinite reads all stored tensors of loadable types and lists those with values that are NaN or infinite, or become
// so when they are rounded to bfloat16. progress, if not nil, is called after each tensor with the bytes read so far.
func (c *Checkpoint) CheckFinite(progress func(done, total int64)) ([]NonFinite, error) {
	var total, done int64
	for _, t := range c.tensors {
		total += int64(elements(t.Shape) * t.DType.bits() / 8)
	}
	var bad []NonFinite
	for _, name := range c.Names() {
		t, err := c.Tensor(name)
		if err != nil {
			return nil, err
		}
		if n := countNonFinite(t); n.NaN+n.Inf > 0 {
			bad = append(bad, n)
		}
		done += int64(len(t.Data))
		if progress != nil {
			progress(done, total)
		}
	}
	return bad, nil
}
