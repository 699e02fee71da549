//go:build !linux && !darwin

package kernels

import "runtime"

// processorName is the architecture: nothing better is known.
func processorName() string { return runtime.GOARCH }

// machineMemory is not known.
func machineMemory() (total, available int64) { return 0, 0 }
