package suite

import (
	"hash/fnv"
	"strings"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/model/chat"
	"github.com/quire-llm/quire/model/tokenizer"
)

// text is a model's own way from words to tokens.
type text struct {
	tokens *tokenizer.Tokenizer
	chat   *chat.Template // nil: it has none that can be used
}

// useTokenizer lets texts go through the model's tokenizer and chat template.
func (p *Prompts) useTokenizer(t *tokenizer.Tokenizer) {
	p.text = &text{tokens: t}
	if template, err := chat.Parse(t.ChatTemplate()); err == nil {
		p.text.chat = template
	}
}

// Chunks is a prompt of a system text, contexts and a question, cut where each of them begins. The chunks are those of the
// chat that the model's template makes of it: the first ends where the user begins to speak, the last holds what asks for
// the answer. A model without such a template gets the texts alone, one without a tokenizer an id for each word.
func (p *Prompts) Chunks(system string, contexts []string, query string) []engine.Chunk {
	const gap = "\n\n"
	head, tail := system+gap, ""
	if p.text != nil && p.text.chat != nil {
		user := strings.Join(append(contexts[:len(contexts):len(contexts)], query), gap)
		whole, err := p.text.chat.Render(chat.New(chat.Turn{Role: "system", Content: system}, chat.Turn{Role: "user", Content: user}))
		if before, after, found := strings.Cut(whole, user); err == nil && found {
			head, tail = before, after
		}
	}
	chunks := []engine.Chunk{p.chunk(head)}
	for _, c := range contexts {
		chunks = append(chunks, p.chunk(c+gap))
	}
	return append(chunks, p.chunk(query+tail))
}

func (p *Prompts) chunk(text string) engine.Chunk {
	if p.text != nil {
		return engine.Chunk{Text: text}
	}
	return engine.Chunk{Tokens: p.wordIDs(text)}
}

// wordIDs gives each word an id of its own, as far as the vocabulary goes.
func (p *Prompts) wordIDs(text string) []int32 {
	words := strings.Fields(text)
	ids := make([]int32, len(words))
	for i, word := range words {
		h := fnv.New32a()
		h.Write([]byte(word))
		ids[i] = int32(h.Sum32() % uint32(p.vocab))
	}
	return ids
}

// CountTokens is the length of a text alone.
func (p *Prompts) CountTokens(text string) int {
	if p.text != nil {
		return len(p.text.tokens.Encode(nil, text))
	}
	return len(p.wordIDs(text))
}

// Form says how texts become prompts: as a "chat", as "text" alone, or as "words" with an id each.
func (p *Prompts) Form() string {
	switch {
	case p.text == nil:
		return "words"
	case p.text.chat == nil:
		return "text"
	}
	return "chat"
}
