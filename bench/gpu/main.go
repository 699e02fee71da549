// Command gpu is the benchmarks that a machine with a GPU runs, in one program, for machines without Go: see bench/gpu.sh.
//
//	gpu kernels -shapes qwen3-0.6b
//	gpu throughput -workload nano
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/bench/internal/figures"
	"github.com/quire-llm/quire/bench/internal/operations"
	"github.com/quire-llm/quire/bench/internal/start"
	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/bench/internal/throughput"
)

func main() {
	root := &cobra.Command{Use: "gpu", Short: "Benchmarks for a GPU, in one program"}
	root.AddCommand(operations.NewCommand(), operations.NewCrossoverCommand(), throughput.NewCommand(), start.NewCommand(), figures.NewCommand())
	os.Exit(suite.MainCommand(root, os.Args[1:], os.Stdout, os.Stderr))
}
