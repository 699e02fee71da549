package tokenizer

import (
	"errors"
	"fmt"
	"strings"
)

// unsupported refuses a tokenizer, saying what is not supported and what is.
func unsupported(format string, args ...any) error {
	return fmt.Errorf("tokenizer: %s: supported are the byte-level BPE tokenizers of Qwen2, Qwen2.5, Qwen3 and Llama 3: %w",
		fmt.Sprintf(format, args...), errors.ErrUnsupported)
}

// setPipeline checks that every part of the pipeline is one that this package knows.
func (t *Tokenizer) setPipeline(f *file) error {
	switch {
	case f.Type != "BPE":
		return unsupported("model type %q", f.Type)
	case f.Dropout != 0:
		return unsupported("BPE with dropout %v", f.Dropout)
	case f.Prefix != "" || f.Suffix != "":
		return unsupported("BPE with subword prefix %q and suffix %q", f.Prefix, f.Suffix)
	case f.ByteFallback:
		return unsupported("BPE with byte fallback")
	}
	t.ignoreMerges = f.IgnoreMerges

	for _, n := range flatten(f.Normalizer, func(c *component) []component { return c.Normalizers }) {
		if n.Type != "NFC" {
			return unsupported("normalizer %q", n.Type)
		}
		t.nfc = true
	}

	pre := flatten(f.PreTokenizer, func(c *component) []component { return c.PreTokenizers })
	if len(pre) != 2 || pre[0].Type != "Split" || !pre[1].isByteLevel() {
		return unsupported("pre-tokenizer %q", types(pre))
	}
	split := pre[0]
	switch split.Pattern.Regex {
	case qwenPattern:
		t.splitter.digits = 1
	case llamaPattern:
		t.splitter.digits = 3
	default:
		return unsupported("pre-tokenizer pattern %q", split.Pattern.Regex)
	}
	if split.Behavior != "Isolated" || split.Invert {
		return unsupported("pre-tokenizer behavior %q, invert %v", split.Behavior, split.Invert)
	}
	if f.Decoder == nil {
		return unsupported("no decoder")
	}
	if f.Decoder.Type != "ByteLevel" {
		return unsupported("decoder %q", f.Decoder.Type)
	}
	t.splitter.classes = newClasses()
	return nil
}

// setPrefix reads what the post-processor puts before a text.
func (t *Tokenizer) setPrefix(f *file) error {
	for _, p := range flatten(f.PostProcessor, func(c *component) []component { return c.Processors }) {
		switch p.Type {
		case "ByteLevel": // only trims offsets
		case "TemplateProcessing":
			if len(p.Single) == 0 || p.Single[len(p.Single)-1].Sequence == nil {
				return unsupported("post-processor that puts tokens after the text")
			}
			for _, piece := range p.Single[:len(p.Single)-1] {
				if piece.SpecialToken == nil {
					return unsupported("post-processor that repeats the text")
				}
				ids := p.SpecialTokens[piece.SpecialToken.ID].IDs
				for _, id := range ids {
					if t.vocab.kind(id) == kindAbsent {
						return fmt.Errorf("tokenizer: post-processor puts token id %d before the text, which no token has", id)
					}
				}
				t.prefix = append(t.prefix, ids...)
			}
			if len(t.prefix) > 0 {
				t.bos = t.prefix[0]
			}
		default:
			return unsupported("post-processor %q", p.Type)
		}
	}
	return nil
}

// component is a normalizer, pre-tokenizer, post-processor or decoder: what the supported ones among them hold.
type component struct {
	Type           string      `json:"type"`
	Normalizers    []component `json:"normalizers"`
	PreTokenizers  []component `json:"pretokenizers"`
	Processors     []component `json:"processors"`
	Pattern        struct{ Regex string }
	Behavior       string `json:"behavior"`
	Invert         bool   `json:"invert"`
	AddPrefixSpace *bool  `json:"add_prefix_space"`
	UseRegex       *bool  `json:"use_regex"`
	Single         []struct {
		SpecialToken *struct {
			ID string `json:"id"`
		}
		Sequence *struct{}
	} `json:"single"`
	SpecialTokens map[string]struct {
		IDs []int32 `json:"ids"`
	} `json:"special_tokens"`
}

// isByteLevel tells whether c maps bytes to runes and does nothing else.
func (c *component) isByteLevel() bool {
	return c.Type == "ByteLevel" && c.AddPrefixSpace != nil && !*c.AddPrefixSpace && c.UseRegex != nil && !*c.UseRegex
}

// flatten lists c, or its parts if it is a Sequence.
func flatten(c *component, parts func(*component) []component) []component {
	switch {
	case c == nil:
		return nil
	case c.Type == "Sequence":
		return parts(c)
	}
	return []component{*c}
}

func types(list []component) string {
	var names []string
	for _, c := range list {
		names = append(names, c.Type)
	}
	return strings.Join(names, " and ")
}
