// Package chat turns a conversation into a model's prompt.
//
// The templates of the Qwen family are rendered by Go code of our own; any other template runs in gonja, fenced in: see
// [Limits]. A template comes with a model and is untrusted: it reaches no files, no Go methods and no more than a bounded
// amount of time and memory.
package chat

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
)

//go:embed qwen3.jinja
var qwen3Source string

//go:embed qwen2.5.jinja
var qwen25Source string

// chatMLSource is the template of the built-in models.
const chatMLSource = `{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}`

// ErrConversation says that a conversation is not one that the template can render.
var ErrConversation = errors.New("chat: invalid conversation")

// Template renders conversations. It is safe for concurrent use.
type Template struct {
	name   string
	render func(Value) (string, error)
}

// Parse recognizes or compiles a chat template in Jinja's language, as tokenizer_config.json and chat_template.jinja hold
// it. An error means that the template is not valid or asks for what is not allowed.
func Parse(source string) (*Template, error) {
	switch strings.TrimSpace(source) {
	case strings.TrimSpace(qwen3Source):
		return &Template{"qwen3", qwen3}, nil
	case strings.TrimSpace(qwen25Source):
		return &Template{"qwen2.5", qwen25}, nil
	case chatMLSource:
		return &Template{"chatml", chatML}, nil
	case "":
		return nil, fmt.Errorf("chat: the model has no chat template: %w", errors.ErrUnsupported)
	}
	return parseJinja(source, Limits{})
}

// Name says which renderer is at work: "qwen3", "qwen2.5", "chatml" or "jinja".
func (t *Template) Name() string { return t.name }

// Render writes the prompt for a conversation: an object with messages (a list of objects with role and content, and
// perhaps reasoning_content and tool_calls), tools, add_generation_prompt, enable_thinking and whatever else the template
// knows. What the template cannot render matches ErrConversation.
func (t *Template) Render(conversation Value) (string, error) {
	messages := conversation.Get("messages")
	if messages.Kind() != Array || len(messages.List()) == 0 {
		return "", fmt.Errorf("%w: messages must be a list that is not empty", ErrConversation)
	}
	for i, m := range messages.List() {
		if m.Kind() != Object || m.Get("role").Kind() != String {
			return "", fmt.Errorf("%w: message %d has no role", ErrConversation, i)
		}
	}
	text, err := t.render(conversation)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrConversation, err)
	}
	return text, nil
}

// Turn is one plain message, for New.
type Turn struct {
	Role    string // "system", "user" or "assistant"
	Content string
}

// New makes a conversation of plain messages that asks for an answer.
func New(turns ...Turn) Value {
	messages := make([]Value, len(turns))
	for i, t := range turns {
		messages[i] = NewObject(Pair{"role", NewString(t.Role)}, Pair{"content", NewString(t.Content)})
	}
	return NewObject(Pair{"messages", NewArray(messages...)}, Pair{"add_generation_prompt", NewBool(true)})
}
