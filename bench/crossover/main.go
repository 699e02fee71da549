// Command crossover measures attention of rows that share a prefix, each alone and all together, over lengths of the prefix and
// numbers of rows: the table that the cost model of package attention is fitted to.
//
//	go run ./bench/crossover -shape qwen3-0.6b -kv bf16
package main

import (
	"os"

	"github.com/quire-llm/quire/bench/internal/operations"
	"github.com/quire-llm/quire/bench/internal/suite"
)

func main() {
	os.Exit(suite.MainCommand(operations.NewCrossoverCommand(), os.Args[1:], os.Stdout, os.Stderr))
}
