// Command throughput measures speed over a grid of batch, input, output and depth, or on the workload that nano-vllm
// measures itself with. Beside each figure stands what share of the machine's limit it is, measured just before and after.
//
//	go run ./bench/throughput -model synthetic:qwen3-0.6b
//	go run ./bench/throughput -workload nano -requests 16
package main

import (
	"os"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/bench/internal/throughput"
)

func main() { os.Exit(suite.MainCommand(throughput.NewCommand(), os.Args[1:], os.Stdout, os.Stderr)) }
