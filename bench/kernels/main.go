// Command kernels measures the device operations one by one, at the shapes of real models: time, bytes and operations a
// second, and what share of the machine's limit that is, measured just before and after. Each call meets other weights or another
// layer's keys and values than the one before, more than the last cache holds in all, as in a forward pass.
//
//	go run ./bench/kernels
//	go run ./bench/kernels -shapes qwen3-8b -ops qkv,decode -rows 1,64
package main

import (
	"os"

	"github.com/quire-llm/quire/bench/internal/operations"
	"github.com/quire-llm/quire/bench/internal/suite"
)

func main() { os.Exit(suite.MainCommand(operations.NewCommand(), os.Args[1:], os.Stdout, os.Stderr)) }
