// Command receipt files what kernels/cuda/test-gpu.sh has written on a machine with a GPU: it appends receipt.json to
// kernels/cuda/TESTED.json, if all of it passed.
//
//	go run ./kernels/cuda/internal/receipt LOGS/receipt.json
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/quire-llm/quire/kernels/cuda/internal/build"
)

func main() {
	if err := file(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func file(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("receipt: got %d arguments, want the path of a receipt.json", len(args))
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var r build.Receipt
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("receipt: reading %q: %w", args[0], err)
	}
	return build.AddReceipt("kernels/cuda", r)
}
