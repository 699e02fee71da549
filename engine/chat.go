package engine

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/quire-llm/quire/model"
	"github.com/quire-llm/quire/model/chat"
	"github.com/quire-llm/quire/model/tokenizer"
)

// modelText is a model's tokenizer and chat template.
type modelText struct {
	tokens  *tokenizer.Tokenizer
	chat    *chat.Template
	chatErr error // why chat is nil
}

// loadTokenizer is nil for a model that comes without one: it takes token ids and gives token ids.
func loadTokenizer(ck *model.Checkpoint) (*tokenizer.Tokenizer, error) {
	if ck.Files == nil {
		return nil, nil
	}
	t, err := tokenizer.Load(ck.Files)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("engine: reading the tokenizer of %q: %w", ck.Name, err)
	}
	return t, nil
}

// newCodec takes the tokenizer as it is. A model whose chat template cannot be used is good for everything but chats.
func newCodec(t *tokenizer.Tokenizer) codec {
	if t == nil {
		return noText{}
	}
	m := &modelText{tokens: t}
	m.chat, m.chatErr = chat.Parse(t.ChatTemplate())
	return m
}

func (m *modelText) encode(dst []int32, text string, first bool) []int32 {
	return m.tokens.EncodeWith(dst, text, tokenizer.EncodeOptions{AddBOS: first})
}

func (m *modelText) decoder() decoder {
	return m.tokens.NewStream(tokenizer.DecodeOptions{SkipSpecial: true})
}

// render lays the messages out with the model's template. Where that cannot be used the error matches
// errors.ErrUnsupported.
func (m *modelText) render(messages []Message) (string, error) {
	if m.chat == nil {
		return "", fmt.Errorf("engine: rendering a chat: %w", m.chatErr)
	}
	turns := make([]chat.Turn, len(messages))
	for i, msg := range messages {
		turns[i] = chat.Turn(msg)
	}
	return m.chat.Render(chat.New(turns...))
}

// noText is the codec of a model without a tokenizer. Requests with text are refused before it is asked.
type noText struct{}

func (noText) encode(dst []int32, _ string, _ bool) []int32 { return dst }
func (noText) render([]Message) (string, error)             { return "", errors.ErrUnsupported }
func (noText) decoder() decoder                             { return silence{} }

// silence decodes every token to nothing.
type silence struct{}

func (silence) Next(int32) string { return "" }
func (silence) Flush() string     { return "" }
