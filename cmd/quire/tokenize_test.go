package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/model/tiny"
)

func TestTokenizeThereAndBack(t *testing.T) {
	for _, text := range []string{"Hello, world.", "ä 日本 🙂\n\n tab\t", "<|im_start|>user\nhi<|im_end|>\n", "", "\"quoted\" \\ and \u2028"} {
		t.Run(text, func(t *testing.T) {
			ids := run(t, text, "tokenize", "-model", "tiny")
			require.Equal(t, cli.OK, ids.exit, ids.stderr)
			require.Regexp(t, `^\[[0-9,]*\]\n$`, ids.stdout)
			back := run(t, ids.stdout, "detokenize", "-model", "tiny")
			require.Equal(t, cli.OK, back.exit, back.stderr)
			require.Equal(t, text, back.stdout)

			line, err := json.Marshal(text)
			require.NoError(t, err)
			jsonl := run(t, string(line)+"\n", "tokenize", "-model", "tiny", "-jsonl")
			require.Equal(t, ids.stdout, jsonl.stdout)
			back = run(t, jsonl.stdout, "detokenize", "-model", "tiny", "-jsonl")
			var got string
			require.NoError(t, json.Unmarshal([]byte(back.stdout), &got))
			require.Equal(t, text, got)
		})
	}
}

func TestTokenizeLines(t *testing.T) {
	long := strings.Repeat("long ", 50_000) // longer than any buffer
	in := "\"a\"\n\n  \"" + long + "\"  \r\n\"no newline at the end\""
	r := run(t, in, "tokenize", "-model", "tiny", "-jsonl")
	require.Equal(t, cli.OK, r.exit, r.stderr)
	require.Equal(t, 3, strings.Count(r.stdout, "\n"))
	back := run(t, r.stdout, "detokenize", "-model", "tiny", "-jsonl")
	require.Equal(t, "\"a\"\n\""+long+"\"\n\"no newline at the end\"\n", back.stdout)
}

func TestDetokenizeForms(t *testing.T) {
	want := run(t, "Hello", "tokenize", "-model", "tiny").stdout
	plain := strings.NewReplacer("[", "", "]", "", ",", " ").Replace(want)
	require.Equal(t, "Hello", run(t, plain, "detokenize", "-model", "tiny").stdout)
	require.Equal(t, "<|im_start|>hi", run(t, "2040 71 72", "detokenize", "-model", "tiny").stdout)
	require.Equal(t, "hi", run(t, "2040 71 72", "detokenize", "-model", "tiny", "-skip-special").stdout)
}

func TestTokenizerFolder(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, tiny.Files()))
	require.NoError(t, os.Remove(filepath.Join(dir, "config.json")))
	want := run(t, "Hello", "tokenize", "-model", "tiny")
	require.Equal(t, want, run(t, "Hello", "tokenize", "-model", dir))
}

func TestTokenizeChat(t *testing.T) {
	const conversation = `{"messages":[{"role":"user","content":"hi <b>"}],"add_generation_prompt":true}`
	r := run(t, conversation+"\n", "tokenize", "-model", "tiny", "-jsonl", "-chat")
	require.Equal(t, cli.OK, r.exit, r.stderr)
	require.Equal(t, `"<|im_start|>user\nhi <b><|im_end|>\n<|im_start|>assistant\n"`+"\n", r.stdout)

	template := filepath.Join(t.TempDir(), "template.jinja")
	require.NoError(t, os.WriteFile(template, []byte("{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"), 0o600))
	r = run(t, conversation, "tokenize", "-model", "tiny", "--jsonl", "--chat", "--template", template)
	require.Equal(t, cli.OK, r.exit, r.stderr)
	require.Equal(t, "\"[user] hi <b>\"\n", r.stdout)
}

func TestTokenizeBadInput(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "tokenizer.json")
	require.NoError(t, os.WriteFile(broken, []byte(`{"model":{"type":"Unigram"}}`), 0o600))
	for _, c := range []struct {
		name, stdin, args string
		exit              cli.Exit
		says, hint        string
	}{
		{"line that is no string", "5\n", "tokenize -model tiny -jsonl", cli.Usage, "line 1: want a JSON string", "help tokenize"},
		{"line that is no conversation", "{}\n", "tokenize -model tiny -jsonl -chat", cli.Usage, "line 1: ", "help tokenize"},
		{"line that is no array", "\"x\"\n", "detokenize -model tiny -jsonl", cli.Usage, "line 1: want an array of token ids", ""},
		{"id outside the vocabulary", "[1, 99999]", "detokenize -model tiny", cli.Usage, "99999", "this model's tokenizer"},
		{"negative id", "-1", "detokenize -model tiny", cli.Usage, "-1", ""},
		{"what is no id", "one", "detokenize -model tiny", cli.Usage, `"one"`, "[1, 2, 3]"},
		{"chat without jsonl", "", "tokenize -model tiny -chat", cli.Usage, "--jsonl", ""},
		{"template without chat", "", "tokenize -model tiny -jsonl -template x", cli.Usage, "--chat", ""},
		{"template that is not there", "", "tokenize -model tiny -jsonl -chat -template no/such/file", cli.Failed, "no/such/file", "path"},
		{"model without a tokenizer", "x", "tokenize -model " + testdata + "goldens/qwen3-yarn", cli.BadModel, "tokenizer", "tokenizer.json"},
		{"tokenizer of another kind", "x", "tokenize -model " + filepath.Dir(broken), cli.BadModel, "Unigram", "Qwen3"},
		{"argument", "", "tokenize -model tiny text", cli.Usage, "1 arguments, want 0", "< TEXT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			run(t, c.stdin, strings.Fields(c.args)...).refused(t, c.exit, c.says, c.hint)
		})
	}
}

// Lines before a wrong one are answered.
func TestTokenizeAnswersUpToTheWrongLine(t *testing.T) {
	r := run(t, "\"a\"\n\"b\"\nnull?\n\"c\"\n", "tokenize", "-model", "tiny", "-jsonl")
	require.Equal(t, cli.Usage, r.exit)
	require.Equal(t, 2, strings.Count(r.stdout, "\n"))
	r.told(t, "line 3: ", "")
}
