// Command run_all measures all four KV-cache strategies. The original suite gives each of them its own script's workload, each
// point in a process of its own, which is this program again: it needs no Go where it runs. It writes the four results files
// and a summary of them. The fair suite gives all of them the same workloads.
//
//	go run ./bench/run_all
//	go run ./bench/run_all -suite fair
package main

import (
	"os"

	"github.com/quire-llm/quire/bench/internal/fair"
	"github.com/quire-llm/quire/bench/internal/scripts"
	"github.com/quire-llm/quire/bench/internal/suite"
)

func main() {
	args := os.Args[1:]
	if fair.Asked(args) {
		os.Exit(suite.MainCommand(fair.Command(), args, os.Stdout, os.Stderr))
	}
	os.Exit(suite.MainAll(scripts.All(), args, os.Stdout, os.Stderr))
}
