package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/internal/cli"
)

// App is one run of the command. Tests make their own.
type App struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Args           []string
	// Interrupts makes a context that signals cancel. Nil: signal.NotifyContext.
	Interrupts func(context.Context, ...os.Signal) (context.Context, context.CancelFunc)
}

// Run runs the command that Args name and returns the exit code.
func (a *App) Run(ctx context.Context) cli.Exit {
	root := a.root()
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	cli.Prepare(root, a.Args)
	return cli.Tell(a.Stderr, root.ExecuteContext(ctx))
}

func (a *App) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "quire",
		Short: "Run, check and describe language models",
		Long: `Quire runs Qwen3-family language models on this machine.

A model is named by a directory with config.json and .safetensors files, by owner/name if it is in the Hugging Face cache,
by tiny (a small model that is built in), or by synthetic:qwen3-0.6b (true shape, made-up weights; also 1.7b, 4b and 8b,
and :layers=N for fewer layers). Flags may have one dash or two.`,
		Example: `  quire run "How many legs have three cats?"
  quire run                         # a chat
  quire inspect ~/huggingface/Qwen3-0.6B
  quire help exit-codes`,
		Args: func(root *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			hint := "run 'quire help' for the commands"
			if near := root.SuggestionsFor(args[0]); len(near) > 0 {
				hint = fmt.Sprintf("did you mean %s? %s", strings.Join(near, " or "), hint)
			}
			return cli.UsageError(hint, "no command %q", args[0])
		},
		RunE: func(root *cobra.Command, _ []string) error { return root.Help() },
	}
	root.AddCommand(a.runCommand(), a.verifyCommand(), a.inspectCommand(),
		a.pullCommand(), a.tokenizeCommand(), a.detokenizeCommand(), a.doctorCommand(), a.versionCommand(), exitCodesTopic())
	return root
}

// exitCodesTopic is a help text without a command.
func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "The exit codes of all commands",
		Long:  "The exit codes of all commands:\n\n" + cli.ExitTable(),
	}
}

// interruptible is a context that the first of these signals cancels. A second one ends the program at once.
func (a *App) interruptible(ctx context.Context, signals ...os.Signal) (context.Context, context.CancelFunc) {
	notify := signal.NotifyContext
	if a.Interrupts != nil {
		notify = a.Interrupts
	}
	ctx, stop := notify(ctx, signals...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// note tells the user something beside the results.
func (a *App) note(line string) { fmt.Fprintln(a.Stderr, "note: "+line) }

// exactly wants so many arguments, which usage names.
func exactly(n int, usage string) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return cli.UsageError(fmt.Sprintf("usage: %s %s", command.CommandPath(), usage), "got %d arguments, want %d", len(args), n)
	}
}
