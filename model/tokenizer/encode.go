package tokenizer

import "hash/maphash"

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
	e := t.encoders.Get().(*encoder)
	defer t.encoders.Put(e)
	e.ids = dst
	e.encode(text, o)
	dst, e.ids = e.ids, nil
	return dst
}

// encoder encodes one text at a time. It keeps what is worth keeping from one to the next.
type encoder struct {
	*Tokenizer
	ids []int32

	tracks  bool     // offsets are wanted
	offsets []Offset // of ids

	merger merger
	cache  wordCache
}

func (t *Tokenizer) newEncoder() any {
	return &encoder{Tokenizer: t, merger: merger{table: &t.merges}, cache: wordCache{seed: maphash.MakeSeed()}}
}

func (e *encoder) encode(text string, o EncodeOptions) {
	if o.AddBOS {
		for _, id := range e.prefix {
			e.add(match{id: id})
		}
	}
	if o.PlainText {
		e.stretch(text, 0, nil)
		return
	}
	for from := 0; from < len(text); {
		found := e.verbatim.find(text, from)
		e.stretch(text[from:found.start], from, &e.normal)
		e.add(found)
		from = found.end
	}
}

// add adds the added token that was found, if one was.
func (e *encoder) add(found match) {
	if found.id < 0 {
		return
	}
	e.ids = append(e.ids, found.id)
	if e.tracks {
		e.offsets = append(e.offsets, Offset{found.start, found.end})
	}
}

// stretch encodes what lies between added tokens that are looked for verbatim, at a place in the whole text. added, if
// any, are looked for after normalizing.
func (e *encoder) stretch(text string, at int, added *matcher) {
	first := len(e.offsets)
	normal := e.normalize(text)
	for from := 0; from < len(normal); {
		found := added.find(normal, from)
		e.words(normal[from:found.start])
		if e.tracks {
			e.track(from)
		}
		e.add(found)
		from = found.end
	}
	if e.tracks {
		e.align(e.offsets[first:], text, normal, at)
	}
}

// words encodes normalized text without added tokens.
func (e *encoder) words(text string) {
	for len(text) > 0 {
		end := e.splitter.end(text)
		e.word(text[:end])
		text = text[end:]
	}
}

func (e *encoder) word(word string) {
	if len(word) == 1 {
		e.ids = append(e.ids, e.vocab.bytes[word[0]])
		return
	}
	c := e.cache.entry(word)
	if c.is(word) {
		e.ids = append(e.ids, c.tokens()...)
		return
	}
	first := len(e.ids)
	e.ids = e.merge(e.ids, word)
	c.keep(word, e.ids[first:])
}

// merge appends the tokens of a word.
func (e *encoder) merge(dst []int32, word string) []int32 {
	if e.ignoreMerges {
		if id := e.vocab.find(word); id >= 0 {
			return append(dst, id)
		}
	}
	return e.merger.word(dst, word)
}
