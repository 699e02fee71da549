//go:build unix && !linux

package model

// adviseLarge does nothing: other systems choose page sizes themselves.
func adviseLarge([]byte) {}
