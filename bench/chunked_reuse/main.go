// Command chunked_reuse measures batches that follow each other and draw from the same system texts and contexts, under a
// cache that keeps chunks from one batch to the next, beside the same batches under the standard cache.
//
//	go run ./bench/chunked_reuse
//	go run ./bench/chunked_reuse -mode independent
package main

import (
	"os"

	"github.com/quire-llm/quire/bench/internal/scripts"
	"github.com/quire-llm/quire/bench/internal/suite"
)

func main() { os.Exit(suite.Main(scripts.ChunkedReuse(), os.Args[1:], os.Stdout, os.Stderr)) }
