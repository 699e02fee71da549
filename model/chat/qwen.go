package chat

import (
	"fmt"
	"strings"
)

const (
	turnStart = "<|im_start|>"
	turnEnd   = "<|im_end|>\n"

	toolsIntro = "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n" +
		"You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
	toolsOutro = "\n</tools>\n\nFor each function call, return a json object with function name and arguments within " +
		"<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n" +
		"</tool_call><|im_end|>\n"

	qwen25System = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
)

// writer collects a prompt and the first error.
type writer struct {
	strings.Builder
	err error
}

// text is a value that the template concatenates: it must be a string.
func (w *writer) text(v Value, what string) string {
	if v.Kind() != String && w.err == nil {
		w.err = fmt.Errorf("chat: %s is not a string", what)
	}
	return v.Text()
}

func (w *writer) tools(tools Value) {
	for _, tool := range tools.List() {
		w.WriteString("\n" + tool.JSON())
	}
	w.WriteString(toolsOutro)
}

// toolCall writes one call. Arguments that are a string already stand for JSON where asString is set (Qwen3); otherwise
// they are written as a JSON string (Qwen2.5).
func (w *writer) toolCall(call Value, asString bool) {
	if f := call.Get("function"); f.Truthy() {
		call = f
	}
	arguments := call.Get("arguments")
	if arguments.Kind() == Undefined && w.err == nil {
		w.err = fmt.Errorf("chat: tool call %q has no arguments", call.Get("name").Text())
	}
	w.WriteString("<tool_call>\n{\"name\": \"" + w.text(call.Get("name"), "the name of a tool call") + "\", \"arguments\": ")
	if arguments.Kind() == String && asString {
		w.WriteString(arguments.Text())
	} else {
		w.WriteString(arguments.JSON())
	}
	w.WriteString("}\n</tool_call>")
}

// toolResult writes a tool's answer; answers in a row share one user turn.
func (w *writer) toolResult(messages []Value, i int, content string) {
	isTool := func(i int) bool {
		return i >= 0 && i < len(messages) && messages[i].Get("role").Text() == "tool"
	}
	if !isTool(i - 1) {
		w.WriteString(turnStart + "user")
	}
	w.WriteString("\n<tool_response>\n" + content + "\n</tool_response>")
	if !isTool(i + 1) {
		w.WriteString(turnEnd)
	}
}

// qwen3 renders what qwen3.jinja says: thoughts are kept only in the turns after the last real question.
func qwen3(c Value) (string, error) {
	messages := c.Get("messages").List()
	var w writer
	system := messages[0].Get("role").Text() == "system"
	switch tools := c.Get("tools"); {
	case tools.Truthy():
		w.WriteString(turnStart + "system\n")
		if system {
			w.WriteString(w.text(messages[0].Get("content"), "the system message's content") + "\n\n")
		}
		w.WriteString(toolsIntro)
		w.tools(tools)
	case system:
		w.WriteString(turnStart + "system\n" + w.text(messages[0].Get("content"), "the system message's content") + turnEnd)
	}
	lastQuery := lastQuestion(messages)
	for i, m := range messages {
		content := ""
		if v := m.Get("content"); v.Kind() == String {
			content = v.Text()
		}
		switch role := m.Get("role").Text(); {
		case role == "user" || role == "system" && i > 0:
			w.WriteString(turnStart + role + "\n" + content + turnEnd)
		case role == "assistant":
			thought := ""
			if v := m.Get("reasoning_content"); v.Kind() == String {
				thought = v.Text()
			} else if strings.Contains(content, "</think>") {
				before, _, _ := strings.Cut(content, "</think>")
				before = strings.TrimRight(before, "\n")
				thought = strings.TrimLeft(before[lastIndexAfter(before, "<think>"):], "\n")
				content = strings.TrimLeft(content[lastIndexAfter(content, "</think>"):], "\n")
			}
			w.WriteString(turnStart + role + "\n")
			if last := i == len(messages)-1; i > lastQuery && (last || thought != "") {
				w.WriteString("<think>\n" + strings.Trim(thought, "\n") + "\n</think>\n\n" + strings.TrimLeft(content, "\n"))
			} else {
				w.WriteString(content)
			}
			for j, call := range m.Get("tool_calls").List() {
				if j > 0 || content != "" {
					w.WriteByte('\n')
				}
				w.toolCall(call, true)
			}
			w.WriteString(turnEnd)
		case role == "tool":
			w.toolResult(messages, i, content)
		}
	}
	if c.Get("add_generation_prompt").Truthy() {
		w.WriteString(turnStart + "assistant\n")
		if v := c.Get("enable_thinking"); v.Kind() == Bool && !v.Truthy() {
			w.WriteString("<think>\n\n</think>\n\n")
		}
	}
	return w.String(), w.err
}

// lastQuestion is the index of the last user message that is not a tool's answer in disguise; without one, the last index.
func lastQuestion(messages []Value) int {
	for i := len(messages) - 1; i >= 0; i-- {
		content := messages[i].Get("content")
		if messages[i].Get("role").Text() == "user" && content.Kind() == String &&
			!(strings.HasPrefix(content.Text(), "<tool_response>") && strings.HasSuffix(content.Text(), "</tool_response>")) {
			return i
		}
	}
	return len(messages) - 1
}

// lastIndexAfter is where the text after the last sep begins; 0 if sep does not occur.
func lastIndexAfter(s, sep string) int {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return i + len(sep)
	}
	return 0
}

// qwen25 renders what qwen2.5.jinja says: a system text of its own where there is none, no thoughts.
func qwen25(c Value) (string, error) {
	messages := c.Get("messages").List()
	var w writer
	system := qwen25System
	if messages[0].Get("role").Text() == "system" {
		system = w.text(messages[0].Get("content"), "the system message's content")
	}
	w.WriteString(turnStart + "system\n" + system)
	if tools := c.Get("tools"); tools.Truthy() {
		w.WriteString("\n\n" + toolsIntro)
		w.tools(tools)
	} else {
		w.WriteString(turnEnd)
	}
	for i, m := range messages {
		content, calls := m.Get("content"), m.Get("tool_calls")
		switch role := m.Get("role").Text(); {
		case role == "user" || role == "system" && i > 0 || role == "assistant" && !calls.Truthy():
			w.WriteString(turnStart + role + "\n" + w.text(content, "a message's content") + turnEnd)
		case role == "assistant":
			w.WriteString(turnStart + role)
			if content.Truthy() {
				w.WriteString("\n" + w.text(content, "a message's content"))
			}
			for _, call := range calls.List() {
				w.WriteByte('\n')
				w.toolCall(call, false)
			}
			w.WriteString(turnEnd)
		case role == "tool":
			w.toolResult(messages, i, w.text(content, "a tool message's content"))
		}
	}
	if c.Get("add_generation_prompt").Truthy() {
		w.WriteString(turnStart + "assistant\n")
	}
	return w.String(), w.err
}

// chatML renders the plain form that the built-in models are trained on: every turn as it is.
func chatML(c Value) (string, error) {
	var w writer
	for _, m := range c.Get("messages").List() {
		w.WriteString(turnStart + w.text(m.Get("role"), "a message's role") + "\n" + w.text(m.Get("content"), "a message's content") + turnEnd)
	}
	if c.Get("add_generation_prompt").Truthy() {
		w.WriteString(turnStart + "assistant\n")
	}
	return w.String(), w.err
}
