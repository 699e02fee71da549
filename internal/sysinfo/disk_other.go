//go:build !linux && !darwin

package sysinfo

import (
	"errors"
	"fmt"
)

// FreeBytes is not known on this system.
func FreeBytes(dir string) (int64, error) {
	return 0, fmt.Errorf("sysinfo: asking for the free space of %q: %w", dir, errors.ErrUnsupported)
}
