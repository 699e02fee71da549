package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/kernels"
)

// runFlags are the flags of `quire run`.
type runFlags struct {
	cli.EngineFlags
	cli.SamplingFlags
	sampling  engine.Sampling // what SamplingFlags came to
	maxTokens int
	stop      []string
	system    string
	raw       bool
	quiet     bool
}

func (a *App) runCommand() *cobra.Command {
	var f runFlags
	command := &cobra.Command{
		Use:   "run [PROMPT]",
		Short: "Answer a prompt, or chat",
		Long: `Answer a prompt on standard output, as it is generated. Without PROMPT it is read from standard input; on a terminal a chat
begins. Speed and cache use go to standard error.

In a chat: /clear forgets the conversation, /bye or Ctrl-D ends it, Ctrl-C stops an answer.`,
		Example: `  quire run "How many legs have three cats?"
  quire run -model Qwen/Qwen3-0.6B -recommended -seed 7 "Tell me a story."
  echo "Question: 2 + 2?" | quire run -raw -max-tokens 10 -stop "Question:"`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return cli.UsageError("put the prompt in quotes", "got %d arguments, want one prompt", len(args))
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error { return a.run(command.Context(), f, args) },
	}
	flags := command.Flags()
	flags.SortFlags = false
	f.RegisterModel(flags)
	flags.StringVar(&f.system, "system", "", "system `text` that a chat begins with")
	flags.IntVar(&f.maxTokens, "max-tokens", 0, "most tokens of an answer (default: as many as the context holds; 128 of a synthetic model)")
	flags.StringArrayVar(&f.stop, "stop", nil, "`text` that ends the answer; may be given several times")
	flags.BoolVar(&f.raw, "raw", false, "take the prompt as it is, without the model's chat template")
	f.RegisterSampling(flags)
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print nothing but the answer")
	f.RegisterContext(flags)
	f.RegisterDevice(flags)
	f.RegisterStrategy(flags)
	f.RegisterCache(flags)
	return command
}

func (a *App) run(ctx context.Context, f runFlags, args []string) error {
	chatting := len(args) == 0 && cli.IsTerminal(a.Stdin)
	prompt, err := a.prompt(args, chatting)
	if err != nil {
		return err
	}
	if chatting && f.raw {
		return cli.UsageError("give a prompt, or leave --raw out", "a chat needs the model's chat template")
	}
	if f.sampling, err = f.Sampling(); err != nil {
		return err
	}
	e, closeAll, err := a.openEngine(ctx, f)
	if err != nil {
		return err
	}
	defer closeAll()
	if err := f.Recommend(&f.sampling, e.Info().Generation); err != nil {
		return err
	}
	if chatting {
		terminal, restore, err := openTerminal(a.Stdin, a.Stdout)
		if err != nil {
			return err
		}
		defer restore()
		return a.chat(ctx, e, f, terminal)
	}
	request := f.request(e.Info())
	if f.raw {
		request.Prompt = prompt
	} else {
		request.Messages = append(f.opening(), engine.Message{Role: "user", Content: prompt})
	}
	ctx, stop := a.interruptible(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	_, result, err := a.answer(ctx, e, request)
	if result != nil && !f.quiet {
		writeUsage(a.Stderr, e.Info(), result)
	}
	return err
}

// prompt is the argument, or what standard input holds.
func (a *App) prompt(args []string, chatting bool) (string, error) {
	const hint = `run 'quire run "your question"', or pipe a text into it`
	if chatting {
		return "", nil
	}
	var text string
	if len(args) == 1 {
		text = args[0]
	} else {
		data, err := io.ReadAll(a.Stdin)
		if err != nil {
			return "", fmt.Errorf("reading the prompt from standard input: %w", err)
		}
		text = strings.TrimSuffix(string(data), "\n")
	}
	switch {
	case text == "":
		return "", cli.UsageError(hint, "the prompt is empty")
	case !utf8.ValidString(text):
		return "", cli.UsageError("convert it to UTF-8, for example with iconv", "the prompt is not UTF-8 text")
	}
	return text, nil
}

// openEngine opens model and engine, and says what the user should know of them.
func (a *App) openEngine(ctx context.Context, f runFlags) (*engine.Engine, func(), error) {
	note := a.note
	if f.quiet {
		note = func(string) {}
	}
	ck, err := f.OpenModel(note)
	if err != nil {
		return nil, nil, err
	}
	options, err := f.OptionsFor(ck)
	if err != nil {
		ck.Close()
		return nil, nil, err
	}
	options.MaxSequences, options.Log = 1, cli.Warnings(note)
	e, err := engine.Open(ctx, options)
	if err != nil {
		ck.Close()
		return nil, nil, err
	}
	debug.FreeOSMemory() // reading tokenizer.json leaves as much garbage as it has vocabulary
	if plan := e.Info().Memory; f.Context == 0 && plan.Context < ck.Config.MaxPositions {
		note(fmt.Sprintf("the context is %d tokens of the model's %d, which is what the cache holds", plan.Context, ck.Config.MaxPositions))
	}
	return e, func() { e.Close(); ck.Close() }, nil
}

// syntheticTokens ends the answer of a model that does not know how to end one.
const syntheticTokens = 128

// request is what the flags say of every answer.
func (f runFlags) request(info engine.Info) engine.Request {
	r := engine.Request{
		Sampling:  f.sampling,
		MaxTokens: f.maxTokens,
		Stop:      f.stop,
	}
	if r.MaxTokens == 0 && info.Synthetic {
		r.MaxTokens = syntheticTokens
	}
	return r
}

// opening is how a conversation begins.
func (f runFlags) opening() []engine.Message {
	if f.system == "" {
		return nil
	}
	return []engine.Message{{Role: "system", Content: f.system}}
}

// answer streams the answer to standard output, ends its line, and returns the text that came, also with an error. The
// result is nil if the answer was broken off.
func (a *App) answer(ctx context.Context, e *engine.Engine, request engine.Request) (string, *engine.Result, error) {
	var text strings.Builder
	var result *engine.Result
	var failed error
	for token, err := range e.Generate(ctx, request) {
		if _, err := io.WriteString(a.Stdout, token.Text); err != nil {
			return text.String(), nil, fmt.Errorf("writing the answer: %w", err)
		}
		text.WriteString(token.Text)
		result, failed = token.Result, err
	}
	if text.Len() > 0 && !strings.HasSuffix(text.String(), "\n") {
		fmt.Fprintln(a.Stdout)
	}
	return text.String(), result, failed
}

// writeUsage says how fast an answer was and what the cache did for it.
func writeUsage(w io.Writer, info engine.Info, r *engine.Result) {
	u := r.Usage
	if u.CompletionTokens > 0 {
		fmt.Fprintf(w, "first token after %s, %s", (u.Queue + u.Prefill).Round(time.Millisecond/10), rate(u))
		fmt.Fprintf(w, "%s\n", ending(r))
	}
	weights := ""
	if info.Weights != kernels.BF16 {
		weights = info.Weights.String() + " weights, "
	}
	fmt.Fprintf(w, "%d prompt tokens, %d of them cached; %d completion tokens; cache %s, %s%s kernels, model %s\n",
		u.PromptTokens, u.CachedTokens, u.CompletionTokens, info.Strategy, weights, info.Device.KernelSet, info.Model)
	if reason := info.Device.KernelReason; reason != "" {
		fmt.Fprintln(w, "slow plain-Go kernels are in use: "+reason)
	}
	if info.Synthetic {
		fmt.Fprintln(w, "synthetic: the weights are made up; speed means something, text does not")
	}
}

// rate is the speed after the first token.
func rate(u engine.Usage) string {
	if u.CompletionTokens < 2 || u.Decode <= 0 {
		return "one token"
	}
	return fmt.Sprintf("then %.1f tok/s", float64(u.CompletionTokens-1)/u.Decode.Seconds())
}

func ending(r *engine.Result) string {
	switch {
	case r.Err != nil:
		return ", failed"
	case r.Finish == engine.FinishLength:
		return ", cut off at the most tokens allowed"
	}
	return ""
}
