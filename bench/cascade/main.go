// Command cascade measures prompts that begin alike, under a cache that finds what live sequences have in common, stores it
// once and computes it once, beside the same prompts under the standard cache.
//
//	go run ./bench/cascade
package main

import (
	"os"

	"github.com/quire-llm/quire/bench/internal/scripts"
	"github.com/quire-llm/quire/bench/internal/suite"
)

func main() { os.Exit(suite.Main(scripts.Cascade(), os.Args[1:], os.Stdout, os.Stderr)) }
