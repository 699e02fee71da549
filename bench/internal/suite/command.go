package suite

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/internal/cli"
)

// MainCommand runs a command as a program, which Ctrl-C interrupts, and returns its exit code.
func MainCommand(command *cobra.Command, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	return int(ExecuteCommand(ctx, command, args, stdout, stderr))
}

// ExecuteCommand is MainCommand with a context that interrupts it.
func ExecuteCommand(ctx context.Context, command *cobra.Command, args []string, stdout, stderr io.Writer) cli.Exit {
	command.SetOut(stdout)
	command.SetErr(stderr)
	cli.Prepare(command, args)
	return cli.Tell(stderr, command.ExecuteContext(ctx))
}

// NoArguments refuses arguments that are no flags.
func NoArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return cli.UsageError("everything is said with flags, see --help", "unexpected argument %q", args[0])
	}
	return nil
}

// LongHelp is a help text with what all programs of the suite have in common.
func LongHelp(text string) string {
	return text + "\n\nFlags may have one dash or two. Exit codes:\n" + cli.ExitTable()
}
