// Package synthetic makes models of Qwen3's true shapes with made-up weights, for measuring speed and memory where no real
// checkpoint is at hand. Their text means nothing.
package synthetic

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/quire-llm/quire/model"
	"github.com/quire-llm/quire/model/tiny"
)

const prefix = "synthetic:"

// shape is what tells the sizes of the dense Qwen3 models apart.
type shape struct {
	size                                         string
	hidden, intermediate, layers, heads, kvHeads int
	tiedHead                                     bool
}

// shapes lists the sizes as their makers published them.
func shapes() []shape {
	return []shape{
		{"qwen3-0.6b", 1024, 3072, 28, 16, 8, true},
		{"qwen3-1.7b", 2048, 6144, 28, 16, 8, true},
		{"qwen3-4b", 2560, 9728, 36, 32, 8, true},
		{"qwen3-8b", 4096, 12288, 36, 32, 8, false},
	}
}

// Provider serves synthetic:qwen3-0.6b, -1.7b, -4b and -8b; synthetic:qwen3-0.6b:layers=2 has the first two layers only.
// The same name gives the same bytes on every machine. Open makes no weights: each tensor is made when it is first asked
// for, so Checkpoint.WeightBytes can be checked against memory before.
type Provider struct{}

// Names lists the sizes.
func (Provider) Names() []string {
	var names []string
	for _, s := range shapes() {
		names = append(names, prefix+s.size)
	}
	return names
}

// Open opens the named model. A size that there is not is none of this provider's names; an option that makes no sense
// is a model.InvalidError.
func (Provider) Open(name string) (*model.Checkpoint, error) {
	size, options, _ := strings.Cut(strings.TrimPrefix(strings.ToLower(name), prefix), ":")
	for _, s := range shapes() {
		if strings.HasPrefix(strings.ToLower(name), prefix) && s.size == size {
			return open(s, name, options)
		}
	}
	return nil, nil
}

func open(s shape, name, options string) (*model.Checkpoint, error) {
	canonical := prefix + s.size
	if options != "" {
		text, isLayers := strings.CutPrefix(options, "layers=")
		n, err := strconv.Atoi(text)
		if !isLayers || err != nil || n < 1 || n > s.layers {
			return nil, &model.InvalidError{
				File:     name,
				Problems: []error{fmt.Errorf("option %q, want layers=N with N from 1 to %d", options, s.layers)},
				Advice:   "say for example " + canonical + ":layers=4",
			}
		}
		s.layers = n
		canonical += ":layers=" + strconv.Itoa(n)
	}
	config, err := s.config()
	if err != nil {
		return nil, err
	}
	files := tokenizerFiles{tiny.Files()}
	return model.NewGenerated(canonical, config, func(tensor string, dst []byte) { fill(dst, tensor, config) }, files), nil
}

// config is Qwen3's, with the special tokens of tiny's tokenizer.
func (s shape) config() (model.Config, error) {
	configJSON, err := fs.ReadFile(tiny.Files(), "config.json")
	if err != nil {
		return model.Config{}, err
	}
	generationJSON, err := fs.ReadFile(tiny.Files(), "generation_config.json")
	if err != nil {
		return model.Config{}, err
	}
	config, _, err := model.ParseConfig(configJSON, generationJSON)
	if err != nil {
		return model.Config{}, err
	}
	config.Layers, config.Hidden, config.Intermediate = s.layers, s.hidden, s.intermediate
	config.Heads, config.KVHeads, config.HeadDim = s.heads, s.kvHeads, 128
	config.TiedHead, config.Vocab, config.MaxPositions = s.tiedHead, 151_936, 40_960
	return config, nil
}

// tokenizerFiles hides tiny's configuration, which is not this model's.
type tokenizerFiles struct{ tiny fs.FS }

func (f tokenizerFiles) Open(name string) (fs.File, error) {
	if !strings.HasPrefix(name, "tokenizer") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return f.tiny.Open(name)
}
