// Command run_all measures all four KV-cache strategies, each point in a process of its own, which is this program again: it
// needs no Go where it runs. It writes the four results files and a summary of them.
//
//	go run ./bench/run_all
package main

import (
	"os"

	"github.com/quire-llm/quire/bench/internal/scripts"
	"github.com/quire-llm/quire/bench/internal/suite"
)

func main() { os.Exit(suite.MainAll(scripts.All(), os.Args[1:], os.Stdout, os.Stderr)) }
