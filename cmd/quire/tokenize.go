package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/model/chat"
	"github.com/quire-llm/quire/model/tokenizer"
)

// tokenizeFlags are the flags of `quire tokenize` and `quire detokenize`.
type tokenizeFlags struct {
	cli.EngineFlags
	jsonl       bool
	bos         bool
	chat        bool
	template    string
	skipSpecial bool
}

func (a *App) tokenizeCommand() *cobra.Command {
	var f tokenizeFlags
	command := &cobra.Command{
		Use:   "tokenize",
		Short: "Turn text into token ids, or a conversation into a prompt",
		Long: `Turn the text on standard input into a JSON array of token ids.

With --jsonl every line of input is a JSON string, and every line of output its array of ids.

With --jsonl --chat every line of input is an object: messages, and if there are any tools, add_generation_prompt,
enable_thinking and whatever else the template knows. Every line of output is the prompt as a JSON string.`,
		Example: `  echo -n "Hello" | quire tokenize -model tiny
  quire tokenize -model ./tokenizer-files -jsonl < texts.jsonl > ids.jsonl
  quire tokenize -model tiny -jsonl -chat < conversations.jsonl`,
		Args: exactly(0, "< TEXT"),
		RunE: func(*cobra.Command, []string) error { return a.tokenize(f) },
	}
	flags := command.Flags()
	flags.SortFlags = false
	f.RegisterModel(flags)
	flags.BoolVar(&f.jsonl, "jsonl", false, "a JSON string a line in, an array of ids a line out")
	flags.BoolVar(&f.bos, "bos", false, "begin with the token that begins a text, if the model has one")
	flags.BoolVar(&f.chat, "chat", false, "with --jsonl: a conversation a line in, the prompt as a JSON string a line out")
	flags.StringVar(&f.template, "template", "", "with --chat: `file` with another chat template than the model's")
	return command
}

func (a *App) detokenizeCommand() *cobra.Command {
	var f tokenizeFlags
	command := &cobra.Command{
		Use:   "detokenize",
		Short: "Turn token ids into text",
		Long: `Turn the token ids on standard input into text: a JSON array, or numbers with spaces between them.

With --jsonl every line of input is an array of ids, and every line of output its text as a JSON string.`,
		Example: `  echo "[39, 68, 75, 75, 78]" | quire detokenize -model tiny
  quire detokenize -model ./tokenizer-files -jsonl < ids.jsonl > texts.jsonl`,
		Args: exactly(0, "< IDS"),
		RunE: func(*cobra.Command, []string) error { return a.detokenize(f) },
	}
	flags := command.Flags()
	flags.SortFlags = false
	f.RegisterModel(flags)
	flags.BoolVar(&f.jsonl, "jsonl", false, "an array of ids a line in, a JSON string a line out")
	flags.BoolVar(&f.skipSpecial, "skip-special", false, "leave special tokens out of the text")
	return command
}

func (a *App) tokenize(f tokenizeFlags) error {
	if f.chat && !f.jsonl || f.template != "" && !f.chat {
		return cli.UsageError("add --jsonl --chat", "--chat needs --jsonl, and --template needs --chat")
	}
	t, err := a.openTokenizer(f)
	if err != nil {
		return err
	}
	switch {
	case f.chat:
		template, err := chatTemplate(t, f.template)
		if err != nil {
			return err
		}
		return a.eachLine(func(line []byte) (any, error) {
			conversation, err := chat.ParseValue(line)
			if err != nil {
				return nil, err
			}
			return template.Render(conversation)
		})
	case f.jsonl:
		return a.eachLine(func(line []byte) (any, error) {
			var text string
			if err := json.Unmarshal(line, &text); err != nil {
				return nil, fmt.Errorf("want a JSON string: %w", err)
			}
			return f.encode(t, text), nil
		})
	}
	text, err := io.ReadAll(a.Stdin)
	if err != nil {
		return fmt.Errorf("reading standard input: %w", err)
	}
	line, err := json.Marshal(f.encode(t, string(text)))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Stdout, "%s\n", line)
	return err
}

// encode never returns nil, which would be written as null.
func (f tokenizeFlags) encode(t *tokenizer.Tokenizer, text string) []int32 {
	return t.EncodeWith([]int32{}, text, tokenizer.EncodeOptions{AddBOS: f.bos})
}

func (a *App) detokenize(f tokenizeFlags) error {
	t, err := a.openTokenizer(f)
	if err != nil {
		return err
	}
	decode := func(ids []int32) (string, error) {
		for _, id := range ids {
			if _, ok := t.Token(id); !ok {
				return "", fmt.Errorf("no token has the id %d; the vocabulary has %d", id, t.Vocab())
			}
		}
		return t.DecodeWith(ids, tokenizer.DecodeOptions{SkipSpecial: f.skipSpecial}), nil
	}
	if f.jsonl {
		return a.eachLine(func(line []byte) (any, error) {
			var ids []int32
			if err := json.Unmarshal(line, &ids); err != nil {
				return nil, fmt.Errorf("want an array of token ids: %w", err)
			}
			return decode(ids)
		})
	}
	input, err := io.ReadAll(a.Stdin)
	if err != nil {
		return fmt.Errorf("reading standard input: %w", err)
	}
	ids, err := parseIDs(string(input))
	if err != nil {
		return err
	}
	text, err := decode(ids)
	if err != nil {
		return cli.UsageError("take the ids of this model's tokenizer", "%w", err)
	}
	_, err = io.WriteString(a.Stdout, text)
	return err
}

// parseIDs reads numbers that spaces, commas or the brackets of an array separate.
func parseIDs(text string) ([]int32, error) {
	var ids []int32
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" ,[]\t\r\n", r) }) {
		id, err := strconv.ParseInt(word, 10, 32)
		if err != nil {
			return nil, cli.UsageError("write ids as [1, 2, 3] or 1 2 3", "%q is no token id", word)
		}
		ids = append(ids, int32(id))
	}
	return ids, nil
}

// openTokenizer opens the tokenizer of a model, or of a folder that holds nothing but tokenizer files.
func (a *App) openTokenizer(f tokenizeFlags) (*tokenizer.Tokenizer, error) {
	if _, err := os.Stat(filepath.Join(f.Model, "tokenizer.json")); f.Model != "" && err == nil {
		return loadTokenizer(os.DirFS(f.Model), f.Model)
	}
	ck, err := f.OpenModel(a.note)
	if err != nil {
		return nil, err
	}
	defer ck.Close()
	return loadTokenizer(ck.Files, ck.Name)
}

func loadTokenizer(files fs.FS, name string) (*tokenizer.Tokenizer, error) {
	t, err := tokenizer.Load(files)
	if err != nil {
		return nil, &cli.Problem{
			Err:  fmt.Errorf("reading the tokenizer of %q: %w", name, err),
			Hint: "give a folder with the tokenizer.json of a Qwen2, Qwen2.5, Qwen3 or Llama 3 model",
			Exit: cli.BadModel,
		}
	}
	return t, nil
}

// chatTemplate is the template in a file, or the model's.
func chatTemplate(t *tokenizer.Tokenizer, file string) (*chat.Template, error) {
	source := t.ChatTemplate()
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading a chat template: %w", err)
		}
		source = string(data)
	}
	template, err := chat.Parse(source)
	if err != nil {
		return nil, &cli.Problem{Err: err, Hint: "give another template with --template", Exit: cli.BadModel}
	}
	return template, nil
}

// eachLine answers every line of standard input with a JSON value in a line. Empty lines are left out. Lines before one
// that is wrong are answered.
func (a *App) eachLine(answer func(line []byte) (any, error)) (err error) {
	out := bufio.NewWriterSize(a.Stdout, 1<<16)
	defer func() { err = errors.Join(err, out.Flush()) }()
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	in := bufio.NewReaderSize(a.Stdin, 1<<16)
	for number := 1; ; number++ {
		line, readErr := in.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			value, err := answer(line)
			if err != nil {
				return cli.UsageError("see 'quire help tokenize' for what a line holds", "line %d: %w", number, err)
			}
			if err := encoder.Encode(value); err != nil {
				return fmt.Errorf("line %d: writing: %w", number, err)
			}
		}
		if errors.Is(readErr, io.EOF) {
			return nil
		}
		if readErr != nil {
			return fmt.Errorf("line %d: reading: %w", number, readErr)
		}
	}
}
