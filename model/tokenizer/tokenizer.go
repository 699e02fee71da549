// Package tokenizer turns text into token ids and back: byte-level BPE as the Qwen2, Qwen2.5, Qwen3 and Llama 3
// families use it, read from Hugging Face's tokenizer.json, with the same ids as the reference implementation.
//
// A text goes through five steps. Added tokens (<|im_start|> and the like) are cut out, longest first. What lies
// between them is brought into Unicode's normal form C if the tokenizer asks for it, cut into words by the family's
// pattern, and each word's bytes are merged in order of rank. Added tokens that ask for normalized text are cut out
// after the second step.
//
// A Tokenizer does not change once it is made: any number of goroutines may use it. A Stream has one user.
package tokenizer

import "sync"

// Tokenizer encodes and decodes. Load and Parse make one.
type Tokenizer struct {
	vocab    vocabulary
	merges   mergeTable
	splitter splitter
	encoders sync.Pool // of *encoder
	verbatim matcher   // added tokens looked for in the text as it came
	normal   matcher   // added tokens looked for in the normalized text

	nfc          bool    // the text is normalized
	ignoreMerges bool    // a word that is a token becomes that token, whatever the merges say
	prefix       []int32 // what the post-processor puts before a text: Llama 3's BOS
	firstAdded   int32   // smallest id of an added token
	bos, eos     int32   // -1 if there is none
	chatTemplate string
}

// Vocab returns the largest token id plus one, added tokens included.
func (t *Tokenizer) Vocab() int { return len(t.vocab.kinds) }

// OrdinaryVocab returns how many ids lie below the first added token. Where there are no added tokens it is Vocab.
func (t *Tokenizer) OrdinaryVocab() int { return int(t.firstAdded) }

// ID finds a token by its spelling in tokenizer.json, where "Ġthe" is " the".
func (t *Tokenizer) ID(token string) (int32, bool) { return t.vocab.id(token) }

// Token gives a token's spelling in tokenizer.json; Decode gives its text. False says that no token has the id.
func (t *Tokenizer) Token(id int32) (string, bool) { return t.vocab.spelling(id) }

// IsSpecial tells whether the id is that of an added token marked as special, which DecodeOptions.SkipSpecial drops.
func (t *Tokenizer) IsSpecial(id int32) bool { return t.vocab.isSpecial(id) }

// BOS returns the token that begins a text: tokenizer_config.json's bos_token, or else the one that tokenizer.json
// itself puts there. Qwen has none.
func (t *Tokenizer) BOS() (int32, bool) { return t.bos, t.bos >= 0 }

// EOS returns the token that ends a text or a turn: tokenizer_config.json's eos_token.
func (t *Tokenizer) EOS() (int32, bool) { return t.eos, t.eos >= 0 }

// ChatTemplate returns the source of the Jinja template that lays out a dialogue, or "".
func (t *Tokenizer) ChatTemplate() string { return t.chatTemplate }
