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
	if o.PlainText {
		return t.encodePlain(dst, text, true)
	}
	from := 0
	for {
		id, start, end, ok := t.verbatim.find(text, from)
		if !ok {
			return t.encodePlain(dst, text[from:], false)
		}
		dst = t.encodePlain(dst, text[from:start], false)
		dst = append(dst, id)
		from = end
	}
}

// encodePlain encodes a stretch between added tokens.
func (t *Tokenizer) encodePlain(dst []int32, text string, plain bool) []int32 {
	text = valid(text)
	if t.nfc {
		text = nfc(text)
	}
	if plain {
		return t.encodeWords(dst, text)
	}
	from := 0
	for {
		id, start, end, ok := t.normal.find(text, from)
		if !ok {
			return t.encodeWords(dst, text[from:])
		}
		dst = t.encodeWords(dst, text[from:start])
		dst = append(dst, id)
		from = end
	}
}

// encodeWords encodes normalized text without added tokens.
func (t *Tokenizer) encodeWords(dst []int32, text string) []int32 {
	for i := 0; i < len(text); {
		end := t.splitter.end(text, i)
		word := text[i:end]
		i = end
		if id, ok := t.vocab.find([]byte(word)); ok && t.ignoreMerges {
			dst = append(dst, id)
			continue
		}
		dst = t.mergeWord(dst, word)
	}
	return dst
}
