package kernels

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// kernelSets are the sets that this CPU can run, the best first; "go" is always the last.
func kernelSets() []kernelSet { return append(compiledSets(), goSet) }

// products is Info.Products.
func (s *kernelSet) products() string {
	if s.panelBytes == 2 {
		return "bf16"
	}
	return "f32"
}

// RoundsProducts says whether a CPU kernel set rounds the inputs of products to bfloat16.
func RoundsProducts(set string) bool { return set == "avx512bf16" }

// chooseKernelSet is the named set, or the best one for ""; with float32 among those that round nothing. reason says why it
// is "go".
func chooseKernelSet(name string, float32 bool) (set kernelSet, reason string, err error) {
	sets := kernelSets()
	if float32 {
		sets = slices.DeleteFunc(sets, func(s kernelSet) bool { return s.products() != "f32" })
	}
	if name == "" {
		if set = sets[0]; set.name == goSet.name {
			reason = whyNoCompiledSets
		}
		return set, reason, nil
	}
	var names []string
	for _, set := range sets {
		if set.name == name {
			if name == goSet.name {
				reason = "asked for"
			}
			return set, reason, nil
		}
		names = append(names, set.name)
	}
	return kernelSet{}, "", fmt.Errorf("kernels: opening device \"cpu\": no kernel set %q here; there are %s: %w",
		name, strings.Join(names, ", "), errors.ErrUnsupported)
}
