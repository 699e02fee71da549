package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Load reads tokenizer.json from the root of fsys, and tokenizer_config.json and chat_template.jinja if they are there.
func Load(fsys fs.FS) (*Tokenizer, error) {
	data, err := fs.ReadFile(fsys, "tokenizer.json")
	if err != nil {
		return nil, fmt.Errorf("tokenizer: reading tokenizer.json: %w", err)
	}
	config, err := fs.ReadFile(fsys, "tokenizer_config.json")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("tokenizer: reading tokenizer_config.json: %w", err)
	}
	t, err := Parse(data, config)
	if err != nil {
		return nil, err
	}
	template, err := fs.ReadFile(fsys, "chat_template.jinja")
	switch {
	case err == nil:
		t.chatTemplate = string(template)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("tokenizer: reading chat_template.jinja: %w", err)
	}
	return t, nil
}

// Parse makes a tokenizer of the contents of tokenizer.json and tokenizer_config.json; the second may be nil. A kind of
// tokenizer that is not supported gives an error that matches errors.ErrUnsupported.
func Parse(tokenizerJSON, tokenizerConfigJSON []byte) (*Tokenizer, error) {
	var f file
	if err := json.Unmarshal(tokenizerJSON, &f); err != nil {
		return nil, fmt.Errorf("tokenizer: reading tokenizer.json: %w", err)
	}
	t := &Tokenizer{bos: -1, eos: -1}
	t.vocab.ids = make(map[string]int32, len(f.Model.Vocab))
	t.vocab.others = map[string]int32{}
	for _, step := range []func(*file) error{t.setPipeline, t.setVocabulary, t.setMerges, t.setAdded, t.setPrefix} {
		if err := step(&f); err != nil {
			return nil, err
		}
	}
	if tokenizerConfigJSON != nil {
		if err := t.setConfig(tokenizerConfigJSON); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// file is tokenizer.json.
type file struct {
	AddedTokens   []addedToken `json:"added_tokens"`
	Normalizer    *component   `json:"normalizer"`
	PreTokenizer  *component   `json:"pre_tokenizer"`
	PostProcessor *component   `json:"post_processor"`
	Decoder       *component   `json:"decoder"`
	Model         struct {
		Type         string           `json:"type"`
		Dropout      float64          `json:"dropout"`
		Prefix       string           `json:"continuing_subword_prefix"`
		Suffix       string           `json:"end_of_word_suffix"`
		ByteFallback bool             `json:"byte_fallback"`
		IgnoreMerges bool             `json:"ignore_merges"`
		Vocab        map[string]int32 `json:"vocab"`
		Merges       []pair           `json:"merges"`
	} `json:"model"`
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

// pair is a merge: ["a", "b"], or "a b" in older files.
type pair [2]string

func (p *pair) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		var parts []string
		if err := json.Unmarshal(data, &parts); err != nil {
			return err
		}
		if len(parts) != 2 {
			return fmt.Errorf("merge %s is not of two tokens", data)
		}
		*p = pair(parts)
		return nil
	}
	var line string
	if err := json.Unmarshal(data, &line); err != nil {
		return err
	}
	left, right, ok := strings.Cut(line, " ")
	if !ok || strings.Contains(right, " ") {
		return fmt.Errorf("merge %q is not of two tokens", line)
	}
	*p = pair{left, right}
	return nil
}

// unsupported refuses a tokenizer, saying what is not supported and what is.
func unsupported(format string, args ...any) error {
	return fmt.Errorf("tokenizer: %s: supported are the byte-level BPE tokenizers of Qwen2, Qwen2.5, Qwen3 and Llama 3: %w",
		fmt.Sprintf(format, args...), errors.ErrUnsupported)
}

// setPipeline checks that every part of the pipeline is one that this package knows.
func (t *Tokenizer) setPipeline(f *file) error {
	m := &f.Model
	switch {
	case m.Type != "BPE":
		return unsupported("model type %q", m.Type)
	case m.Dropout != 0:
		return unsupported("BPE with dropout %v", m.Dropout)
	case m.Prefix != "" || m.Suffix != "":
		return unsupported("BPE with subword prefix %q and suffix %q", m.Prefix, m.Suffix)
	case m.ByteFallback:
		return unsupported("BPE with byte fallback")
	}
	t.ignoreMerges = m.IgnoreMerges

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
	if f.Decoder == nil || f.Decoder.Type != "ByteLevel" {
		return unsupported("decoder %q", types(flatten(f.Decoder, nil)))
	}
	return nil
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
	case c.Type == "Sequence" && parts != nil:
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

func (t *Tokenizer) setVocabulary(f *file) error {
	for token, id := range f.Model.Vocab {
		if err := t.vocab.addOrdinary(token, id); err != nil {
			return err
		}
	}
	for b := range t.vocab.bytes {
		id, ok := t.vocab.find([]byte{byte(b)})
		if !ok {
			return fmt.Errorf("tokenizer: the vocabulary has no token for byte %#02x, %q", b, runeOfByte(byte(b)))
		}
		t.vocab.bytes[b] = id
	}
	return nil
}

func (t *Tokenizer) setMerges(f *file) error {
	merges := f.Model.Merges
	if len(merges) > maxMerges {
		return fmt.Errorf("tokenizer: %d merges; there may be %d", len(merges), maxMerges)
	}
	t.merges.ranks = make(map[[2]int32]uint32, len(merges))
	t.merges.into = make([]int32, len(merges))
	for rank, p := range merges {
		var ids [3]int32
		for i, token := range []string{p[0], p[1], p[0] + p[1]} {
			id, ok := t.vocab.id(token)
			if !ok {
				return fmt.Errorf("tokenizer: merge %d of %q and %q: the vocabulary has no %q", rank, p[0], p[1], token)
			}
			ids[i] = id
		}
		t.merges.ranks[[2]int32{ids[0], ids[1]}] = uint32(rank)
		t.merges.into[rank] = ids[2]
	}
	return nil
}

func (t *Tokenizer) setAdded(f *file) error {
	t.firstAdded = int32(t.Vocab())
	for _, a := range f.AddedTokens {
		if err := t.add(a); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tokenizer) add(a addedToken) error {
	if a.Content == "" {
		return nil // as the reference
	}
	if err := t.vocab.addAdded(a.Content, a.ID, a.Special); err != nil {
		return err
	}
	t.firstAdded = min(t.firstAdded, a.ID)
	if a.Normalized && t.nfc {
		a.Content = nfc(valid(a.Content))
		t.normal.add(a)
	} else {
		t.verbatim.add(a)
	}
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

// setConfig reads tokenizer_config.json.
func (t *Tokenizer) setConfig(data []byte) error {
	var c struct {
		BOS      tokenName            `json:"bos_token"`
		EOS      tokenName            `json:"eos_token"`
		Template chatTemplate         `json:"chat_template"`
		Added    map[int32]addedToken `json:"added_tokens_decoder"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("tokenizer: reading tokenizer_config.json: %w", err)
	}
	var ids []int32
	for id := range c.Added {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		a := c.Added[id]
		a.ID = id
		if _, ok := t.ID(a.Content); ok {
			continue // tokenizer.json has it, and its flags count
		}
		if err := t.add(a); err != nil {
			return err
		}
	}
	if id, ok := t.ID(string(c.BOS)); ok {
		t.bos = id
	}
	if id, ok := t.ID(string(c.EOS)); ok {
		t.eos = id
	}
	t.chatTemplate = string(c.Template)
	return nil
}

// tokenName is a token in tokenizer_config.json: its text, or an object with its text, or null.
type tokenName string

func (n *tokenName) UnmarshalJSON(data []byte) error {
	if data[0] == '{' {
		var object struct {
			Content string `json:"content"`
		}
		err := json.Unmarshal(data, &object)
		*n = tokenName(object.Content)
		return err
	}
	return json.Unmarshal(data, (*string)(n))
}

// chatTemplate is a template in tokenizer_config.json: its source, or a list of named ones, of which the one named
// "default" counts.
type chatTemplate string

func (c *chatTemplate) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		var list []struct{ Name, Template string }
		err := json.Unmarshal(data, &list)
		for _, named := range list {
			if named.Name == "default" {
				*c = chatTemplate(named.Template)
			}
		}
		return err
	}
	return json.Unmarshal(data, (*string)(c))
}
