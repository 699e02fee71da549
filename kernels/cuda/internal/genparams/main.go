// Command genparams writes the Go twins of the structs that kernels take, and checks of their layout for C and Go, from
// the headers params.h and *_params.h in the folder it runs in.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := generate("."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// generate reads and writes the files in dir.
func generate(dir string) error {
	var h header
	more, err := filepath.Glob(filepath.Join(dir, "*_params.h"))
	if err != nil {
		return err
	}
	for _, path := range append([]string{filepath.Join(dir, "params.h")}, more...) {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := h.parse(filepath.Base(path), string(text)); err != nil {
			return err
		}
	}
	structs, err := h.goFile()
	if err != nil {
		return fmt.Errorf("genparams: params_gen.go: %w", err)
	}
	test, err := h.goTest()
	if err != nil {
		return fmt.Errorf("genparams: params_gen_test.go: %w", err)
	}
	for name, text := range map[string][]byte{
		"params_gen.go":      structs,
		"params_gen_test.go": test,
		"layout_gen.h":       h.cHeader(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
