// Package tiny is the built-in model: 4.46 million parameters of Qwen3's architecture, trained for this project on
// arithmetic, questions over short documents and a little small talk. A program that imports it carries 9 MB more,
// unless it is built with -tags notiny: then there is no such model.
package tiny

import (
	"embed"
	"io/fs"

	"github.com/quire-llm/quire/model"
)

// Name is what the model is asked for by.
const Name = "tiny"

//go:embed qwen3/*.json
var files embed.FS

// Provider serves the model as "tiny". Its weights are the program's own bytes: nothing is copied.
type Provider struct{}

// Names is the one name.
func (Provider) Names() []string {
	if weights == nil {
		return nil
	}
	return []string{Name}
}

// Open opens the model if that is its name.
func (Provider) Open(name string) (*model.Checkpoint, error) {
	if name != Name || weights == nil {
		return nil, nil
	}
	return model.NewEmbedded(name, Files(), weights)
}

// Files are the model's JSON files at the root: config.json, generation_config.json, tokenizer.json and
// tokenizer_config.json.
func Files() fs.FS {
	sub, err := fs.Sub(files, "qwen3")
	if err != nil {
		panic(err) // only an invalid path fails
	}
	return sub
}
