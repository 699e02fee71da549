package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/internal/hub"
	"github.com/quire-llm/quire/internal/hub/hubbar"
)

// pullFlags are the flags of `quire pull`.
type pullFlags struct {
	revision string
	localDir string
	parallel int
	all      bool
	verify   bool
	dryRun   bool
	quiet    bool
}

func (a *App) pullCommand() *cobra.Command {
	var f pullFlags
	command := &cobra.Command{
		Use:   "pull OWNER/NAME",
		Short: "Fetch a model from the Hugging Face hub",
		Long: `Fetch a model from the Hugging Face hub into its cache, where other programs find it as well, or into a folder of its own.
What is there already is not fetched again, what was interrupted goes on where it stopped, and every file is checked. The
last line on standard output is the path.

HF_HOME and HF_HUB_CACHE say where the cache is, HF_TOKEN opens private and gated models, HF_ENDPOINT names another server,
and HF_HUB_OFFLINE forbids the network.`,
		Example: `  quire pull Qwen/Qwen3-0.6B
  quire pull Qwen/Qwen3-0.6B -dry-run
  quire pull Qwen/Qwen3-0.6B -local-dir ~/huggingface/Qwen3-0.6B`,
		Args: exactly(1, "OWNER/NAME"),
		RunE: func(command *cobra.Command, args []string) error {
			ctx, stop := a.interruptible(command.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return a.pull(ctx, f, args[0])
		},
	}
	flags := command.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.revision, "revision", "main", "branch, tag or `commit`")
	flags.StringVar(&f.localDir, "local-dir", "", "`folder` for plain files, instead of the cache")
	flags.BoolVar(&f.dryRun, "dry-run", false, "list the files and their sizes, and fetch nothing")
	flags.BoolVar(&f.all, "all", false, "every file of the repository, not only what Quire reads")
	flags.BoolVar(&f.verify, "verify", false, "read what the cache has already and check it, instead of trusting its size")
	flags.IntVar(&f.parallel, "parallel", 4, "`files` at once")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print nothing but the path")
	return command
}

func (a *App) pull(ctx context.Context, f pullFlags, model string) error {
	progress := hubbar.New(a.Stderr, hubbar.Options{Quiet: f.quiet})
	pull, err := hub.Prepare(ctx, hub.EnvFromOS(), model, hub.Options{
		Revision: f.revision,
		LocalDir: f.localDir,
		All:      f.all,
		Verify:   f.verify,
		Parallel: f.parallel,
		Observer: progress.Observer(),
	})
	if err != nil {
		return err
	}
	if f.dryRun {
		return pull.WriteTable(a.Stdout)
	}
	dir, err := pull.Run(ctx)
	progress.Close()
	if errors.Is(err, context.Canceled) {
		a.note("interrupted; what has arrived is kept, and pulling again goes on from there")
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.Stdout, dir)
	return err
}
