//go:build !unix

package model

import "os"

// Where there is no mmap, files are read whole and memory is the Go heap's.
func mapFile(path string) ([]byte, error) { return os.ReadFile(path) }

func reserve(n int) ([]byte, error) { return make([]byte, n), nil }

func unmap([]byte) error { return nil }

func dropPages([]byte) {}
