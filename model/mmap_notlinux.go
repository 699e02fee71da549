//go:build unix && !linux

package model

// adviseLarge does nothing: other systems choose page sizes themselves.
func adviseLarge([]byte) {}

// dropPages does nothing: other systems drop pages when they need them.
func dropPages([]byte) {}
