// Command compare sets two results files beside each other: for each row that both have, the second file's figures over the
// first's.
//
//	go run ./bench/compare before/results_fair.json after/results_fair.json
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
)

func main() { os.Exit(suite.MainCommand(newCommand(), os.Args[1:], os.Stdout, os.Stderr)) }

func newCommand() *cobra.Command {
	const short = "Compare two results files of the benchmarks, row by row"
	return &cobra.Command{
		Use: "compare A.json B.json", Short: short,
		Long: suite.LongHelp(short + ". Ratios are B over A: below 1 is less time or less memory in B.\n" +
			"The spread is the least and the most that the repeats of both files allow."),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return cli.UsageError("name two results files", "want 2 files, got %d", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			before, err := readFile(args[0])
			if err != nil {
				return err
			}
			after, err := readFile(args[1])
			if err != nil {
				return err
			}
			pairs, alone, err := match(before, after)
			if err != nil {
				return err
			}
			printTable(c.OutOrStdout(), pairs)
			for _, line := range alone {
				fmt.Fprintln(c.ErrOrStderr(), "note: "+line)
			}
			return nil
		},
	}
}
