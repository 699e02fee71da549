package engine

import (
	"fmt"

	"github.com/quire-llm/quire/model/chat"
	"github.com/quire-llm/quire/model/tokenizer"
)

// modelText is a model's tokenizer and chat template.
type modelText struct {
	tokens  *tokenizer.Tokenizer
	chat    *chat.Template
	chatErr error // why chat is nil
}

// newModelText takes the tokenizer as it is. A model whose chat template cannot be used is good for everything but chats.
func newModelText(t *tokenizer.Tokenizer) *modelText {
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
