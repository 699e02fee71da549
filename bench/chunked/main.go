// Command chunked measures prompts made of a system text, contexts and a question, under a cache that knows such chunks by
// their content, beside the same prompts under the standard cache.
//
//	go run ./bench/chunked
//	go run ./bench/chunked -mode independent
package main

import (
	"os"

	"github.com/quire-llm/quire/bench/internal/scripts"
	"github.com/quire-llm/quire/bench/internal/suite"
)

func main() { os.Exit(suite.Main(scripts.Chunked(), os.Args[1:], os.Stdout, os.Stderr)) }
