package tokenizer

// EncodeOptions says how to read a text. The zero value recognizes added tokens and adds nothing.
type EncodeOptions struct {
	// PlainText takes the text for text: what looks like an added token, special or not, is encoded letter by letter.
	// For text from people who are not trusted to write <|im_start|>.
	PlainText bool

	// AddBOS puts before the text what the tokenizer itself puts there: Llama 3's <|begin_of_text|>, nothing for Qwen.
	AddBOS bool
}

// Encode appends the tokens of text to dst; added tokens in it are recognized. A byte that is not part of valid UTF-8
// counts as U+FFFD.
func (t *Tokenizer) Encode(dst []int32, text string) []int32 {
	return t.EncodeWith(dst, text, EncodeOptions{})
}

// EncodeWith is Encode with options.
func (t *Tokenizer) EncodeWith(dst []int32, text string, o EncodeOptions) []int32 {
	if o.AddBOS {
		dst = append(dst, t.prefix...)
	}
	m := t.mergers.Get().(*merger)
	defer t.mergers.Put(m)
	if o.PlainText {
		return t.appendWords(dst, t.normalize(text), m)
	}
	for from := 0; from < len(text); {
		found := t.verbatim.find(text, from)
		dst = t.appendNormal(dst, t.normalize(text[from:found.start]), m)
		dst = found.appendID(dst)
		from = found.end
	}
	return dst
}

// appendNormal appends the tokens of normalized text between added tokens that are looked for verbatim.
func (t *Tokenizer) appendNormal(dst []int32, text string, m *merger) []int32 {
	for from := 0; from < len(text); {
		found := t.normal.find(text, from)
		dst = t.appendWords(dst, text[from:found.start], m)
		dst = found.appendID(dst)
		from = found.end
	}
	return dst
}

// appendWords appends the tokens of normalized text without added tokens.
func (t *Tokenizer) appendWords(dst []int32, text string, m *merger) []int32 {
	for len(text) > 0 {
		end := t.splitter.end(text)
		dst = t.appendWord(dst, text[:end], m)
		text = text[end:]
	}
	return dst
}

// appendWord appends the tokens of one word. Most words are tokens, and most tokens are what merging their bytes gives;
// which, is found out when a token is first seen.
func (t *Tokenizer) appendWord(dst []int32, word string, m *merger) []int32 {
	if len(word) == 1 {
		return append(dst, t.vocab.bytes[word[0]])
	}
	id := t.vocab.find(word)
	if id < 0 {
		return m.word(dst, word, &t.vocab.bytes, &t.merges)
	}
	switch t.whole.get(id) {
	case yes:
		return append(dst, id)
	case no:
		return m.word(dst, word, &t.vocab.bytes, &t.merges)
	}
	from := len(dst)
	dst = m.word(dst, word, &t.vocab.bytes, &t.merges)
	t.whole.set(id, len(dst) == from+1 && dst[from] == id)
	return dst
}
