package tokenizer

import (
	"encoding/json"
	"fmt"
)

// file is tokenizer.json.
type file struct {
	AddedTokens   []addedToken
	Normalizer    *component
	PreTokenizer  *component
	PostProcessor *component
	Decoder       *component

	// The parts of "model".
	Type         string
	Dropout      float64
	Prefix       string
	Suffix       string
	ByteFallback bool
	IgnoreMerges bool
	Vocab        []byte // not read yet
	Merges       []byte // not read yet
}

// parse reads data, all but the vocabulary and the merges.
func (f *file) parse(data []byte) error {
	r := reader{data: data}
	model := map[string]any{
		"type":                      &f.Type,
		"dropout":                   &f.Dropout,
		"continuing_subword_prefix": &f.Prefix,
		"end_of_word_suffix":        &f.Suffix,
		"byte_fallback":             &f.ByteFallback,
		"ignore_merges":             &f.IgnoreMerges,
		"vocab":                     (*rawPart)(&f.Vocab),
		"merges":                    (*rawPart)(&f.Merges),
	}
	top := map[string]any{
		"added_tokens":   &f.AddedTokens,
		"normalizer":     &f.Normalizer,
		"pre_tokenizer":  &f.PreTokenizer,
		"post_processor": &f.PostProcessor,
		"decoder":        &f.Decoder,
		"model":          model,
	}
	if err := r.parts(top); err != nil {
		return err
	}
	if r.peek(); r.at < len(data) {
		return r.fail("nothing more")
	}
	return nil
}

// rawPart is a value kept as it is.
type rawPart []byte

// parts reads an object whose values go where into says by key: a map for an object of the same sort. Other keys are
// skipped.
func (r *reader) parts(into map[string]any) error {
	return r.object(func(key []byte) error {
		to := into[string(key)]
		if inner, ok := to.(map[string]any); ok {
			return r.parts(inner)
		}
		name := string(key)
		value, err := r.skip()
		if err != nil || to == nil {
			return err
		}
		if raw, ok := to.(*rawPart); ok {
			*raw = value
			return nil
		}
		if err := json.Unmarshal(value, to); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}
