// Command table prints the table of speeds on a GPU, in Markdown, from the results of bench/gpu.sh.
//
//	go run ./bench/table bench/results/h200
package main

import (
	"os"

	"github.com/quire-llm/quire/bench/internal/figures"
	"github.com/quire-llm/quire/bench/internal/suite"
)

func main() { os.Exit(suite.MainCommand(figures.NewCommand(), os.Args[1:], os.Stdout, os.Stderr)) }
