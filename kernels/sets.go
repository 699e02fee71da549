package kernels

import (
	"errors"
	"fmt"
	"strings"
)

// kernelSets are the sets that this CPU can run, the best first; "go" is always the last.
func kernelSets() []kernelSet { return append(compiledSets(), goSet) }

// chooseKernelSet is the named set, or the best one for "". reason says why it is "go".
func chooseKernelSet(name string) (set kernelSet, reason string, err error) {
	sets := kernelSets()
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
