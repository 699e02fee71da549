package tokenizer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"unicode/utf8"
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

// maxFileBytes keeps the place of a token among all tokens' bytes within 32 bits.
const maxFileBytes = 1 << 30

// Parse makes a tokenizer of the contents of tokenizer.json and tokenizer_config.json; the second may be nil. A kind of
// tokenizer that is not supported gives an error that matches errors.ErrUnsupported. Truncation and padding, which a file
// may ask for, are not done.
func Parse(tokenizerJSON, tokenizerConfigJSON []byte) (*Tokenizer, error) {
	if max(len(tokenizerJSON), len(tokenizerConfigJSON)) > maxFileBytes {
		return nil, fmt.Errorf("tokenizer: reading tokenizer.json: larger than %d bytes", maxFileBytes)
	}
	var f file
	if err := f.parse(tokenizerJSON); err != nil {
		return nil, fmt.Errorf("tokenizer: reading tokenizer.json: %w", err)
	}
	t := &Tokenizer{bos: -1, eos: -1}
	t.encoders.New = t.newEncoder
	steps := []func(*file) error{t.setPipeline, t.setVocabulary, t.setMerges, t.setAdded, t.setPrefix}
	for _, step := range steps {
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

// setVocabulary reads the vocabulary: an object of ids by spelling.
func (t *Tokenizer) setVocabulary(f *file) error {
	v := &t.vocab
	v.reserve(len(f.Vocab) / 16) // a token and its id take that much, or more
	r := reader{data: f.Vocab}
	var bytes []byte
	err := r.object(func(token []byte) error {
		var spells bool
		var raw string
		if bytes, spells = appendUnspelled(bytes[:0], token); !spells {
			raw = string(token)
		}
		id, err := r.id()
		switch {
		case err != nil:
			return err
		case spells:
			return v.addBytes(id, bytes)
		case !utf8.ValidString(raw):
			return fmt.Errorf("token %q is not valid UTF-8", raw)
		}
		return v.addText(id, raw)
	})
	if err == nil {
		err = v.index()
	}
	if err != nil {
		return fmt.Errorf("tokenizer: reading tokenizer.json: vocab: %w", err)
	}
	return nil
}

// setMerges reads the merges, lowest rank first.
func (t *Tokenizer) setMerges(f *file) error {
	merges := make([]merge, 0, t.Vocab()) // one makes a token, most often
	var scratch [2][]byte
	var joined []byte
	last := int32(-1)
	r := reader{data: f.Merges}
	err := r.array(func() error {
		left, right, err := r.pair(&scratch)
		if err != nil {
			return err
		}
		if len(merges) == maxMerges {
			return fmt.Errorf("there are more than %d", maxMerges)
		}
		var spellsLeft, spellsRight bool
		joined, spellsLeft = appendUnspelled(joined[:0], left)
		leftBytes := len(joined)
		joined, spellsRight = appendUnspelled(joined, right)
		m := noMerge // what spells no bytes never meets
		if spellsLeft && spellsRight {
			m.left = t.vocab.find(string(joined[:leftBytes]))
			m.right = t.vocab.find(string(joined[leftBytes:]))
			m.into = t.vocab.findNear(last+1, joined)
			last = m.into
			if m.left < 0 || m.right < 0 || m.into < 0 {
				return fmt.Errorf("the vocabulary lacks %q, %q or %q together", left, right, string(left)+string(right))
			}
		}
		merges = append(merges, m)
		return nil
	})
	if err != nil {
		return fmt.Errorf("tokenizer: reading tokenizer.json: merges: %w", err)
	}
	t.merges = newMergeTable(merges, &t.vocab.bytes)
	return nil
}

// pair reads a merge: ["a", "b"], or "a b" in older files.
func (r *reader) pair(scratch *[2][]byte) (left, right []byte, err error) {
	if r.peek() == '"' {
		text, err := r.text(&scratch[0])
		left, right, ok := bytes.Cut(text, []byte(" "))
		if err == nil && (!ok || bytes.IndexByte(right, ' ') >= 0) {
			err = fmt.Errorf("merge %q is not of two tokens", text)
		}
		return left, right, err
	}
	if err := r.take('['); err != nil {
		return nil, nil, err
	}
	if left, err = r.text(&scratch[0]); err != nil {
		return nil, nil, err
	}
	if err := r.take(','); err != nil {
		return nil, nil, err
	}
	if right, err = r.text(&scratch[1]); err != nil {
		return nil, nil, err
	}
	return left, right, r.take(']')
}

// setAdded adds the added tokens.
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
	if err := t.vocab.addAdded(int(a.ID), a.Content, a.Special); err != nil {
		return fmt.Errorf("tokenizer: adding token %q: %w", a.Content, err)
	}
	t.firstAdded = min(t.firstAdded, a.ID)
	if !a.Normalized {
		t.verbatim.add(a)
		return nil
	}
	a.Content = t.normalize(a.Content)
	t.normal.add(a)
	return nil
}
