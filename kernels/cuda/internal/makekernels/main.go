// Command makekernels compiles the CUDA sources in a folder to the images that are embedded in the program, and writes their
// manifest. With -check it compiles them and compares; where there is no compiler it says so and compares the manifest
// with the sources only.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"

	"github.com/quire-llm/quire/kernels/cuda"
	"github.com/quire-llm/quire/kernels/cuda/internal/build"
)

func main() {
	dir := flag.String("dir", "kernels/cuda", "folder of the sources")
	nvcc := flag.String("nvcc", "nvcc", "compiler, of CUDA "+build.Release)
	check := flag.Bool("check", false, "write nothing, fail if a new build differs")
	flag.Parse()
	run := install
	if *check {
		run = compare
	}
	if err := run(*dir, *nvcc); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// install compiles and writes.
func install(dir, nvcc string) error {
	compiler, err := build.FindCompiler(nvcc)
	if err != nil {
		return err
	}
	m, images, err := compiler.Make(dir)
	if err != nil {
		return err
	}
	for _, image := range m.Images {
		for _, k := range image.Outputs[0].Kernels {
			fmt.Printf("%-28s %3d registers %6d bytes shared %4d bytes spilled\n", k.Name, k.Registers, k.SharedBytes, k.SpillBytes)
		}
	}
	return build.Install(dir, m, images)
}

// compare compiles and compares.
func compare(dir, nvcc string) error {
	if err := build.Check(dir); err != nil {
		return err
	}
	receipts, err := build.Receipts(dir)
	if err != nil {
		return err
	}
	hash := cuda.ImagesHash()
	switch tested, finished := build.Tested(receipts, hash); {
	case finished:
		fmt.Printf("makekernels: images %.16s: %s has a receipt\n", hash, build.ReceiptsFile)
	case tested:
		fmt.Printf("makekernels: images %.16s: the tests that %s has a receipt of were not all finished\n", hash, build.ReceiptsFile)
	default:
		fmt.Printf("makekernels: images %.16s are shipped without a receipt in %s: no run of their tests on a GPU is on record\n", hash, build.ReceiptsFile)
	}
	compiler, err := build.FindCompiler(nvcc)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		fmt.Printf("makekernels: no %s here: the images agree with the manifest, but were not compiled again\n", nvcc)
		return nil
	}
	if err != nil {
		return err
	}
	now, _, err := compiler.Make(dir)
	if err != nil {
		return err
	}
	then, err := build.Read(dir)
	if err != nil {
		return err
	}
	a, err := json.Marshal(now)
	if err != nil {
		return err
	}
	b, err := json.Marshal(then)
	if err != nil {
		return err
	}
	if !bytes.Equal(a, b) {
		return fmt.Errorf("makekernels: a new build differs from %s: run make kernels", build.ManifestFile)
	}
	fmt.Printf("makekernels: %d images compiled again, the same bytes\n", len(now.Images))
	return nil
}
