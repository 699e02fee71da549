// Command start measures how long it takes from the start of a process to its first token: `quire run` on a checkpoint on
// disk whose files are in the page cache. A model that is not files is written to a temporary folder first.
//
//	go run ./bench/start -model synthetic:qwen3-0.6b
package main

import (
	"os"

	"github.com/quire-llm/quire/bench/internal/start"
	"github.com/quire-llm/quire/bench/internal/suite"
)

func main() { os.Exit(suite.MainCommand(start.NewCommand(), os.Args[1:], os.Stdout, os.Stderr)) }
