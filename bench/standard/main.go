// Command standard measures the standard KV cache: every sequence has its own keys and values and shares nothing. It is
// the baseline of the suite.
//
//	go run ./bench/standard
package main

import (
	"os"

	"github.com/quire-llm/quire/bench/internal/scripts"
	"github.com/quire-llm/quire/bench/internal/suite"
)

func main() { os.Exit(suite.Main(scripts.Standard(), os.Args[1:], os.Stdout, os.Stderr)) }
