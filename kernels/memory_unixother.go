//go:build unix && !linux

package kernels

import "unsafe"

// adviseLarge does nothing: only Linux takes the hint.
func adviseLarge(unsafe.Pointer, int) {}
